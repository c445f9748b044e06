"""What a flush writes."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Engine, Table, inspect
from sqlalchemy.orm import InstanceState, Mapper, Session, UOWTransaction

from stockstore.keys import keys_of
from stockstore.mapped import plan_of
from stockstore.mapped.flushes import Flushed, flushed_of
from stockstore.mapped.foreign_keys import Action, dependents
from stockstore.mapped.hydrate import identity_class
from stockstore.mapped.moves import joins_others
from stockstore.mapped.tables import Roots, has_shared_rows, replaces, roots_named, roots_of
from stockstore_ext.sqlalchemy.collect.cascades import note_deleted_along, roots_changed_along, roots_deleted_along
from stockstore_ext.sqlalchemy.collect.known import Concern
from stockstore_ext.sqlalchemy.collect.lists import note_moves
from stockstore_ext.sqlalchemy.collect.notes import Notes, wants
from stockstore_ext.sqlalchemy.collect.settings import DEFAULT, Collecting, WritesOf

_States = list[InstanceState[Any]]
Only: TypeAlias = Callable[[InstanceState[Any]], bool]
_ACTIONS: Final[tuple[Action, ...]] = ("ondelete", "onupdate")
_followed: Final[WeakKeyDictionary[Session, "WeakSet[InstanceState[Any]]"]] = WeakKeyDictionary()
"""The states of which it was looked up what the database deletes along with them."""


def before_flush(session: Session, writes_of: WritesOf, collecting: Collecting = DEFAULT) -> None:
    """Note the rows that the database itself is going to delete or change along with those that the flush deletes.

    To be called in ``before_flush``, after the application's own listeners where that can be had. May execute SELECTs on the connection of
    the flush, which lock the rows that are going to be deleted.
    """
    for mapper, states in _by_mapper(session.deleted).items():
        if roots_deleted_along(mapper):
            connection = session.connection(bind_arguments={"mapper": mapper})
            note_deleted_along(connection, mapper, states, Notes(writes_of(mapper), collecting), collecting.limit)
            _followed.setdefault(session, WeakSet()).update(states)


def _by_mapper(objects: Iterable[object]) -> dict[Mapper[Any], _States]:
    found: dict[Mapper[Any], _States] = {}
    for obj in objects:
        state: InstanceState[Any] = inspect(obj, raiseerr=True)
        found.setdefault(state.mapper, []).append(state)
    return found


def flushed(
    session: Session, flush_context: UOWTransaction, writes_of: WritesOf, collecting: Collecting = DEFAULT, *, only: Only | None = None
) -> None:
    """Note the identities, old and new, of the rows that a flush has written. To be called in ``after_flush``; emits no SQL.

    With ``only`` those rows alone of which it says so.
    """
    written = _written(flush_context, collecting, only)
    for mapper in written:
        writes_of(mapper).drop_tentative()
    followed = _followed.pop(session, frozenset[InstanceState[Any]]())
    for mapper, (rows, concern) in written.items():
        notes = Notes(writes_of(mapper), collecting)
        _note_rows(session, mapper, rows, notes, concern)
        if rows.former:
            notes.whole(roots_changed_along(mapper, [state for state in rows.changed if state.key is not None]))
        if any(state not in followed for state in rows.deleted):
            notes.whole(roots_deleted_along(mapper))


def _written(flush_context: UOWTransaction, collecting: Collecting, only: Only | None) -> dict[Mapper[Any], tuple[Flushed, Concern]]:
    """Give what a flush has changed and deleted, of those mappers whose rows any cache has to do with."""
    found = {}
    for mapper, flushed in flushed_of(flush_context).items():
        concern = _concern_of(mapper, collecting)
        if concern.any:
            written = _really_written(mapper, flushed, only)
            if written.changed or written.deleted:
                found[mapper] = written, concern
    return found


def _really_written(mapper: Mapper[Any], flushed: Flushed, only: Only | None) -> Flushed:
    if only is None and not flushed.former:
        return flushed
    names, deleted = plan_of(mapper.class_).attrs, flushed.deleted
    rows = [row for row in zip(flushed.changed, flushed.identities, strict=True) if row[0].key is None or _may_be_written(row[0], names)]
    if only is not None:
        rows, deleted = [row for row in rows if only(row[0])], [state for state in deleted if only(state)]
    return Flushed.of([state for state, _ in rows], [identity for _, identity in rows], deleted)


def _concern_of(mapper: Mapper[Any], collecting: Collecting) -> Concern:
    tables = sum(len(table.metadata.tables) for table in mapper.tables if isinstance(table, Table))
    return collecting.concerned.answer(mapper, lambda: _find_concern(mapper, collecting), tables)


def _find_concern(mapper: Mapper[Any], collecting: Collecting) -> Concern:
    names = {name for table in mapper.tables for action in _ACTIONS for name in dependents(table, action)}
    root, beside = identity_class(mapper), _roots_beside(mapper)
    return Concern(
        any=any(wants(each, collecting) for each in {root, *roots_named(names), *beside}),
        kept=wants(root, collecting),
        beside=bool(beside),
        replacing=any(replaces(table) for table in mapper.tables),
    )


def _roots_beside(mapper: Mapper[Any]) -> Roots:
    """Give the roots of whose rows others than the written ones may be changed."""
    roots = Roots().union(*(roots_of(table) for table in mapper.tables))
    return roots if has_shared_rows(mapper) else roots - {identity_class(mapper)}


def _may_be_written(state: InstanceState[Any], names: Sequence[str]) -> bool:
    """Whether a flush may have written a row that was there; not where an object was given the values that it had, or other children alone.

    Such a row is not to be locked: transactions that add children to the same parents would wait for one another.
    """
    mapper, values = state.mapper, state.dict
    if mapper.eager_defaults is True:
        return True
    # A column that was set to an SQL expression is not loaded any more.
    return any(_is_changed(state, name) or not (name in values or mapper.column_attrs[name].deferred) for name in names)


def _is_changed(state: InstanceState[Any], name: str) -> bool:
    """Whether an UPDATE sets an attribute, as SQLAlchemy decides it."""
    committed = state.committed_state
    if name not in committed:
        return False
    column_type = state.mapper.column_attrs[name].columns[0].type
    return name not in state.dict or column_type.compare_values(state.dict[name], committed[name]) is not True


def _note_rows(session: Session, mapper: Mapper[Any], rows: Flushed, notes: Notes, concern: Concern) -> None:
    root, (changed, identities, deleted, former) = identity_class(mapper), rows
    if concern.beside:
        notes.whole(_roots_beside(mapper))
    if concern.replacing and changed:
        notes.whole({root, *roots_deleted_along(mapper)})
    if concern.kept:
        now = [*filter(None, identities)]
        unknown = zip(changed, identities, strict=True) if len(now) < len(identities) else ()
        if any(state.key is None and identity is None for state, identity in unknown):
            notes.inserted([root])
        dialect_of = cache(lambda: _bind_of(session, mapper, (*changed, *deleted)).dialect)
        notes.given(root, dict.fromkeys((*former, *now)) if former else now, dialect_of)
        if mapper.polymorphic_on is not None and any(map(joins_others, changed)):
            notes.whole([root])
        if keys_of(mapper.class_).indexes and not notes.is_whole(root):
            note_moves(notes, root, changed, dialect_of, deleted=False)
            note_moves(notes, root, deleted, dialect_of, deleted=True)


def _bind_of(session: Session, mapper: Mapper[Any], states: Sequence[InstanceState[Any]]) -> Engine | Connection:
    # A sharded session asks the application for its database, which may know by a row alone.
    token = next((state.identity_token for state in states if state.identity_token is not None), None)
    return session.get_bind(mapper) if token is None else session.get_bind(mapper, shard_id=token)
