# ruff: noqa: SLF001 - here is where the private names are
"""Column state <-> instances, by code that is generated once per class.

The only module that knows private names of SQLAlchemy, with the sources of its code beside it (``tests/mapped/test_private_names.py``
pins them). It does by hand what ``sqlalchemy.orm.loading`` does for a row: make the instance without ``__init__``, fill its
``__dict__``, give it an instance state, enter it into the identity map, fire the events of a load.
"""

import weakref
from collections.abc import Callable, Hashable
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Engine
from sqlalchemy.orm import ColumnProperty, Mapper, Session, UOWTransaction, mapperlib
from sqlalchemy.orm.identity import IdentityMap
from sqlalchemy.orm.session import SessionTransactionState
from sqlalchemy.orm.state import InstanceState

from stockstore.errors import CodecError
from stockstore.mapped.columns import UNLOADED
from stockstore.mapped.familiar import documents_in
from stockstore.mapped.sources import source_of

# Column values are of any type: the mapped class decides.
State = tuple[Any, ...]


class _Reference(weakref.ref[Any]):
    """A reference to an instance that knows its state: a bound method for each would be one more object for the garbage collector to visit."""

    __slots__ = ("state",)


def _gone(reference: Any) -> None:
    """Do what ``InstanceState._cleanup`` does when an instance is gone, in one call."""
    state = reference.state
    identity_map = state._instance_dict()
    if identity_map is not None:
        other = identity_map._dict.pop(state.key, None)
        if other is not None and other is not state:
            identity_map._dict[state.key] = other
        del state._instance_dict
    state.session_id = None
    # They refer to each other.
    del reference.state


class Hydrator:
    """The compiled functions of one mapped class.

    Args:
        mapper: A configured mapper.
        attrs: The keys of its Column-backed attributes, in the order of the state.
        primary_key: Those of the primary key.
        documents: The positions of those whose values are JSON documents.
    """

    hydrate: Callable[[State], Any]
    attach: Callable[[Session, State], Any]
    attach_many: Callable[..., list[Any]]
    attach_whole: Callable[..., list[Any]]
    attach_familiar: Callable[..., list[Any]]

    def __init__(self, mapper: Mapper[Any], attrs: tuple[str, ...], primary_key: tuple[str, ...], documents: tuple[int, ...]) -> None:
        self._cls, self._attrs, self._primary_key, self._documents = mapper.class_, attrs, primary_key, documents
        # A deferred column has a loader at the class; another column without a value would read as None.
        self._expirable = frozenset(key for key in attrs if not mapper.column_attrs[key].deferred)
        space = self._generate(mapper)
        self.hydrate, self.attach = space["hydrate"], space["attach"]
        self.attach_many, self.attach_whole = space["attach_many"], space["attach_whole"]
        self.attach_familiar = space["attach_familiar"]
        get = itemgetter(*attrs)
        self._get: Callable[[dict[str, Any]], State] = get if len(attrs) > 1 else lambda values: (get(values),)

    def dehydrate(self, obj: object) -> State:
        """The values that the instance holds, ``UNLOADED`` where it holds none."""
        values = obj.__dict__
        try:
            return self._get(values)
        except KeyError:
            return tuple([values.get(key, UNLOADED) for key in self._attrs])

    def _generate(self, mapper: Mapper[Any]) -> dict[str, Any]:
        missing = _expressions(mapper, self._attrs)
        space = self._space(mapper, missing)
        source = source_of(self._attrs, self._primary_key, self._documents, has_missing=bool(missing), is_plain=is_plain(mapper.class_))
        exec(source, space)  # noqa: S102 - attribute names enter as literals only
        return space

    def _space(self, mapper: Mapper[Any], missing: tuple[str, ...]) -> dict[str, Any]:
        cls, manager = mapper.class_, mapper.class_manager
        return {
            "CLS": cls,
            "NEW": cls.__new__,
            "ROOT": identity_class(mapper),
            "MAPPER": mapper,
            "MANAGER": manager,
            "DISPATCH": manager.dispatch,
            "STATE": InstanceState,
            "NEW_STATE": InstanceState.__new__,
            "REF": _Reference,
            "GONE": _gone,
            "ACTIVE": SessionTransactionState.ACTIVE,
            "MISSING": missing,
            "UNLOADED": UNLOADED,
            "BEGIN": _begin,
            "LOADED": _loaded,
            "STRIP": self._strip,
            "DOCUMENTS": documents_in,
            "FILLED": itemgetter(*self._expirable) if self._expirable else len,
        }

    def _strip(self, values: dict[str, Any], state: InstanceState[Any]) -> None:
        """Take the unloaded columns out again, so that reading one loads it."""
        for key in [key for key in self._attrs if values[key] is UNLOADED]:
            if key in self._primary_key:
                raise CodecError(f"{self._cls.__qualname__}.{key} is unloaded: a state without its primary key is no row")
            del values[key]
            if key in self._expirable:
                state.expired_attributes.add(key)


def identity_class(mapper: Mapper[Any]) -> type:
    """The class under which instances of the mapper stand in an identity map."""
    return mapper._identity_class


def is_instrumented(mapper: Mapper[Any], column_property: ColumnProperty[Any]) -> bool:
    """Whether instances have this attribute; a discriminator that the mapper added for itself is none."""
    return column_property.key in mapper.class_manager


def is_plain(cls: type) -> bool:
    """Whether new instances of a class are as those of ``object``: with nothing in their ``__dict__``, which may be replaced."""
    return all(getattr(cls, name) is getattr(object, name) for name in ("__new__", "__setattr__"))


def values_of(cls: type) -> dict[str, Any]:
    """Give a dict for the values of an instance.

    That of a plain class is one of its instances': a copy shares their keys, which is the fastest way to make another one's. In front is
    the place of the state, for what is added to a copy later makes it one with keys of its own.
    """
    if not is_plain(cls):
        return {}
    values: dict[str, Any] = object.__new__(cls).__dict__
    values["_sa_instance_state"] = None
    return values


def plan_slot(cls: type) -> tuple[dict[Any, Any], int] | None:
    """A dict that lives exactly as long as the mapping of the class, and how many attributes the mapping has by now.

    None for a class that is not mapped itself.
    """
    manager = cls.__dict__.get("_sa_class_manager")
    return None if manager is None else (manager.info, len(manager))


def _expressions(mapper: Mapper[Any], attrs: tuple[str, ...]) -> tuple[str, ...]:
    """Attributes that a load would fill although no column of the state backs them: SQL expressions."""
    others = (prop.key for prop in mapper.column_attrs if prop.key not in attrs and not prop.deferred)
    return tuple(key for key in others if key in mapper.class_manager and mapper.class_manager[key].impl.accepts_scalar_loader)


def begin(session: Session, mapper: Mapper[Any], token: Hashable = None) -> None:
    """Begin a transaction where none is open, as any statement of the session would, or raise what that would raise."""
    transaction = session._transaction
    if transaction is None or transaction._state is not SessionTransactionState.ACTIVE:
        _begin(session, mapper, token)


def _begin(session: Session, mapper: Mapper[Any], token: Hashable = None) -> None:
    """Begin a transaction, or raise as any statement of the session would."""
    # Without a transaction a later rollback would not expire what is attached now.
    session._autobegin_t()
    if not session.is_active:
        shard = {} if token is None else {"shard_id": token}
        session.connection(bind_arguments={"mapper": mapper, **shard})


def _loaded(state: InstanceState[Any], values: dict[str, Any], session: Session | None) -> None:
    """Fire the events of a load, which Mutable types, composites and reconstructors live by."""
    state.manager.dispatch.load(state, None)
    identity_map: IdentityMap | None = None
    if session is not None:
        identity_map = session.identity_map
        session.dispatch.loaded_as_persistent(session, state)
    if state.modified:  # a listener set an attribute: like a load, that is no change
        state._commit_all(values, identity_map)


def all_mappers() -> set[Mapper[Any]]:
    """The mappers of all registries: several may map tables of one MetaData."""
    return {mapper for mapper in constructed_mappers() if mapper.configured}


def constructed_mappers() -> set[Mapper[Any]]:
    """The mappers of all registries that have their tables, whether their relationships are configured yet or not."""
    # A class that another thread is just mapping has a manager, and no mapper yet or half of one.
    managers = (manager for registry in mapperlib._all_registries() for manager in list(registry._managers))
    mappers = (manager.mapper for manager in managers if manager.is_mapped)
    return {mapper for mapper in mappers if hasattr(mapper, "tables") and hasattr(mapper, "_identity_class")}


def flushed_states(context: UOWTransaction) -> list[tuple[InstanceState[Any], bool]]:
    """The states whose rows a flush writes, each with whether it deletes the row."""
    return [(state, deleted) for state, (deleted, listed_only) in context.states.items() if not listed_only]


def is_flushing(session: Session) -> bool:
    """Whether the session is within a flush or a bulk method."""
    return session._flushing


def has_changes(session: Session) -> bool:
    """Whether a flush would write something."""
    return not session._is_clean()


def open_connection(session: Session, bind: Engine | Connection) -> Connection | None:
    """The connection on which the session's transaction has begun for a bind, if it has."""
    transaction = session._transaction
    while transaction is not None:
        if bind in transaction._connections:
            return transaction._connections[bind][0]
        transaction = transaction._parent
    return None


def level_on_connect(dialect: Dialect) -> str | None:
    """The isolation level that an engine was made with, if it was."""
    # It is of SQLAlchemy's own dialects, not of the interface.
    level: str | None = getattr(dialect, "_on_connect_isolation_level", None)
    return level
