"""Rows that were asked for again of late, kept decoded.

What a payload says never changes: a row that was written has another one. So nothing here grows stale, and nothing is to be told of writes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from stockstore.mapped.columns import Anything, Json, Kind
from stockstore.mapped.rows import decode_documents

# Column values are of any type: the mapped class decides.
State = tuple[Any, ...]
_KEPT: Final = 1024
"""Rows after which those that nobody asks for any more begin to go: of a class at most twice as many are kept."""
_HEEDED: Final = 8 * _KEPT
"""Payloads of which it is remembered that they were seen once."""
_LONGEST: Final = 1024
"""The bytes of the longest payload that is kept."""
_encode: Final = msgspec.msgpack.Encoder().encode


class FamiliarRow(NamedTuple):
    """A row of which all but the changeable values can be shared by any number of instances.

    Attributes:
        values: The values by attribute, in the order of a state, behind what the dict had; ``None`` for a JSON document.
        key: What it stands under in an identity map.
        documents: The JSON documents in their order, encoded one after the other, for each instance is given its own.
    """

    values: dict[str, Any]
    key: tuple[Any, ...]
    documents: bytes


class Familiar:
    """The familiar rows of one class; safe to share between threads.

    Args:
        root: The class under which its instances stand in an identity map.
        attrs: The attributes of a state.
        primary_key: Those of the primary key.
        kinds: What is known of each attribute's values.
        values: Makes the dict for the values of a row.
    """

    def __init__(
        self,
        root: type,
        attrs: tuple[str, ...],
        primary_key: tuple[str, ...],
        kinds: Sequence[Kind],
        values: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._root, self._attrs, self._values = root, attrs, values
        self._identity = tuple([attrs.index(name) for name in primary_key])
        self._documents = documents_of(kinds)
        # Whether values of other types can be changed is not known.
        shareable = not any(isinstance(kind, Anything) for kind in kinds) and not {*self._documents}.intersection(self._identity)
        self._longest = _LONGEST if shareable else 0
        self._rows: dict[bytes, FamiliarRow] = {}
        self._older: dict[bytes, FamiliarRow] = {}
        self._seen: set[int] = set()
        self._found = self._paused = 0

    def find(self, payloads: Sequence[bytes]) -> list[FamiliarRow] | None:
        """Give the rows of payloads, ``None`` where one is not known."""
        rows = list(map(self._rows.get, payloads))
        if not all(rows) and self._older:
            rows = [self._renewed(payload) if row is None else row for payload, row in zip(payloads, rows, strict=True)]
        if not all(rows):
            return None
        self._found += len(rows)
        return rows  # type: ignore[return-value]

    def _renewed(self, payload: bytes) -> FamiliarRow | None:
        row = self._older.get(payload)
        if row is not None and len(self._rows) < _KEPT:
            self._rows[payload] = row
        return row

    def note(self, payloads: Sequence[bytes], states: Sequence[State]) -> None:
        """Take notice of payloads and what they say, and keep those that are seen for a second time.

        Where more rows are asked for again than are kept, and most go before they are of use, only now and then.
        """
        if self._paused:
            self._paused -= 1
            return
        if len(payloads) > _KEPT or max(map(len, payloads), default=0) > self._longest:
            return
        hashes = set(map(hash, payloads))
        again = hashes & self._seen
        for payload, state in zip(payloads, states, strict=True) if again else ():
            if hash(payload) in again and payload not in self._rows and len(self._rows) <= _KEPT:
                self._rows[payload] = self._row(state)
        if len(self._rows) > _KEPT:
            self._rows, self._older = {}, self._rows
            self._paused, self._found = _KEPT if self._found < _KEPT else 0, 0
        if len(self._seen) > _HEEDED:
            self._seen = set()
        self._seen |= hashes

    def _row(self, state: State) -> FamiliarRow:
        values = self._values()
        values.update(zip(self._attrs, state, strict=True))
        values.update(dict.fromkeys([self._attrs[at] for at in self._documents]))
        key = self._root, tuple([state[at] for at in self._identity]), None
        return FamiliarRow(values, key, b"".join([_encode(state[at]) for at in self._documents]))


def documents_of(kinds: Sequence[Kind]) -> tuple[int, ...]:
    """Give the positions of JSON documents."""
    return tuple([at for at, kind in enumerate(kinds) if isinstance(kind, Json)])


def documents_in(rows: Sequence[FamiliarRow], count: int) -> list[Any]:
    """Give the documents of rows that have so many each, new ones at each call."""
    return decode_documents(b"".join([row.documents for row in rows]), len(rows) * count)
