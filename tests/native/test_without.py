"""The library where nothing is compiled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from hatch_build import install

pytestmark = pytest.mark.sa_agnostic

ROOT = Path(__file__).parents[2]


def _run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_process_memory_in_python() -> None:
    """Does all that it does where it is compiled."""
    modules = [
        f"tests/stores/memory/test_{name}.py" for name in ("references", "misses", "several_names", "lifetimes", "counting", "bounds")
    ]
    assert " passed" in _run("-m", "pytest", "-q", "-p", "no:cacheprovider", *modules, STOCKSTORE_NO_EXTENSIONS="1")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of what a wheel is made of."""
    for name in ("stockstore", "stockstore_ext"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def _wheel(sources: Path, kind: str = "wheel", **environment: str) -> tuple[Path, str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", "made"]
    done = subprocess.run(command, cwd=sources, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    [wheel] = (sources / "made").iterdir()
    return wheel, done.stdout + done.stderr


def _native_names(wheel: Path) -> list[str]:
    return sorted(Path(name).name.split(".")[0] for name in ZipFile(wheel).namelist() if Path(name).suffix in (".so", ".c", ".h", ".pyd"))


def test_a_wheel_has_the_compiled_module(sources: Path) -> None:
    """For the platform that it was made on; its sources stay where they are."""
    wheel, _ = _wheel(sources)
    assert not wheel.name.endswith("none-any.whl")
    assert _native_names(wheel) == ["_compiled"]
    assert not list(sources.glob("stockstore/native/*.so"))


def test_without_a_compiler_a_wheel_is_for_every_platform(sources: Path) -> None:
    """One line says so, and the library works."""
    wheel, said = _wheel(sources, CC="/no/such/compiler")
    assert wheel.name.endswith("py3-none-any.whl")
    assert _native_names(wheel) == []
    assert "without its compiled part" in said
    shown = _run("-c", "from stockstore.native import Finder; print(Finder.__module__)", cwd=wheel.parent, PYTHONPATH=str(wheel))
    assert shown == "stockstore.native.plain\n"


def test_without_a_compiler_an_editable_installation_has_no_module_of_older_sources(sources: Path) -> None:
    """It may not fit these; so the one is removed that an earlier installation left."""
    _wheel(sources, "wheel:editable")
    assert len(list(sources.glob("stockstore/native/*.so"))) == 1
    shutil.rmtree(sources / "made")
    _, said = _wheel(sources, "wheel:editable", CC="/no/such/compiler")
    assert "without its compiled part" in said
    assert not list(sources.glob("stockstore/native/*.so"))


def test_sources_that_cannot_be_written_to_are_installed_without(tmp_path: Path) -> None:
    """An editable installation by a user whose they are not."""
    module, no_folder = tmp_path / "_compiled.so", tmp_path / "file"
    module.touch()
    no_folder.touch()
    assert install(module, no_folder) is install(None, no_folder) is None
