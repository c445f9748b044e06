"""Compiles ``stockstore/native`` at the installation where there is a C compiler; the library does without elsewhere."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("stockstore", "native")


class CompileHook(BuildHookInterface):
    """Adds the compiled module to wheels, and to the sources of an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile."""
        self._made = Path(mkdtemp())
        module = compiled(Path(self.root), self._made) if can_compile() else None
        if version == "editable":
            module = install(module, Path(self.root, NATIVE))
        if module is None:
            self.app.display_warning(
                "stockstore is installed without its compiled part; reads from process memory take two to three times as long"
            )
        elif version != "editable":
            build_data.update(pure_python=False, infer_tag=True)
            build_data["force_include"][str(module)] = str(NATIVE / module.name)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what stood beside it."""
        del version, build_data, artifact_path
        shutil.rmtree(self._made)


def can_compile() -> bool:
    """Whether this interpreter is one that the code in C is for: CPython with its lock."""
    return sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")


def compiled(root: Path, made: Path) -> Path | None:
    """Give the compiled module; ``None``, after a warning, where that failed."""
    from setuptools import Distribution, Extension

    sources = [str(path) for path in sorted(Path(root, NATIVE).glob("*.c"))]
    extension = Extension("_compiled", sources, include_dirs=[str(root / NATIVE)], optional=True)
    command = Distribution({"name": "stockstore", "ext_modules": [extension]}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(made)
    command.ensure_finalized()
    command.run()
    module = Path(command.get_ext_fullpath("_compiled"))
    return module if module.exists() else None


def install(module: Path | None, folder: Path) -> Path | None:
    """Put it in place of an older one, which may not fit the sources any more; ``None`` where there is none, or the folder is not to be written to."""
    place = folder / f"_compiled{sysconfig.get_config_var('EXT_SUFFIX')}"
    try:
        if module is None:
            place.unlink(missing_ok=True)
            return None
        # At once: a process may have the older one open.
        beside = folder / f".{place.name}.{os.getpid()}"
        shutil.copy(module, beside)
        return beside.replace(place)
    except OSError:
        return None
