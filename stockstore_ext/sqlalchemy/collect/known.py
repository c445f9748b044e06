"""What is found out about mappers and statements once, and not for each transaction."""

from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from stockstore.mapped.tables import mapping_version

A = TypeVar("A")


class Concern(NamedTuple):
    """What caches have to do with the rows of a mapper.

    Attributes:
        any: Whether they keep these, or others that stand in their tables or that the database changes along.
        kept: Whether they keep these themselves.
        beside: Whether other hierarchies have rows in the same tables.
        replacing: Whether a new value may make the database delete another row.
    """

    any: bool
    kept: bool
    beside: bool
    replacing: bool


class Known(Generic[A]):
    """Answers to one question about mappers or statements, each good until another class is mapped; keeps none of them."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._answers: WeakKeyDictionary[Any, tuple[Hashable, A]] = WeakKeyDictionary()

    def answer(self, subject: object, find: Callable[[], A], size: int = 0) -> A:
        """Give the answer about a subject, found out where it is not known.

        Args:
            subject: What can be referred to weakly.
            find: Finds it out.
            size: What the answer depends on besides.
        """
        # Asked for first: what is mapped meanwhile makes the answer a former one.
        stamp = mapping_version(), size
        known = self._answers.get(subject)
        if known is None or known[0] != stamp:
            known = self._answers[subject] = stamp, find()
        return known[1]

    def __len__(self) -> int:
        """Give the number of answers known."""
        return len(self._answers)
