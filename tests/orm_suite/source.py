"""SQLAlchemy's own tests, of exactly the version that is installed."""

import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import sqlalchemy

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".cache"
"""What is fetched stays here; git does not track it."""
_NEWER: Final = re.compile(r"_py3(\d+)\.py$")


class NoSources(RuntimeError):
    """The sources are not here, and could not be fetched."""


def sources(cache: Path = CACHE) -> Path:
    """Give the folder of the source distribution, which pip fetches where it is not there yet.

    Raises:
        NoSources: It could not be fetched.
    """
    folder = cache / f"sqlalchemy-{sqlalchemy.__version__}"
    if not folder.exists():
        cache.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:
            unpacked = _unpack(_fetch(Path(made)), Path(made))
            if not folder.exists():  # by another run meanwhile
                unpacked.rename(folder)
    return folder


def _fetch(into: Path) -> Path:
    options = ["--disable-pip-version-check", "--no-deps", "--no-binary", "sqlalchemy", "--dest", str(into)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, f"sqlalchemy=={sqlalchemy.__version__}"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = next(into.glob("*.tar.gz"), None)
    if done.returncode or found is None:
        raise NoSources(f"pip could not fetch the sources of SQLAlchemy {sqlalchemy.__version__}:\n{done.stdout}{done.stderr}")
    return found


def _unpack(archive: Path, into: Path) -> Path:
    with tarfile.open(archive) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)
        packed.extractall(into / "unpacked")
    return next((into / "unpacked").iterdir())


def test_files(folder: Path) -> list[str]:
    """Give the files of the ORM's tests for this version of Python, as paths within the folder."""
    found = (path.relative_to(folder).as_posix() for path in folder.glob("test/orm/**/test_*.py"))
    return sorted(path for path in found if not (newer := _NEWER.search(path)) or int(newer[1]) <= sys.version_info[1])
