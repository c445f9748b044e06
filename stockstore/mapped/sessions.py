"""What a session has written in its open transaction, and so must not be answered from a cache.

Importing this module listens once on all sessions and engines: on the flush for the rows that it wrote, and on the statements of a
session's connections for everything else (``session.execute``, the bulk methods, ``session.connection()``). Not seen are writes by
a trigger or by a function that a SELECT calls.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary, ref

from sqlalchemy import Connection, Engine, ForeignKey, Table, event, inspect
from sqlalchemy.engine.interfaces import ExecutionContext
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.orm import FromStatement, InstanceState, Mapper, Session, SessionTransaction, UOWTransaction
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import Alias, Delete, Insert, Select, TableClause, TextClause, TextualSelect, UpdateBase

from stockstore.mapped.hydrate import flushed_states

_Row = tuple[type, tuple[Any, ...]]
Action = Literal["ondelete", "onupdate"]
_HARMLESS: Final = re.compile(r"\s*(select|set|show|pragma)\b[^;(]*", re.IGNORECASE)
_INERT: Final = frozenset(("", "NO ACTION", "RESTRICT"))


class _Journal:
    """What one session wrote. Tables go by bare name: two of one name in two schemas are only read past the cache too often."""

    __slots__ = ("everything", "flushing", "rows", "tables")

    def __init__(self) -> None:
        self.everything = False
        self.rows: set[_Row] = set()
        self.tables: set[str] = set()
        self.flushing: set[str] | None = None
        """Tables written by a flush that has not told its rows yet."""

    def holds(self, root: type, identity: tuple[Any, ...] | None) -> bool:
        if self.everything or (root, identity) in self.rows or (identity is None and any(row[0] is root for row in self.rows)):
            return True
        written = self.tables | self.flushing if self.flushing else self.tables
        return bool(written) and not written.isdisjoint(_tables_of(root))


_journals: Final[WeakKeyDictionary[Session, _Journal]] = WeakKeyDictionary()
# Two sessions may share a connection, and with it one transaction.
_users: Final[WeakKeyDictionary[Connection, tuple[ref[Session], ...]]] = WeakKeyDictionary()
_cascades: Final[WeakKeyDictionary[Table, dict[str, frozenset[str]]]] = WeakKeyDictionary()


def bypasses(session: Session, root: type, identity: tuple[Any, ...] | None) -> bool:
    """Tell whether the session has to read this row from the database, because it may have changed it.

    True when, in its open transaction, the session flushed a change of the row, or ran another statement that wrote to a table of
    the hierarchy or that does not tell where it wrote (``text()``). A rolled back savepoint changes nothing about that; the end of
    the transaction does.

    Args:
        session: A session; of an ``AsyncSession`` its ``sync_session``.
        root: The class under which the row stands in an identity map.
        identity: The primary key values; None asks about any row of the root.
    """
    journal = _journals.get(session)
    return journal is not None and journal.holds(root, identity)


def dependent_classes(mappers: Iterable[Mapper[Any]], action: Action) -> frozenset[type]:
    """Give the mapped classes of whose rows the database itself may change some when rows of these mappers are deleted or updated."""
    found: set[type] = set()
    for mapper in mappers:
        names = frozenset[str]().union(*(_dependents(table, action) for table in mapper.tables))
        if names:
            found.update(
                other.class_ for other in mapper.registry.mappers if names & {str(getattr(table, "name", "")) for table in other.tables}
            )
    return frozenset(found)


def _journal(session: Session) -> _Journal:
    journal = _journals.get(session)
    if journal is None:
        journal = _journals[session] = _Journal()
    return journal


def _tables_of(root: type) -> set[str]:
    top: Mapper[Any] = inspect(root)
    return {str(getattr(table, "name", "")) for mapper in top.self_and_descendants for table in mapper.tables}


@event.listens_for(Session, "after_begin")
def _after_begin(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    users = _users.get(connection, ())
    if not any(user() is session for user in users):
        _users[connection] = (*users, ref(session))


@event.listens_for(Session, "before_flush")
def _before_flush(session: Session, _context: UOWTransaction, _instances: object) -> None:
    _journal(session).flushing = set()


@event.listens_for(Session, "after_flush")
def _after_flush(session: Session, context: UOWTransaction) -> None:
    journal = _journal(session)
    written, journal.flushing = journal.flushing or set(), None
    for state, deleted in flushed_states(context):
        journal.rows.update(_rows(state))
        for table in state.mapper.tables:
            written.discard(str(getattr(table, "name", "")))
            journal.tables |= _dependents(table, "ondelete" if deleted else "onupdate")
    journal.tables |= written  # by a listener, or the table of a many-to-many relationship


def _rows(state: InstanceState[Any]) -> Iterator[_Row]:
    if state.key is not None:
        yield state.key[0], state.key[1]
    obj = state.obj()
    if obj is not None:
        # A new row has no key before the end of the flush, a changed primary key not yet the new one.
        root, identity, _ = state.mapper.identity_key_from_instance(obj)
        yield root, identity


@event.listens_for(Session, "after_transaction_end")
def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        _journals.pop(session, None)
    elif not transaction.nested and (journal := _journals.get(session)) is not None:
        journal.flushing = None  # the flush is over, perhaps by an error


@event.listens_for(Engine, "before_cursor_execute", retval=True)
def _before_cursor_execute(
    connection: Connection, _cursor: object, statement: str, parameters: Any, context: ExecutionContext | None, _many: bool
) -> tuple[str, Any]:
    compiled: Any = getattr(context, "compiled", None)
    # Most statements end here: the listener hears every statement of the program.
    if compiled is None or type(compiled.statement) is not Select or compiled.ctes:
        users = _users.get(connection)
        if users and (written := _written(statement, compiled)) != frozenset():
            _note([session for user in users if (session := user()) is not None and session.in_transaction()], written)
    return statement, parameters


def _note(sessions: list[Session], written: frozenset[str] | None) -> None:
    for journal in map(_journal, sessions):
        if written is None:
            journal.everything = True
        else:
            (journal.tables if journal.flushing is None else journal.flushing).update(written)


def _written(statement: str, compiled: object) -> frozenset[str] | None:
    """The names of the tables that a statement writes to; None where that cannot be told."""
    if isinstance(compiled, SQLCompiler):
        parts = [_inner(compiled.statement), *(_inner(cte.element) for cte in compiled.ctes or ())]
        if not any(isinstance(part, TextClause | TextualSelect) for part in parts):
            return _targets(part for part in parts if isinstance(part, UpdateBase))
    return frozenset() if _HARMLESS.fullmatch(statement) else None


def _inner(part: object) -> object:
    return part.element if isinstance(part, FromStatement) else part


def _targets(parts: Iterable[UpdateBase]) -> frozenset[str] | None:
    names: set[str] = set()
    for dml in parts:
        table = _plain_table(dml.table)
        if table is None:
            return None
        names.add(table.name)
        if not isinstance(dml, Insert):
            names |= _dependents(table, "ondelete" if isinstance(dml, Delete) else "onupdate")
    return frozenset(names)


def _plain_table(selectable: object) -> TableClause | None:
    element = selectable.element if isinstance(selectable, Alias) else selectable
    return element if isinstance(element, TableClause) else None


def _dependents(table: object, action: Action) -> frozenset[str]:
    """The tables whose rows the database itself changes along with rows of this one."""
    if not isinstance(table, Table):
        return frozenset()
    known = _cascades.setdefault(table, {})
    if action not in known:
        found: set[str] = set()
        _collect(table, action, found)
        known[action] = frozenset(found)
    return known[action]


def _collect(table: Table, action: Action, found: set[str]) -> None:
    for other in table.metadata.tables.values():
        if other.name not in found and any(_acts(key, table, action) for key in other.foreign_keys):
            found.add(other.name)
            _collect(other, action, found)


def _acts(key: ForeignKey, table: Table, action: Action) -> bool:
    if (getattr(key, action) or "").upper() in _INERT:
        return False
    try:
        return key.column.table.key == table.key  # a statement may carry an annotated copy of the table
    except NoReferenceError:  # to a table that this program does not know
        return False
