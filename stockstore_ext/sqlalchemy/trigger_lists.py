"""Lists in the SQL of triggers: the keys of those that a statement's rows have come into or left."""

# ruff: noqa: S608 - DDL takes no parameters; names are quoted, and key texts have no quotes

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.orm import Mapper

from stockstore.keys import IndexPlan, keys_of
from stockstore.keys.prefixes import KEY_LIMIT, key_prefix
from stockstore.mapped.moves import telling_attributes
from stockstore.mapped.stored import keeps_lists
from stockstore_ext.sqlalchemy.collect.lists import indexes_below
from stockstore_ext.sqlalchemy.trigger_parts import column_of, part_of, single_percents

_INCOMPARABLE: Final = ("json", "xml")


class Listing(NamedTuple):
    """How the rows of a table name lists of one index.

    Attributes:
        plan: The index.
        columns: The columns of the primary key, of the index and of what tells the class of a row; none where this table does not have
            them all.
        parts: An SQL expression for each part of the list's key; none where only Python knows it.
    """

    plan: IndexPlan
    columns: tuple[str, ...]
    parts: tuple[str, ...]

    def texts(self, sources: Sequence[str], namespace: str) -> str:
        """Give the SELECT of the keys of lists; of an index that SQL cannot tell, of the class, where any row has moved."""
        whole = f"'{namespace}:{self.plan.label}:'"
        if not self.parts:
            return f"        SELECT {whole} AS key FROM ({self._moved(sources)}) AS moved"
        made = " || ':' || ".join(f"({part})" for part in self.parts)
        prefix = key_prefix("", self.plan.record_space).replace(":", namespace + ":", 1)
        return f"""        SELECT coalesce(CASE WHEN length(made) < {KEY_LIMIT} THEN made END, {whole}) AS key FROM (
            SELECT '{prefix}' || {made} AS made FROM ({self._moved(sources)}) AS moved) AS made"""

    def _moved(self, sources: Sequence[str]) -> str:
        """Give the rows that were not there, or not in the same lists, before or after."""
        names = ", ".join(f"{{source}}.{column} AS k{number}" for number, column in enumerate(self.columns)) or "1"
        rows = [f"SELECT {names.replace('{source}', source)} FROM {source}" for source in sources]
        if len(rows) == 1 or not self.columns:
            return " UNION ALL ".join(rows)
        old, new = rows
        return f"({old} EXCEPT ALL {new}) UNION ALL ({new} EXCEPT ALL {old})"


def listings(connection: Connection, root: type, table: Table, types: dict[str, str]) -> tuple[Listing, ...]:
    """Give the lists that the rows of a table may be in, of those that caches keep."""
    plans = [plan for plan in indexes_below(root) if keeps_lists(plan, connection.dialect)]
    return tuple(_listing(connection, plan, table, types) for plan in plans if table in inspect(plan.owner).tables)


def _listing(connection: Connection, plan: IndexPlan, table: Table, types: dict[str, str]) -> Listing:
    mapper: Mapper[Any] = inspect(plan.owner)
    keys = [column_of(mapper, name, table) for name in keys_of(plan.owner).identity.names]
    listed = [column_of(mapper, name, table) for name in plan.names]
    # By another discriminator a row comes into lists of a subclass.
    telling = [column_of(mapper, name, table) for name in telling_attributes(mapper)] if mapper.inherits else []
    columns = [column for column in (*keys, *listed, *telling) if column is not None]
    if len(columns) < len(keys) + len(listed) + len(telling) or any(types.get(column.name) in _INCOMPARABLE for column in columns):
        return Listing(plan, (), ())
    quote = connection.dialect.identifier_preparer.quote
    parts = [_part(column, f"k{len(keys) + number}", types) for number, column in enumerate(columns[len(keys) : len(keys) + len(listed)])]
    return Listing(plan, tuple(single_percents(quote(column.name), column.name) for column in columns), tuple(parts) if all(parts) else ())


def _part(column: Any, name: str, types: dict[str, str]) -> str:
    part = part_of(column, name, types.get(column.name, ""))
    return part and f"CASE WHEN {name} IS NULL THEN 'n' ELSE {part} END"
