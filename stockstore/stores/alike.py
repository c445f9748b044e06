"""Batches of one class whose keys are alike, all numbers or all text: a few passes instead of a step per object.

What is not so alike gives ``None``, and goes the general way, which also tells what is wrong with it.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, cast

from stockstore.backends.coherent import Item
from stockstore.backends.columns import PointersInTurn, Values
from stockstore.cells import NO_GENERATION, expiries, fresh_payloads, pack_body
from stockstore.codecs.passes import Passes
from stockstore.errors import CodecError
from stockstore.keys import ClassKeys, KeyPlan, Native, keys_of
from stockstore.lifetimes import expiry, remaining, server_seconds
from stockstore.stores.hits import exact_values
from stockstore.stores.snapshots import RowSnapshot

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_NOTHING: tuple[Any, object] = (None, None)


def only_class(objects: Sequence[object]) -> type | None:
    """Give the class of all objects, ``None`` where there are several, or no objects."""
    classes = set(map(type, objects))
    return classes.pop() if len(classes) == 1 else None


def cells_of(
    objects: Sequence[object],
    keys: ClassKeys,
    aliases: Sequence[KeyPlan],
    namespace: str,
    passes: Passes,
    seconds: float | None,
    tag: bytes,
) -> tuple[Sequence[Item], Sequence[Item]] | None:
    """Give the cells of plain objects, each after a tag, and those of their aliases, as a backend takes them."""
    if keys.mapped or (seconds is not None and seconds <= 0):
        return None
    natives = _values(keys.identity, objects)
    records = keys.identity.texts(namespace, natives)
    others = [plan.texts(namespace, _values(plan, objects), alias=True) for plan in aliases]
    # Values that have such texts are told apart faster than these.
    if records is None or None in others or len(set(natives)) < len(records):
        return None
    head, lasts = tag + pack_body(passes.fingerprint(type(objects[0])), expiry(seconds)), server_seconds(seconds)
    begin, rests = passes.encode(objects)
    names = [text for texts in others for text in texts or ()]
    return Values(records, head + begin, rests, lasts), PointersInTurn(names, records, lasts) if names else ()


def _values(plan: KeyPlan, objects: Sequence[object]) -> list[Any]:
    """Give the values of a key, none where one of the objects lacks it."""
    try:
        return list(map(plan.of_object, objects))
    except AttributeError:
        return []


def values_of(keys: ClassKeys, asked: list[Any]) -> tuple[KeyPlan, list[Any]] | None:
    """Give the one key of one name that all look-ups of a batch use, and their values."""
    if not asked:
        return None
    name = next(iter(asked[0]), None) if type(asked[0]) is dict else None
    plan = keys.canonical if name is None else next((plan for plan in keys.plans if plan.names == (name,)), None)
    try:
        return None if plan is None else (plan, exact_values(plan.names[0], asked))
    except (KeyError, TypeError):
        return None


def objects_in(cls: type, cells: Sequence[bytes | None], passes: Passes, plan: KeyPlan, values: Sequence[object]) -> list[Any]:
    """Give the plain objects in cells that carry the values of the key asked for."""
    fingerprint = passes.fingerprint(cls)
    try:
        stamp = fingerprint + passes.head(cls)
        bodies = fresh_payloads(cells, NO_GENERATION + stamp, drop=len(stamp))
        objects = passes.decode(cls, [body for body in bodies if body])
        carried = list(map(plan.of_object, objects))
    except (CodecError, AttributeError):
        return [None] * len(cells)
    return objects if carried == values else _placed(bodies, zip(objects, carried, strict=True), values)


def _placed(bodies: list[bytes | None], pairs: Iterator[tuple[Any, object]], values: Sequence[object]) -> list[Any]:
    """Give each object in the position of its body where it carries the value asked for there."""
    found = [next(pairs) if body else _NOTHING for body in bodies]
    return [obj if carried == value else None for (obj, carried), value in zip(found, values, strict=True)]


def rows_in(
    cls: type, cells: Sequence[bytes | None], generation: bytes, key: KeyPlan, values: Sequence[object], session: "Session | None"
) -> list[Any]:
    """Give instances of the rows in cells of a generation that carry the values of the key asked for."""
    from stockstore.mapped import plan_of

    plan = plan_of(cls)
    payloads = fresh_payloads(cells, generation + plan.fingerprint)
    whole = None if None in payloads else plan.unpack_all(cast("list[bytes]", payloads))
    try:
        states: list[Any] = whole or [None if payload is None else plan.unpack(payload)[1] for payload in payloads]
    except CodecError:
        return [None] * len(cells)
    at = plan.attrs.index(key.names[0])
    states = [state if state is not None and _same(state[at], value) else None for state, value in zip(states, values, strict=True)]
    if session is None:
        return [None if state is None else plan.hydrate(state) for state in states]
    attached = iter((plan.attach_whole if whole else plan.attach_many)(session, [state for state in states if state is not None]))
    return [None if state is None else next(attached) for state in states]


def snapshots_in(cls: type, cells: Sequence[bytes | None], generation: bytes, natives: Sequence[Native]) -> list[RowSnapshot] | None:
    """Give the rows of a class itself in cells of a generation where each is there, live and sound, and has the identity asked for.

    Args:
        cls: A mapped class.
        cells: What stands under the keys.
        generation: The current one.
        natives: The identities asked for, of one name, all numbers or all text.
    """
    from stockstore.mapped import plan_of

    plan = plan_of(cls)
    payloads = fresh_payloads(cells, generation + plan.fingerprint)
    if None in payloads:
        return None
    whole = cast("list[bytes]", payloads)
    try:
        states = plan.unpack_all(whole) or [state for _, state in map(plan.unpack, whole)]
    except CodecError:
        return None
    at = plan.attrs.index(keys_of(cls).identity.names[0])
    carried, lifetimes = [state[at] for state in states], _lifetimes(cast("Sequence[bytes]", cells))
    if lifetimes is None or carried != natives or set(map(type, carried)) != set(map(type, natives)):
        return None
    rows = list(map(RowSnapshot, repeat(plan), states, lifetimes))
    for row, payload in zip(rows, whole, strict=True):
        row.packed = payload
    return rows


def _lifetimes(cells: Sequence[bytes]) -> list[float | None] | None:
    """Give what is left of values, ``None`` where one of them has ended by now."""
    ends = expiries(cells)
    left = {end: remaining(end) for end in set(ends)}
    return None if any(seconds is not None and seconds <= 0 for seconds in left.values()) else [left[end] for end in ends]


def _same(one: object, other: object) -> bool:
    """Whether values are one key; of two types, as with an enum, the general way decides."""
    return type(one) is type(other) and one == other
