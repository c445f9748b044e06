"""Reads of plain objects in process memory, and batches and commands to servers: compiled where a C compiler was at hand when the library was installed.

Elsewhere the same in Python stands in for it. ``STOCKSTORE_NO_EXTENSIONS`` in the environment, set to anything, leaves out what is compiled.
"""

import os

__all__ = ["Finder", "Reads", "Record", "numbered_texts", "pack_command", "rows_of"]

try:
    if os.environ.get("STOCKSTORE_NO_EXTENSIONS"):
        raise ImportError  # noqa: TRY301 - as where nothing was compiled
    from stockstore.native._compiled import Finder, Reads, Record, numbered_texts, pack_command, rows_of
except ImportError:
    from stockstore.native.plain import Finder, Reads, Record  # type: ignore[assignment]
    from stockstore.native.plain_batches import numbered_texts, rows_of
    from stockstore.native.plain_commands import pack_command
