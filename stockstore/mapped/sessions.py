"""What a session has written in its open transaction, and so must not be answered from a cache.

Importing this module listens once on all sessions: on the flush for the rows that it wrote, on ``session.execute`` for other
statements that write. Not seen are a statement that went past the session, on ``session.connection()``, and a write inside a SELECT,
by a trigger, a function or a common table expression; a hook that sees more of them notes them here.
"""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from itertools import repeat
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import event, inspect
from sqlalchemy.orm import Mapper, ORMExecuteState, Session, SessionTransaction, UOWTransaction
from sqlalchemy.sql.expression import Delete, Insert, Select, SelectBase, TableClause, UpdateBase

from stockstore.errors import ConfigurationError
from stockstore.mapped.flushes import Flushed, flushed_of
from stockstore.mapped.foreign_keys import Action, dependents
from stockstore.mapped.hydrate import identity_class, is_flushing
from stockstore.mapped.statements import dml_in, plain_table, reading_of, tables_beside, text_in, unwrapped
from stockstore.mapped.tables import has_shared_rows, roots_named, roots_of

_Row = tuple[type, tuple[Any, ...]]
Rule: TypeAlias = Callable[[Session, type], str]
OWN_WRITE: Final = "own write"
ELSEWHERE: Final = "scope"
"""The reason of sessions that work on other rows than the caches hold."""
TENANT: Final = "tenant"
"""The reason of sessions with a tenant, for all caches but those that keep its rows apart."""
TURNED: Final = "stockstore.foreign"
"""In the ``info`` of a connection: names may mean other tables there than the mapped ones, also in transactions to come."""
_NOTHING: Final = frozenset[str]()


class _Journal:
    """What one session wrote. Tables go by bare name: two of one name in two schemas are only read past the cache too often."""

    __slots__ = ("everything", "flushed", "roots", "rows", "tables")

    def __init__(self) -> None:
        self.everything = False
        self.roots: set[type] = set()
        self.rows: set[_Row] = set()
        self.tables: set[str] = set()
        self.flushed = False
        """Whether a flush told its rows and is yet to end its part of the transaction."""

    def holds(self, root: type, identity: tuple[Any, ...] | None) -> bool:
        if (
            self.everything
            or root in self.roots
            or (root, identity) in self.rows
            or (identity is None and any(row[0] is root for row in self.rows))
        ):
            return True
        return bool(self.tables) and not self.tables.isdisjoint(_tables_of(root))


_journals: Final[WeakKeyDictionary[Session, _Journal]] = WeakKeyDictionary()
_rules: Final[list[Rule]] = []


def bypasses(session: Session, root: type, identity: tuple[Any, ...] | None) -> str:
    """Tell why the session has to read this row from the database, such as that it may have changed it; ``""``: it need not.

    It may have when, in its open transaction, the session flushed a change of the row, used a bulk method, or executed a statement that
    wrote to a table of the hierarchy or that does not tell where it wrote (``text()``); and within a flush. A rolled back savepoint
    changes nothing about that; the end of the transaction does.

    Args:
        session: A session; of an ``AsyncSession`` its ``sync_session``.
        root: The class under which the row stands in an identity map.
        identity: The primary key values; None asks about any row of the root.
    """
    return OWN_WRITE if has_written(session, root, identity) else hides(session, root)


def has_written(session: Session, root: type, identity: tuple[Any, ...] | None) -> bool:
    """Whether the session may have changed a row, or any row of the root, in its open transaction."""
    if not isinstance(session, Session):
        raise ConfigurationError(
            f"session= takes a sqlalchemy.orm.Session, not {session!r}; of a scoped_session give scoped(), of an AsyncSession its sync_session"
        )
    if "shard_chooser" in vars(session):
        raise ConfigurationError(
            f"session= takes no session of horizontal shards, as {session!r} is: stores do not know of which shard an object is; "
            "use session.get(..., identity_token=...), which a SessionSync(shards=..., read_through=True) answers from its store"
        )
    return wrote(session, root, identity)


def wrote(session: Session, root: type, identity: tuple[Any, ...] | None) -> bool:
    """Do as ``has_written``, for what is known to be a session, of whatever sort."""
    if is_flushing(session):
        return True
    journal = _journals.get(session)
    return journal is not None and journal.holds(root, identity)


def hides(session: Session, root: type) -> str:
    """Tell why the session reads all rows of a root from the database; ``""``: it need not."""
    found = ""
    for rule in _rules:
        reason = rule(session, root)
        # That there is a tenant is no reason for every cache, so that any other one goes before it.
        if reason and reason != TENANT:
            return reason
        found = found or reason
    return found


def is_clean(session: Session) -> bool:
    """Whether the session has, as far as it is known, written nothing in its open transaction."""
    journal = _journals.get(session)
    return journal is None or not (journal.everything or journal.roots or journal.rows or journal.tables)


def note(session: Session, roots: Iterable[type]) -> None:
    """Note that the session may have written any row of these roots in its open transaction."""
    roots = set(roots)
    if roots:
        _journal(session).roots |= roots


def add_rule(rule: Rule) -> None:
    """Let a rule say why a session reads all rows of a root from the database, ``""`` where it need not."""
    _rules.append(rule)


def remove_rule(rule: Rule) -> None:
    """Forget a rule; one that is not there is none."""
    if rule in _rules:
        _rules.remove(rule)


def dependent_classes(mappers: Iterable[Mapper[Any]], action: Action) -> frozenset[type]:
    """Give the root classes of whose rows the database itself may change some when rows of these mappers are deleted or updated."""
    return roots_named({name for mapper in mappers for table in mapper.tables for name in dependents(table, action)})


def classes_beside(mapper: Mapper[Any], tables: AbstractSet[object]) -> frozenset[type]:
    """Give the root classes that have other rows than the written ones in these tables, of whatever registry: another than its own as a rule."""
    roots = frozenset[type]().union(*(roots_of(table) for table in tables if isinstance(table, TableClause)))
    return roots if has_shared_rows(mapper) else roots - {identity_class(mapper)}


def _journal(session: Session) -> _Journal:
    journal = _journals.get(session)
    if journal is None:
        journal = _journals[session] = _Journal()
    return journal


def _tables_of(root: type) -> set[str]:
    top: Mapper[Any] = inspect(root)
    return {str(getattr(table, "name", "")) for mapper in top.self_and_descendants for table in mapper.tables}


@event.listens_for(Session, "after_flush")
def _after_flush(session: Session, context: UOWTransaction) -> None:
    journal = _journal(session)
    journal.flushed = True
    for mapper, flushed in flushed_of(context).items():
        journal.rows.update(zip(repeat(identity_class(mapper)), _identities(mapper, flushed)))
        if flushed.changed:
            journal.tables |= _side_tables(mapper, "onupdate")
        if flushed.deleted:
            journal.tables |= _side_tables(mapper, "ondelete")


def _identities(mapper: Mapper[Any], flushed: Flushed) -> list[tuple[Any, ...]]:
    known = [*flushed.former, *filter(None, flushed.identities)]
    unknown = [state for state, identity in zip(flushed.changed, flushed.identities, strict=True) if identity is None]
    objects = [obj for state in unknown if (obj := state.obj()) is not None]
    return known + [mapper.identity_key_from_instance(obj)[1] for obj in objects]


def _side_tables(mapper: Mapper[Any], action: Action) -> frozenset[str]:
    """The tables that a flush of the mapper's rows may write beside their own: of many-to-many relationships, and dependents."""
    secondary = (plain_table(relationship.secondary) for relationship in mapper.relationships)
    return frozenset(table.name for table in secondary if table is not None).union(*(dependents(t, action) for t in mapper.tables))


@event.listens_for(Session, "after_transaction_end")
def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        _journals.pop(session, None)
    elif not transaction.nested:
        # The end of a flush, or of a bulk method, which writes as a flush does and tells nothing.
        journal = _journal(session)
        journal.everything |= not journal.flushed
        journal.flushed = False


@event.listens_for(Session, "do_orm_execute")
def _do_orm_execute(execution: ORMExecuteState) -> None:
    # Nearly all statements end here.
    if type(execution.statement) is not Select and (written := _written(execution.statement)) != _NOTHING:
        journal = _journal(execution.session)
        journal.everything |= written is None
        journal.tables |= written or _NOTHING


def _written(statement: object) -> frozenset[str] | None:
    """The names of the tables that a statement writes to; None where that cannot be told."""
    text = text_in(statement)
    if text is not None:
        return _NOTHING if reading_of(text).harmless else None
    inner = unwrapped(statement)
    if isinstance(inner, UpdateBase):
        return _targets(dml_in(inner))
    return _NOTHING if isinstance(inner, SelectBase) else None


def _targets(parts: Iterable[UpdateBase]) -> frozenset[str] | None:
    names: set[str] = set()
    for dml in parts:
        table = plain_table(dml.table)
        if table is None:
            return None
        names |= {each.name for each in (table, *tables_beside(dml))}
        if not isinstance(dml, Insert):
            names |= dependents(table, "ondelete" if isinstance(dml, Delete) else "onupdate")
    return frozenset(names)
