"""Objects to rows: add or merge, delete, and what the session did along with it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from traceback import walk_tb
from typing import Any, NamedTuple

from sqlalchemy import Connection, event, inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.orm import InstanceState, Mapper, Session, UOWTransaction, make_transient_to_detached, object_session
from sqlalchemy.orm.attributes import set_committed_value

from stockstore.errors import CodecError, OriginError
from stockstore.keys import IndexPlan, ListLookup, Lookup, keys_of
from stockstore.mapped import UNLOADED, classes_beside, dependent_classes, flushed_states, plan_of
from stockstore.mapped.levels import may_refuse_locks
from stockstore.mapped.moves import joins_others, moves_of, places_of
from stockstore.mapped.reread import is_exact, may_be_skipped, reread
from stockstore.mapped.shown import first_line
from stockstore.mapped.stored import keeps_lists
from stockstore.mapped.tables import replaces
from stockstore.stores.outcome import BeforeCommit, Outcome, UnconfirmedError
from stockstore.stores.snapshots import RowSnapshot, Snapshot
from stockstore.stores.sql_copies import copy_into, former_key
from stockstore.stores.sql_reads import load, lookups_of_identities, values_read

GONE = 0.0
"""The lifetime of what is no longer there."""


class _Rows(NamedTuple):
    """What was read back: rows by the ids of their objects, and those that are exactly what will be committed."""

    of: dict[int, RowSnapshot]
    exact: list[RowSnapshot]


class Recorder:
    """What a session's flushes write and delete, by cascades too."""

    def __init__(self, session: Session) -> None:
        """Listen to one session."""
        self.written: dict[int, object] = {}
        self.deleted: dict[int, object] = {}
        self.former: dict[int, dict[str, object]] = {}
        self.moved: list[object] = []
        """Objects that other rows reference by a value that changes."""
        self.tables: dict[Mapper[Any], set[object]] = {}
        """What was written to, by the mappers of the rows."""
        self.lists = ListRecorder(session)
        event.listen(session, "after_flush", self._note)

    def _note(self, session: Session, context: UOWTransaction) -> None:  # noqa: ARG002 - as the event is called
        for state, deleted in flushed_states(context):
            obj = state.obj()
            (self.deleted if deleted else self.written)[id(obj)] = obj
            self.lists.note(state, deleted)
            self.tables.setdefault(state.mapper, set(state.mapper.tables)).update(_changed_secondaries(state, deleted))
            # At this event a row still has the identity that it had before the flush, and the history of its columns.
            if state.key is not None and not deleted:
                self.former[id(obj)] = former_key(obj)
                if _changes_a_referenced_column(obj):
                    self.moved.append(obj)


class ListRecorder:
    """The lists that a session's flushes change.

    Attributes:
        found: Those that are known, as keys.
        unknown: The classes of which others may have changed.
    """

    def __init__(self, session: Session) -> None:
        self.found: dict[ListLookup, None] = {}
        self.unknown: set[type] = set()
        self._dialect = session.get_bind().dialect
        self._placed: dict[int, dict[IndexPlan, tuple[Any, ...] | None]] = {}

    def note(self, state: InstanceState[Any], deleted: bool) -> None:
        """Note the lists that a row has left; where it is now is told by the row as it is read back."""
        if not deleted and joins_others(state):
            self.unknown.add(state.mapper.class_)
        for move in moves_of(state, deleted):
            if keeps_lists(move.plan, self._dialect):
                if move.old is not None:
                    self._add(move.plan, move.old)
                if not move.old_is_known:
                    self.unknown.add(move.plan.owner)
        if not deleted:
            places = {plan: values for plan, values in places_of(state) if keeps_lists(plan, self._dialect)}
            self._placed[id(state.obj())] = places

    def take(self, rows: Mapping[int, RowSnapshot]) -> None:
        """Note the lists that rows have come into, given as they were read back, by the ids of their objects."""
        for key, row in rows.items():
            for plan, former in self._placed.get(key, {}).items():
                # A base class's object that is put over a subclass's row makes it one of the base.
                values = row.values(plan.names) if plan in keys_of(row.cls).indexes else None
                if values is not None and (former is None or list(former) != values):
                    self._add(plan, tuple(values))
                elif values is None and former is None:
                    self.unknown.add(plan.owner)

    def _add(self, plan: IndexPlan, values: tuple[Any, ...]) -> None:
        try:
            self.found[ListLookup(plan, plan.native(values), ())] = None
        except CodecError:
            self.unknown.add(plan.owner)


def _changed_secondaries(state: InstanceState[Any], deleted: bool) -> Iterator[object]:
    for relation in state.mapper.relationships:
        written = relation.secondary is not None and not relation.viewonly
        if written and (deleted or (relation.key in state.dict and state.attrs[relation.key].history.has_changes())):
            yield relation.secondary


def _changes_a_referenced_column(obj: object) -> bool:
    state = inspect(obj, raiseerr=True)
    if not dependent_classes([state.mapper], "onupdate"):
        return False
    keys = {key for table in state.mapper.tables for other in table.metadata.tables.values() for key in other.foreign_keys}
    referenced = {key.target_fullname.rpartition(".")[2] for key in keys}
    changed = (prop for prop in state.mapper.column_attrs if prop.key in state.dict and state.attrs[prop.key].history.has_changes())
    return any(column.key in referenced or column.name in referenced for prop in changed for column in prop.columns)


def store(session: Session, objects: Sequence[object], before_commit: BeforeCommit | None) -> Outcome:
    """Write copies of objects, commit, and give their generated values back to the caller's objects."""
    recorder = Recorder(session)
    copies = copy_into(session, objects)
    _flush(session)
    targets = {id(copies[id(obj)].copy) for obj in objects}
    along = {id(c.copy): c.copy for c in copies.values()} | recorder.written
    others = [obj for key, obj in along.items() if key not in targets and key not in recorder.deleted]
    rows = _reread(session, [*(copies[id(obj)].copy for obj in objects), *others], recorder)
    recorder.lists.take(rows.of)
    outcome = _outcome([rows.of[id(copies[id(obj)].copy)] for obj in objects], [rows.of[id(obj)] for obj in others], rows.exact, recorder)
    _commit(session, outcome, before_commit)
    for given, copy in copies.values():
        if id(copy) in rows.of:
            _give_back(given, rows.of[id(copy)])
    return outcome


def _flush(session: Session) -> None:
    try:
        session.flush()
    except (TypeError, ValueError) as error:
        if not any(frame.f_code.co_name.startswith("do_execute") for frame, _ in walk_tb(error.__traceback__)):
            raise  # of a listener or a validator of the application
        # Of a driver that encodes values itself, as psycopg does JSON; what SQLAlchemy encodes is a StatementError already.
        raise StatementError(str(error), None, None, error) from error


def _outcome(targets: Sequence[Snapshot], others: Sequence[Snapshot], exact: Sequence[Snapshot], recorder: Recorder) -> Outcome:
    gone: list[Snapshot] = [_gone(obj) for obj in recorder.deleted.values()]
    swept = dependent_classes(_mappers(recorder.moved), "onupdate") | dependent_classes(_mappers(recorder.deleted.values()), "ondelete")
    beside = (classes_beside(mapper, tables) for mapper, tables in recorder.tables.items())
    replaced = {mapper for mapper in recorder.tables if any(replaces(table) for table in mapper.tables)}
    swept = swept.union(*beside, recorder.lists.unknown, (mapper.class_ for mapper in replaced), dependent_classes(replaced, "ondelete"))
    return Outcome(len(targets), list(targets), [*others, *gone], swept, exact, list(recorder.lists.found))


def _commit(session: Session, outcome: Outcome, before_commit: BeforeCommit | None) -> None:
    connection = session.connection()
    if before_commit is not None:
        before_commit(connection, outcome)
    try:
        session.commit()
    except SQLAlchemyError as error:
        _roll_back(connection)
        if _is_a_refusal(error):
            raise
        raise UnconfirmedError(f"the commit was not confirmed, and may have been done: {first_line(error)}") from error


def _roll_back(connection: Connection) -> None:
    """Make sure that what was refused is over: SQLite keeps the transaction open, and SQLAlchemy takes it for ended, and gives the connection to others."""
    if not connection.invalidated:
        with suppress(Exception):
            connection.dialect.do_rollback(connection.connection)


def _is_a_refusal(error: SQLAlchemyError) -> bool:
    """Whether the database has answered the COMMIT itself by an error, not a statement of somebody's hook after it."""
    return isinstance(error, DBAPIError) and not error.connection_invalidated and error.statement is None


def _mappers(objects: Iterable[object]) -> set[Mapper[Any]]:
    return {inspect(obj, raiseerr=True).mapper for obj in objects}


def _gone(obj: object) -> RowSnapshot:
    plan = plan_of(type(obj))
    return RowSnapshot(plan, plan.dehydrate(obj), GONE, former=former_key(obj))


def _reread(session: Session, objects: Sequence[object], recorder: Recorder) -> _Rows:
    """Give the rows as the database will have them: the object as put may differ by defaults, triggers and types."""
    by_root: dict[type, dict[int, object]] = {}
    for obj in objects:
        by_root.setdefault(plan_of(type(obj)).root, {})[id(obj)] = obj
    rows = _Rows({}, [])
    for root, group in by_root.items():
        found = _exact_rows(session.connection(), root, list(group.values()))
        rows.exact.extend(found.values())
        found.update(_loaded(session, [obj for key, obj in group.items() if key not in found]))
        for key, obj in group.items():
            rows.of[key] = found[key]
            rows.of[key].former = recorder.former.get(id(obj))
    return rows


def _exact_rows(connection: Connection, root: type, objects: Sequence[object]) -> dict[int, RowSnapshot]:
    """Give the rows that nobody else can change any more, by the ids of their objects."""
    identity = keys_of(root).identity
    # The parts of a row that stand in other tables this transaction may not have locked.
    if not is_exact(connection, root) or (may_be_skipped(root) and may_refuse_locks(connection)):
        return {}
    values = {id(obj): tuple([getattr(obj, name) for name in identity.names]) for obj in objects}
    with values_read():
        rows = {row.native(identity): row for row in (RowSnapshot(*found) for found in reread(connection, root, list(values.values())))}
    found = {key: rows.get(identity.native(value)) for key, value in values.items()}
    return {key: row for key, row in found.items() if row is not None}


def _loaded(session: Session, objects: Sequence[object]) -> dict[int, RowSnapshot]:
    """Give the rows that a re-read does not give: of odd mappings, and under keys equal by the database's rules alone."""
    by_class: dict[type, list[object]] = {}
    for obj in objects:
        by_class.setdefault(type(obj), []).append(obj)
    rows: dict[int, RowSnapshot] = {}
    unfound: list[tuple[object, Lookup]] = []
    for cls, group in by_class.items():
        lookups = lookups_of_identities(cls, group)
        for obj in group:
            session.expire(obj, [name for name in plan_of(cls).attrs if name in obj.__dict__])
        for obj, lookup, row in zip(group, lookups, load(session, cls, lookups), strict=True):
            if row is None:
                unfound.append((obj, lookup))
            else:
                rows[id(obj)] = _row(obj, row)
    # After all others: what they lead to may leave the session along with these.
    rows.update((id(obj), _row(obj, _of_another_class(session, obj, lookup))) for obj, lookup in unfound)
    return rows


def _of_another_class(session: Session, obj: object, lookup: Lookup) -> object | None:
    """Give the row that an expression, by what was written, no longer tells to be of its object's class."""
    if obj in session:
        session.expunge(obj)
    (row,) = load(session, plan_of(type(obj)).root, [lookup])
    return row


def _row(obj: object, row: object | None) -> RowSnapshot:
    if row is None:
        raise OriginError(f"the row of {obj!r} cannot be read back of its class; a trigger, a policy or its own discriminator hides it")
    plan = plan_of(type(row))
    return RowSnapshot(plan, plan.dehydrate(row))


def _give_back(obj: object, snapshot: Snapshot) -> None:
    """Set the stored column values on an object that belongs to no session, and give it the identity of its row."""
    if object_session(obj) is not None or not isinstance(snapshot, RowSnapshot):
        return
    state = inspect(obj, raiseerr=True)
    for name, value in zip(snapshot.plan.attrs, snapshot.state, strict=True):
        if value is not UNLOADED and name in state.mapper.class_manager:  # the row may be of a subclass
            set_committed_value(obj, name, value)
    if state.key is None:
        make_transient_to_detached(obj)
    else:
        state.key = state.mapper.identity_key_from_instance(obj)


def erase(session: Session, targets: Sequence[object], before_commit: BeforeCommit | None) -> Outcome:
    """Delete instances of the session with all that its cascades delete, and commit."""
    recorder = Recorder(session)
    for row in {id(row): row for row in targets}.values():
        session.delete(row)
    session.flush()
    changed = [obj for key, obj in recorder.written.items() if key not in recorder.deleted]
    rows = _reread(session, changed, recorder)
    recorder.lists.take(rows.of)
    outcome = _outcome([], list(rows.of.values()), rows.exact, recorder)
    _commit(session, outcome, before_commit)
    return replace(outcome, count=len({id(row) for row in targets}))
