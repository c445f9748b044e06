"""How much is found out about what a session writes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy.orm import Mapper

from stockstore.coherence.protocol import Writes
from stockstore_ext.sqlalchemy.collect.known import Concern, Known

Policy: TypeAlias = Literal["invalidate", "warn", "raise"]
"""What becomes of raw SQL that does not tell what it writes."""

WritesOf: TypeAlias = Callable[[Mapper[Any]], Writes]
"""Gives where the writes of a mapper's rows are noted: those of the connection that the session uses for it."""


def _every(_root: type) -> bool:
    return True


@dataclass(frozen=True)
class Collecting:
    """The settings of collecting.

    Attributes:
        holds: Whether any cache keeps objects of a hierarchy, given its root class; others are not noted.
        limit: Up to how many rows of one statement are noted one by one; above that the class is.
        policy: What becomes of raw SQL that does not tell what it writes: its transaction counts as having written every class
            (``"invalidate"``), and that is logged (``"warn"``), or it is refused before it runs (``"raise"``).
        concerned: What caches have to do with the rows of a mapper, as far as that is known.
        idle: Whether caches have nothing to do with what a statement writes, as far as that is known.
    """

    holds: Callable[[type], bool] = _every
    limit: int = 1000
    policy: Policy = "invalidate"
    concerned: Known[Concern] = field(default_factory=Known, init=False, repr=False, compare=False)
    idle: Known[bool] = field(default_factory=Known, init=False, repr=False, compare=False)


DEFAULT: Final = Collecting()
