"""Reads of plain objects in process memory: compiled where a C compiler was at hand when the library was installed, in Python elsewhere.

Both do the same. ``STOCKSTORE_NO_EXTENSIONS`` in the environment, set to anything, leaves out what is compiled.
"""

import os

__all__ = ["Finder", "Reads", "Record"]

try:
    if os.environ.get("STOCKSTORE_NO_EXTENSIONS"):
        raise ImportError  # noqa: TRY301 - as where nothing was compiled
    from stockstore.native._compiled import Finder, Reads, Record
except ImportError:
    from stockstore.native.plain import Finder, Reads, Record  # type: ignore[assignment]
