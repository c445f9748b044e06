"""Exact rows, read by the writer itself on its own connection before it commits."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from stockstore.mapped.plan import MappedPlan

Row = tuple[MappedPlan, tuple[Any, ...]]
"""A row's class and column state, as ``RowSnapshot`` takes them."""


def reread(connection: Connection, root: type, keys: Sequence[tuple[object, ...]]) -> list[Row]:
    """Give the rows of a hierarchy as the database will have them when the connection's transaction commits.

    To be called after the last statement. The rows are locked in all tables of the hierarchy, in the order of their keys, in one
    SELECT (per some thousands of keys). Rows that are gone are missing. No session is involved, and no event of one.

    Args:
        connection: The writer's.
        root: The root class, as ``Writes.by_root`` gives it.
        keys: The key values, as ``Writes.by_root`` gives them: in the order of the identity plan's ``names``.
    """
    raise NotImplementedError


def is_exact(connection: Connection, root: type) -> bool:
    """Whether a row read before COMMIT is the row after it: not where a table of the hierarchy has a deferred trigger."""
    raise NotImplementedError
