"""What can be decided about a mapped class once, kept as long as the mapping."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Column, inspect
from sqlalchemy.orm import ColumnProperty, Mapper, Session

from stockstore.errors import CodecError, ConfigurationError
from stockstore.locks import fork_safe_lock
from stockstore.mapped.columns import kind_of
from stockstore.mapped.familiar import Familiar, documents_of
from stockstore.mapped.hydrate import Hydrator, State, identity_class, is_instrumented, plan_slot, values_of
from stockstore.mapped.rows import HEADER, Rows

_SLOT: Final = "stockstore.plan"
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_compiling: Final = fork_safe_lock()


class OtherShapeError(CodecError):
    """A payload is of a class or schema that this program does not have, such as before a deploy."""


class MappedPlan:
    """A mapped class's columns, and the functions compiled for them. Made by :func:`plan_of`; safe to share between threads.

    Attributes:
        cls: The mapped class.
        mapper: Its mapper.
        root: The class under which its instances stand in a session's identity map.
        attrs: The keys of the Column-backed attributes, deferred ones included, in the order of a state.
        primary_key: The keys of the primary key, in the mapper's order.
        deferred: The positions of deferred columns in a state.
        statements: What readers of the class's rows have built for it, kept as long as the plan.
        familiar: The rows that were asked for again of late.
        fingerprint: Eight bytes that change with the class's name, columns or types, the same in every process.
    """

    width: int
    """How many attributes of any sort the mapping had at compile time; another number makes the plan stale."""

    # The compiled functions are attributes, not methods that call them: a hit is short enough for the difference to show.
    pack: Callable[[State], bytes]
    """Give the payload of a state; a :class:`CodecError` names class and attribute of a value that has no encoding."""

    unpack: "Callable[[bytes], tuple[MappedPlan, State]]"
    """Give a payload's state and the plan of its class: this one, or another of the same inheritance hierarchy.

    Raises :class:`OtherShapeError` where no mapped class of the hierarchy has the payload's fingerprint, and :class:`CodecError` where
    what follows the fingerprint is not a row of the class."""

    hydrate: Callable[[State], Any]
    """Give a new detached instance. A column that the state lacks raises ``DetachedInstanceError`` when it is read."""

    attach: Callable[[Session, State], Any]
    """Give a persistent instance in the session: the one in its identity map, or else a new one made from the state.

    Emits no SQL. Begins a transaction where the session has none, and raises where ``session.get`` would have to."""

    attach_many: Callable[..., list[Any]]
    """Do :attr:`attach` for a session and many states of this class; positions are kept.

    What is given as a third argument is called with each instance that was there already and has not all that a load would give it, or
    whose class somebody hears the refreshes of, and its state; a fourth is the identity token of the shard that the states are of."""

    attach_whole: Callable[..., list[Any]]
    """Do :attr:`attach_many` for states that lack no column, such as those of :attr:`unpack_all`."""

    attach_familiar: Callable[..., list[Any]]
    """Do :attr:`attach_many` for rows of :attr:`familiar`, of whose changeable values each instance gets its own."""

    pack_all: Callable[[Sequence[State]], "list[bytes] | None"]
    """Give the payloads of states that are all plain rows; ``None`` where one is not: :attr:`pack` knows what to do."""

    unpack_all: Callable[[Sequence[bytes]], "list[State] | None"]
    """Give the states of payloads that are all plain rows of this very class; ``None`` where one is not: :attr:`unpack` tells what it is."""

    def __init__(self, cls: type, mapper: Mapper[Any]) -> None:
        columns = tuple(_column_properties(mapper))
        self.cls, self.mapper, self.root = cls, mapper, identity_class(mapper)
        self.attrs = tuple(column.key for column in columns)
        self.primary_key = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
        self.deferred = frozenset(place for place, column in enumerate(columns) if column.deferred)
        self.fingerprint = _fingerprint(mapper, columns)
        self.width = len(mapper.class_manager)
        self.statements: dict[object, Any] = {}
        self._relatives: dict[bytes, MappedPlan] = {self.fingerprint: self}
        kinds = [kind_of(column) for column in columns]
        self._rows = Rows(_label(cls), self.attrs, kinds, self.fingerprint)
        self._hydrator = Hydrator(mapper, self.attrs, self.primary_key, documents_of(kinds))
        self.familiar = Familiar(self.root, self.attrs, self.primary_key, kinds, partial(values_of, cls))
        self.pack, self.unpack = self._rows.pack, self._compile_unpack()
        self.pack_all, self.unpack_all = self._rows.pack_all, self._rows.unpack_all
        self.hydrate, self.attach = self._hydrator.hydrate, self._hydrator.attach
        self.attach_many, self.attach_whole = self._hydrator.attach_many, self._hydrator.attach_whole
        self.attach_familiar = self._hydrator.attach_familiar

    def __repr__(self) -> str:
        return f"MappedPlan({_label(self.cls)}: {', '.join(self.attrs)})"

    def dehydrate(self, obj: object) -> State:
        """Give the column values that an instance of exactly this class holds, ``UNLOADED`` where it holds none.

        Reads what is loaded and never emits SQL. A value may be the instance's own mutable object: pack before the instance changes.

        Raises:
            CodecError: The instance is of another class.
        """
        if type(obj) is not self.cls:
            raise CodecError(f"{_label(type(obj))} is not {_label(self.cls)}: use plan_of(type(obj)) for its instances")
        return self._hydrator.dehydrate(obj)

    def _compile_unpack(self) -> "Callable[[bytes], tuple[MappedPlan, State]]":
        prefix, decode = self._rows.prefix, self._rows.decode

        def unpack(payload: bytes) -> tuple[MappedPlan, State]:
            if payload[:HEADER] == prefix:
                try:
                    return self, decode(payload[HEADER:])
                except Exception:  # noqa: BLE001, S110 - the other way says what is wrong
                    pass
            return self._unpack_other(payload)

        return unpack

    def _unpack_other(self, payload: bytes) -> "tuple[MappedPlan, State]":
        fingerprint = payload[:8]
        if fingerprint == self.fingerprint:
            return self, self._rows.unpack(payload)
        plan = self._relatives.get(fingerprint)
        if plan is None or plan_of(plan.cls) is not plan:
            plan = self._find_relative(fingerprint)
        return plan.unpack(payload)

    def _find_relative(self, fingerprint: bytes) -> "MappedPlan":
        # Looked for anew each time: a subclass may be mapped later.
        relatives = [plan_of(mapper.class_) for mapper in self.mapper.base_mapper.self_and_descendants]
        self._relatives = {plan.fingerprint: plan for plan in relatives}
        if fingerprint not in self._relatives:
            raise OtherShapeError(f"{_label(self.cls)}: the payload's fingerprint {fingerprint.hex()} is that of another class or schema")
        return self._relatives[fingerprint]


def plan_of(cls: type) -> MappedPlan:
    """Give the plan of a mapped class, compiled at the first call; configures the mappers where that was not done yet.

    Raises:
        ConfigurationError: The class is not mapped, or mapped without what a plan needs.
    """
    plan = _compiled(cls)
    if plan is None:
        with _compiling:
            plan = _compiled(cls) or _compile(cls)
    return plan


def _compiled(cls: type) -> MappedPlan | None:
    slot = plan_slot(cls)
    if slot is None:
        return None
    info, width = slot
    plan: MappedPlan | None = info.get(_SLOT)
    # Attributes may be added to a mapped class at any time.
    return plan if plan is not None and plan.width == width else None


def _compile(cls: type) -> MappedPlan:
    mapper: Mapper[Any] | None = inspect(cls, raiseerr=False)
    if not isinstance(mapper, Mapper) or mapper.class_ is not cls:
        raise ConfigurationError(f"{_label(cls)} is not a class mapped by SQLAlchemy; an abstract base or a mixin has no rows of its own")
    if not cls.__dictoffset__:
        raise ConfigurationError(f"{_label(cls)} has __slots__ and no __dict__; SQLAlchemy keeps column values in the __dict__")
    plan = MappedPlan(cls, mapper)
    mapper.class_manager.info[_SLOT] = plan
    return plan


def _column_properties(mapper: Mapper[Any]) -> Iterator[ColumnProperty[Any]]:
    primary_key = set(mapper.primary_key)
    for prop in mapper.column_attrs:
        backed = all(isinstance(column, Column) for column in prop.columns) or not primary_key.isdisjoint(prop.columns)
        if backed and is_instrumented(mapper, prop):
            yield prop


def _fingerprint(mapper: Mapper[Any], columns: Iterable[ColumnProperty[Any]]) -> bytes:
    """A digest of the name and the columns. Types count by their repr, less the addresses of functions in it."""
    shape = [_label(mapper.class_), repr(mapper.polymorphic_identity)]
    shape += [f"{column.key}: {column.columns[0].type!r}" for column in columns]
    return hashlib.blake2b(_ADDRESS.sub("", "\n".join(shape)).encode(), digest_size=8).digest()


def _label(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
