"""The messages of a cluster's writers as they come from all nodes: which are copies, and which are missing."""

import re
from collections import OrderedDict, deque
from typing import Final, TypeVar

T = TypeVar("T")
is_name: Final = re.compile(rb".+\.\d{1,18}").fullmatch
"""Whether a message is named as writers name them; anybody may publish others."""
_REMEMBERED: Final = 10_000
"""Messages, and writers; a copy of what was forgotten is told of once more."""
_GAP: Final = 1000
"""Missing messages of one writer that are told apart; what is more is as bad."""


class Streams:
    """Messages named ``"writer.number"``: each comes from every node, in any order."""

    def __init__(self) -> None:
        """Have heard nothing; of a writer who is not known, what he has said before is not missed."""
        self._heard: OrderedDict[bytes, None] = OrderedDict()
        self._last: OrderedDict[bytes, int] = OrderedDict()
        self._missing: set[tuple[bytes, int]] = set()
        self._asked: deque[frozenset[tuple[bytes, int]]] = deque()

    def is_new(self, name: bytes) -> bool:
        """Whether a message has not come before; :func:`is_name` says whether it may be asked for."""
        if name in self._heard:
            return False
        _remember(self._heard, name, None)
        writer, _, digits = name.rpartition(b".")
        number = int(digits)
        last = self._last.pop(writer, number - 1)
        self._missing.update((writer, between) for between in range(max(last + 1, number - _GAP), number))
        self._missing.discard((writer, number))
        _remember(self._last, writer, max(last, number))
        return True

    def ask(self) -> None:
        """Begin a beat: what is missing now was published, if it was, before it."""
        self._asked.append(frozenset(self._missing))

    def answered(self) -> bool:
        """End the oldest beat, and say whether all that was missing when it began has come."""
        lost = self._asked.popleft() & self._missing
        self._missing -= lost
        return not lost


def _remember(known: "OrderedDict[bytes, T]", key: bytes, value: T) -> None:
    known[key] = value
    if len(known) > _REMEMBERED:
        known.popitem(last=False)
