"""Objects to rows: add or merge, delete, and what the session did along with it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.orm import Mapper, Session, make_transient_to_detached, object_session
from sqlalchemy.orm.attributes import set_committed_value

from stockstore.errors import OriginError
from stockstore.keys import class_name, keys_of
from stockstore.mapped import UNLOADED, bypasses, dependent_classes, plan_of
from stockstore.stores.outcome import Outcome
from stockstore.stores.snapshots import RowSnapshot, Snapshot
from stockstore.stores.sql_reads import load, lookups_of_identities

GONE = 0.0
"""The lifetime of what is no longer there."""


class Recorder:
    """What a session's flushes write and delete, by cascades too."""

    def __init__(self, session: Session) -> None:
        """Listen to one session."""
        self.written: dict[int, object] = {}
        self.deleted: dict[int, object] = {}
        self.former: dict[int, dict[str, object]] = {}
        event.listen(session, "before_flush", self._before)
        event.listen(session, "after_flush", self._note)

    def _before(self, session: Session, _context: object, _instances: object) -> None:
        for obj in session.dirty:
            self.former[id(obj)] = former_key(obj)

    def _note(self, session: Session, _context: object) -> None:
        self.written.update((id(obj), obj) for obj in (*session.new, *(o for o in session.dirty if session.is_modified(o))))
        self.deleted.update((id(obj), obj) for obj in session.deleted)


def former_key(obj: object) -> dict[str, object]:
    """Give the primary key under which the database has an instance."""
    identity = inspect(obj, raiseerr=True).identity
    return dict(zip(keys_of(type(obj)).identity.declared, identity or (), strict=True))


def store(session: Session, objects: Sequence[object], before_commit: Callable[[list[Snapshot]], None] | None) -> Outcome:
    """Write copies of objects, commit, and give their generated values back to the caller's objects."""
    recorder = Recorder(session)
    copies = _copies(session, objects)
    session.flush()
    others = [obj for key, obj in recorder.written.items() if obj not in copies.values() and key not in recorder.deleted]
    rows = _reread(session, [*copies.values(), *others], recorder)
    outcome = _outcome([rows[id(copies[id(obj)])] for obj in objects], [rows[id(obj)] for obj in others], recorder)
    if before_commit is not None:
        before_commit([*outcome.snapshots, *outcome.others])
    session.commit()
    for obj in {id(obj): obj for obj in objects}.values():
        _give_back(obj, rows[id(copies[id(obj)])])
    return outcome


def _outcome(targets: list[Snapshot], others: list[Snapshot], recorder: Recorder) -> Outcome:
    gone: list[Snapshot] = [_gone(obj) for obj in recorder.deleted.values()]
    swept = dependent_classes(_mappers(recorder.written.values()), "onupdate") | dependent_classes(
        _mappers(recorder.deleted.values()), "ondelete"
    )
    return Outcome(len(targets), targets, others + gone, swept)


def _mappers(objects: Iterable[object]) -> set[Mapper[Any]]:
    return {inspect(obj, raiseerr=True).mapper for obj in objects}


def _gone(obj: object) -> RowSnapshot:
    plan = plan_of(type(obj))
    return RowSnapshot(plan, plan.dehydrate(obj), GONE, former=former_key(obj))


def _copies(session: Session, objects: Sequence[object]) -> dict[int, object]:
    """Give the session's own copy of each object: the rows that are there in one statement per class, the rest as new."""
    by_class: dict[type, dict[int, object]] = {}
    for obj in objects:
        _refuse_locked(obj)
        by_class.setdefault(type(obj), {})[id(obj)] = obj
    # The identity map is weak: the rows must live until they are merged into.
    present = [row for cls, group in by_class.items() for row in _present(session, cls, group.values())]
    copies = {id(obj): _copy(session, obj) for obj in objects}
    del present
    return copies


def _refuse_locked(obj: object) -> None:
    session, key = object_session(obj), inspect(obj, raiseerr=True).key
    if session is not None and key is not None and bypasses(session, key[0], key[1]):
        raise OriginError(
            f"the session of this {class_name(type(obj))} {key[1]!r} has uncommitted changes to its row, which put would wait for; commit them first"
        )


def _present(session: Session, cls: type, objects: Iterable[object]) -> list[object]:
    lookups = []
    for obj in objects:
        values = former_key(obj) if inspect(obj, raiseerr=True).identity else _primary_key(obj)
        if values is not None:
            lookups.append(keys_of(cls).lookup(values))
    return [row for row in load(session, cls, lookups) if row is not None]


def _primary_key(obj: object) -> dict[str, object] | None:
    names = keys_of(type(obj)).identity.declared
    values = {name: obj.__dict__.get(name) for name in names}
    return None if any(value is None or hasattr(value, "__clause_element__") for value in values.values()) else values


def _copy(session: Session, obj: object) -> object:
    state = inspect(obj, raiseerr=True)
    mapper = state.mapper
    key = state.key or mapper.identity_key_from_instance(obj)
    if key in session.identity_map or any(relation.key in obj.__dict__ for relation in mapper.relationships):
        return session.merge(obj)
    # Merging would ask the database once more for each row that is known not to be there.
    copy = mapper.class_manager.new_instance()
    for name in tuple(mapper.column_attrs.keys()):
        if name in obj.__dict__ and name in mapper.class_manager:
            setattr(copy, name, obj.__dict__[name])
    session.add(copy)
    return copy


def _reread(session: Session, objects: Sequence[object], recorder: Recorder) -> dict[int, Snapshot]:
    """Give the rows as the database now has them: the object as put may differ by defaults, triggers and types."""
    by_class: dict[type, list[object]] = {}
    for obj in {id(obj): obj for obj in objects}.values():
        by_class.setdefault(type(obj), []).append(obj)
    rows: dict[int, Snapshot] = {}
    for cls, group in by_class.items():
        lookups = lookups_of_identities(cls, group)
        for obj in group:
            session.expire(obj, [name for name in plan_of(cls).attrs if name in obj.__dict__])
        for obj, row in zip(group, load(session, cls, lookups), strict=True):
            rows[id(obj)] = _row(obj, row, recorder)
    return rows


def _row(obj: object, row: object | None, recorder: Recorder) -> Snapshot:
    if row is None:
        raise OriginError(f"the row of {obj!r} cannot be read back; a trigger or a policy of the database hides it")
    plan = plan_of(type(row))
    return RowSnapshot(plan, plan.dehydrate(row), former=recorder.former.get(id(obj)))


def _give_back(obj: object, snapshot: Snapshot) -> None:
    """Set the stored column values on an object that belongs to no session, and give it the identity of its row."""
    if object_session(obj) is not None or not isinstance(snapshot, RowSnapshot):
        return
    for name, value in zip(snapshot.plan.attrs, snapshot.state, strict=True):
        if value is not UNLOADED:
            set_committed_value(obj, name, value)
    state = inspect(obj, raiseerr=True)
    if state.key is None:
        make_transient_to_detached(obj)
    else:
        state.key = state.mapper.identity_key_from_instance(obj)


def erase(session: Session, rows: Sequence[object]) -> Outcome:
    """Delete instances of the session with all that its cascades delete, and commit."""
    recorder = Recorder(session)
    for row in {id(row): row for row in rows}.values():
        session.delete(row)
    session.flush()
    changed = [obj for key, obj in recorder.written.items() if key not in recorder.deleted]
    snapshots = list(_reread(session, changed, recorder).values())
    outcome = _outcome([], snapshots, recorder)
    session.commit()
    return replace(outcome, count=len({id(row) for row in rows}))
