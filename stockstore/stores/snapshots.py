"""One object as it travels between tiers: a plain object by reference, a mapped one as its column state."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from stockstore.keys import ClassKeys, KeyPlan, Native, keys_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from stockstore.codecs import Codec
    from stockstore.mapped import MappedPlan


class ObjectSnapshot:
    """A plain object; ``lifetime`` is what is left of it in the tier it came from, in seconds."""

    __slots__ = ("_payload", "lifetime", "value")
    former: dict[str, object] | None = None
    shared = True

    def __init__(self, value: object, lifetime: float | None = None) -> None:
        """Hold an object."""
        self.value = value
        self.lifetime = lifetime
        self._payload: tuple[object, bytes] | None = None

    @property
    def cls(self) -> type:
        """The exact class of the object."""
        return type(self.value)

    def native(self, plan: KeyPlan) -> Native:
        """Give the object's value of a key."""
        return plan.native_of(self.value)

    def key(self) -> dict[str, object]:
        """Give the canonical key of the object."""
        plan = keys_of(self.cls).identity
        plan.native_of(self.value)  # refuses an object that lacks one of the values
        return {name: getattr(self.value, name) for name in plan.names}

    def former_keys(self) -> list[dict[str, object]]:
        """Give the canonical key of the object."""
        return [self.key()]

    def payload(self, codec: "Codec") -> bytes:
        """Give the encoded object behind its class's fingerprint; encoded once for all the tiers that share a codec."""
        if self._payload is None or self._payload[0] is not codec:
            self._payload = (codec, codec.fingerprint(self.cls) + codec.encode(self.value))
        return self._payload[1]

    def restore(self, session: "Session | None" = None) -> object:  # noqa: ARG002 - as RowSnapshot
        """Give the object itself."""
        return self.value


class RowSnapshot:
    """The column state of a mapped object, detached from any session.

    ``former`` is the identity it had in the database before its primary key was changed. A row that is
    not ``shared`` was read inside a caller's transaction and belongs in no cache.
    """

    __slots__ = ("former", "lifetime", "packed", "plan", "shared", "state")

    def __init__(
        self,
        plan: "MappedPlan",
        state: tuple[object, ...],
        lifetime: float | None = None,
        *,
        former: dict[str, object] | None = None,
        shared: bool = True,
    ) -> None:
        """Hold a row."""
        self.shared = shared
        self.plan = plan
        self.state = state
        self.lifetime = lifetime
        self.former = former
        self.packed: bytes | None = None
        """The payload, once a tier has asked for it."""

    @property
    def cls(self) -> type:
        """The exact class of the row."""
        return self.plan.cls

    def native(self, plan: KeyPlan) -> Native | None:
        """Give the row's value of a key, ``None`` where a column of it is not loaded."""
        if len(plan.names) == 1:
            value = self.state[self.plan.attrs.index(plan.names[0])]
            return None if value is _unloaded() else plan.native((value,))
        values = self.values(plan.names)
        return None if values is None else plan.native(values)

    def values(self, names: tuple[str, ...]) -> list[object] | None:
        """Give the row's values of some columns, ``None`` where one is not loaded."""
        state, place, unloaded = self.state, self.plan.attrs.index, _unloaded()
        values = [state[place(name)] for name in names]
        for value in values:
            if value is unloaded:
                return None
        return values

    def key(self) -> dict[str, object]:
        """Give the primary key of the row."""
        names = keys_of(self.cls).identity.names
        return dict(zip(names, self.values(names) or (None,) * len(names), strict=True))

    def former_keys(self) -> list[dict[str, object]]:
        """Give the primary key of the row, and the one it had before where that differs."""
        return [self.key()] if self.former is None else [self.key(), self.former]

    def payload(self, codec: "Codec | None" = None) -> bytes:  # noqa: ARG002 - as ObjectSnapshot
        """Give the packed row; packed once for all tiers."""
        if self.packed is None:
            self.packed = self.plan.pack(self.state)
        return self.packed

    def restore(self, session: "Session | None" = None) -> object:
        """Give a detached instance, or the session's persistent one."""
        return self.plan.hydrate(self.state) if session is None else self.plan.attach(session, self.state)


def payloads_of(plan: "MappedPlan", rows: Sequence[RowSnapshot]) -> list[bytes]:
    """Give the packed rows of one class; those that no tier has asked for yet are packed at once."""
    known = [row.packed for row in rows]
    if None not in known:
        return cast("list[bytes]", known)
    packed = plan.pack_all([row.state for row in rows]) if known.count(None) == len(known) else None
    if packed is None:
        return [row.payload() for row in rows]
    for row, payload in zip(rows, packed, strict=True):
        row.packed = payload
    return packed


@cache
def _unloaded() -> object:
    # The module is there with SQLAlchemy alone, and an import costs more than the rest of a key.
    from stockstore.mapped import UNLOADED

    return UNLOADED


Snapshot: TypeAlias = ObjectSnapshot | RowSnapshot


def snapshot_of(obj: object) -> Snapshot:
    """Take a snapshot of an object without emitting SQL.

    Raises:
        NotKeyedError: Its class declares no keys.
    """
    keys = keys_of(type(obj))
    if not keys.mapped:
        return ObjectSnapshot(obj)
    from stockstore.mapped import plan_of

    plan = plan_of(type(obj))
    former = _former(keys, obj)
    state = plan.dehydrate(obj)
    return RowSnapshot(plan, _with_nones(state) if former is None else state, former=former)


def _former(keys: ClassKeys, obj: object) -> dict[str, object] | None:
    state: Any = obj.__dict__["_sa_instance_state"]
    return None if state.key is None else dict(zip(keys.identity.declared, state.key[1], strict=True))


def _with_nones(state: tuple[object, ...]) -> tuple[object, ...]:
    """Give what a new object reads as: an attribute that was never set is None, not a column still to be loaded."""
    from stockstore.mapped import UNLOADED

    return tuple([None if value is UNLOADED else value for value in state])
