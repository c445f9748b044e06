"""What is compiled, and the same in Python."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from stockstore.native import _compiled, plain
from stockstore.native.keys import FinderKey, finder_key


class Kind(NamedTuple):
    """One of both."""

    Finder: Any
    Reads: Any
    Record: Any


PLAIN: Final = Kind(plain.Finder, plain.Reads, plain.Record)
COMPILED: Final = Kind(_compiled.Finder, _compiled.Reads, _compiled.Record)


class Seat:
    """An object with a number, a name, and a row and column that are a key together."""

    def __init__(self, number: Any, name: Any = None, row: Any = None, column: Any = None) -> None:
        """Take any values."""
        self.number, self.name, self.row, self.column = number, name, row, column


class Shelf:
    """Records of one kind, found by the keys of seats; what was missed is noted."""

    def __init__(
        self, kind: Kind, names: tuple[tuple[str, ...], ...] = (("number",), ("name",), ("row", "column")), **options: Any
    ) -> None:
        """Start empty."""
        self.kind = kind
        self.missed: list[Any] = []
        self.keys = tuple(finder_key(key, {}, {"key", "session", "strict"}) for key in names)
        self.clock: Callable[[], float] = options.pop("clock", lambda: 0.0)
        self.reads = type("Store", (kind.Reads,), {"_get_longer": lambda _, *given, **named: ("longer", given, named)})()
        self.finder = kind.Finder(
            self.keys, options.pop("absent", self.missed.append), self.clock, options.pop("contact", None), options.pop("expiring", False)
        )
        self.reads._finders[Seat] = self.finder

    def keep(self, obj: Any, expires: float = 1.0) -> Any:
        """Put an object under all its keys, and give its record."""
        record = type("Node", (self.kind.Record,), {"__slots__": ()})()
        record.value, record.expires, record.hits = obj, expires, 0
        for key in self.keys:
            key.records[_native(key, obj)] = record
        return record

    def get(self, *given: Any, **named: Any) -> Any:
        """Ask the reads."""
        return self.reads.get(*given, **named)


def _native(key: FinderKey, obj: Any) -> Any:
    values = [getattr(obj, key.names[place]) for place in key.places]
    return values[0] if len(values) == 1 else tuple(values)
