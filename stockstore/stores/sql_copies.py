"""The caller's objects to instances of the store's own session: the caller's session is never written to, nor waited for."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import inspect
from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session, object_session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.collections import KeyFuncDict, collection_adapter
from sqlalchemy.util import duck_type_collection

from stockstore.errors import CodecError, OriginError
from stockstore.keys import class_name, keys_of
from stockstore.mapped import has_written
from stockstore.stores.sql_reads import load

_UNLOADABLE: Final = frozenset(("dynamic", "write_only"))
"""Relationships whose collection is never in memory, only what was added and removed."""


class Copy(NamedTuple):
    """An object as given, and the session's instance that stands for it."""

    given: object
    copy: object


def copy_into(session: Session, objects: Sequence[object]) -> dict[int, Copy]:
    """Copy objects, and all that their loaded relationships merge along with them, into a session; by the ids of the given.

    As ``session.merge`` does, but the rows that are there are read in one statement per class, and it is known which copy is whose.
    """
    given = _reachable(objects)
    for obj in given.values():
        _refuse_locked(obj)
    rows = _present(session, given.values())
    new: dict[object, object] = {}
    copies = {key: Copy(obj, _copy(session, obj, rows.get(key), new)) for key, obj in given.items()}
    for copy in copies.values():
        _relate(copy, copies)
    return copies


def former_key(obj: object) -> dict[str, object]:
    """Give the primary key under which the database has an instance."""
    identity = inspect(obj, raiseerr=True).identity
    return dict(zip(keys_of(type(obj)).identity.declared, identity or (), strict=True))


def _reachable(objects: Iterable[object]) -> dict[int, object]:
    found: dict[int, object] = {}
    waiting = list(objects)[::-1]
    while waiting:
        obj = waiting.pop()
        if id(obj) not in found:
            found[id(obj)] = obj
            waiting += [member for relation in _merged_relations(obj) for member in _members(obj, relation)]
    return found


def _merged_relations(obj: object) -> Iterator[RelationshipProperty[Any]]:
    relations = inspect(obj, raiseerr=True).mapper.relationships
    return (r for r in relations if r.cascade.merge and not r.viewonly and r.key in obj.__dict__)


def _members(obj: object, relation: RelationshipProperty[Any]) -> list[object]:
    value = obj.__dict__[relation.key]
    if relation.lazy in _UNLOADABLE:
        history = inspect(obj, raiseerr=True).attrs[relation.key].history
        return [*history.added, *history.deleted]
    if relation.uselist:
        return list(collection_adapter(value))
    return [] if value is None else [value]


def _refuse_locked(obj: object) -> None:
    session, key = object_session(obj), inspect(obj, raiseerr=True).key
    if session is not None and key is not None and has_written(session, key[0], key[1]):
        raise OriginError(
            f"the session of this {class_name(type(obj))} {key[1]!r} has uncommitted changes to its row, which put would wait for; commit them first"
        )


def _present(session: Session, objects: Iterable[object]) -> dict[int, object]:
    """Give the rows that the database has for objects; the identity map is weak, so the caller holds on to them."""
    by_class: dict[type, dict[int, dict[str, object]]] = {}
    for obj in objects:
        values = former_key(obj) if inspect(obj, raiseerr=True).identity else _primary_key(obj)
        if values is not None:
            by_class.setdefault(type(obj), {})[id(obj)] = values
    found: dict[int, object] = {}
    for cls, group in by_class.items():
        rows = load(session, cls, [keys_of(cls).lookup(values) for values in group.values()])
        found.update((key, row) for key, row in zip(group, rows, strict=True) if row is not None)
    return found


def _primary_key(obj: object) -> dict[str, object] | None:
    names = keys_of(type(obj)).identity.declared
    values = {name: obj.__dict__.get(name) for name in names}
    return None if any(value is None or hasattr(value, "__clause_element__") for value in values.values()) else values


def _copy(session: Session, obj: object, row: object | None, new: dict[object, object]) -> object:
    if row is not None and type(row) is type(obj) and inspect(row, raiseerr=True).identity == _identity(obj):
        return session.merge(_columns_alone(obj))
    if row is None:
        place = (type(obj), _identity(obj))
        row = new.get(place)
        if row is None:
            row = inspect(obj, raiseerr=True).mapper.class_manager.new_instance()
            session.add(row)
            if place[1] is not None:
                new[place] = row
    else:
        _refuse_other_tables(obj, row)
    # New, or equal by the database's rules alone: merging would not find it.
    for name in _columns(obj):
        setattr(row, name, obj.__dict__[name])
    return row


def _refuse_other_tables(obj: object, row: object) -> None:
    # A row of a subclass would be left in halves that no class can read, or one of a concrete subclass be written in its place.
    mine, theirs = inspect(obj, raiseerr=True).mapper, inspect(row, raiseerr=True).mapper
    if not set(mine.tables).issuperset(theirs.tables) and not _keeps_its_class(obj, mine, theirs):
        raise OriginError(
            f"the row {_identity(obj)!r} of this {class_name(type(obj))} is one of {class_name(type(row))}, which has a table of its own; "
            "put an object of that class, or delete the row first"
        )


def _keeps_its_class(obj: object, mine: Mapper[Any], subclass: Mapper[Any]) -> bool:
    """Whether a row that is one of the subclass stays so under an object of a base: by the discriminator that it is given."""
    discriminator = mine.polymorphic_on
    if discriminator is None or not set(subclass.tables).issuperset(mine.tables):
        return False
    return obj.__dict__.get(mine.get_property_by_column(discriminator).key) == subclass.polymorphic_identity


def _identity(obj: object) -> tuple[Any, ...] | None:
    state: InstanceState[Any] = inspect(obj, raiseerr=True)
    if state.identity is not None:
        return state.identity
    values = _primary_key(obj)
    return None if values is None else tuple([_hashable(obj, value) for value in values.values()])


def _hashable(obj: object, value: object) -> object:
    if not isinstance(value, Hashable):
        raise CodecError(f"a primary key of {class_name(type(obj))} cannot be {value!r}, which may change; give bytes, for example")
    return value


def _columns(obj: object) -> Iterator[str]:
    mapper = inspect(obj, raiseerr=True).mapper
    return (name for name in tuple(mapper.column_attrs.keys()) if name in obj.__dict__ and name in mapper.class_manager)


def _columns_alone(obj: object) -> object:
    state = inspect(obj, raiseerr=True)
    alone: object = state.mapper.class_manager.new_instance()
    for name in _columns(obj):
        set_committed_value(alone, name, obj.__dict__[name])
    inspect(alone, raiseerr=True).key = state.key
    return alone


def _relate(one: Copy, copies: Mapping[int, Copy]) -> None:
    for relation in _merged_relations(one.given):
        if relation.lazy in _UNLOADABLE:
            _replay(one, relation.key, copies)
        else:
            setattr(one.copy, relation.key, _translated(one.given.__dict__[relation.key], copies))


def _replay(one: Copy, name: str, copies: Mapping[int, Copy]) -> None:
    collection, history = getattr(one.copy, name), inspect(one.given, raiseerr=True).attrs[name].history
    for member in history.added:
        collection.add(copies[id(member)].copy)
    for member in history.deleted:
        collection.remove(copies[id(member)].copy)


def _translated(value: Any, copies: Mapping[int, Copy]) -> object:
    if value is None:
        return None
    if not hasattr(value, "_sa_adapter"):
        return copies[id(value)].copy
    members = [copies[id(member)].copy for member in collection_adapter(value)]
    if isinstance(value, KeyFuncDict):  # by the keys that its members have now
        return {value.keyfunc(member): member for member in members}
    if isinstance(value, Mapping):
        return {key: copies[id(member)].copy for key, member in value.items()}
    return set(members) if duck_type_collection(value) is set else members
