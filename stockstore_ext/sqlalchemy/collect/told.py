"""Statements of which somebody tells what they write."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from sqlalchemy import Dialect

from stockstore.coherence.protocol import Writes
from stockstore_ext.sqlalchemy.collect.notes import Notes
from stockstore_ext.sqlalchemy.collect.settings import Collecting

How: TypeAlias = Callable[[Notes, Dialect], None]

TOLD: Final = "stockstore_told"
"""The execution option of such statements: those who tell, or True where there is nothing to be told."""


class Told:
    """What one hook tells about one statement, noted on every connection that executes it.

    Which these are is decided at the last moment: by a ``get_bind`` of the application's, or by another listener.
    """

    def __init__(self, collecting: Collecting) -> None:
        """Tell nothing yet."""
        self.collecting = collecting
        self._hows: list[How] = []
        self._reached: list[tuple[Notes, Dialect]] = []

    def note(self, how: How) -> None:
        """Note where the statement has been executed, and where it will be."""
        self._hows.append(how)
        for notes, dialect in self._reached:
            how(notes, dialect)

    def reach(self, writes: Writes, dialect: Dialect) -> None:
        """Note with the writes of a connection that is about to execute the statement."""
        notes = Notes(writes, self.collecting)
        self._reached.append((notes, dialect))
        for how in self._hows:
            how(notes, dialect)


def tellers(options: Mapping[str, Any]) -> tuple[Told, ...]:
    """Give those who tell about a statement of these execution options."""
    told = options.get(TOLD, ())
    return told if isinstance(told, tuple) else ()


def is_told(options: Mapping[str, Any], collecting: Collecting, writes: Writes, dialect: Dialect) -> bool:
    """Whether a hook need not look at a statement itself; has what it told before be noted."""
    own = [told for told in tellers(options) if told.collecting is collecting]
    for told in own:
        told.reach(writes, dialect)
    return bool(own) or options.get(TOLD) is True
