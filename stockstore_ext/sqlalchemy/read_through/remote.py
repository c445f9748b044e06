# ruff: noqa: SLF001 - the short way goes past what the store's own methods ask for each row
"""The short way to rows that a shared cache has, where it is the first one."""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Session

from stockstore.cells import TOKEN_SIZE, fresh_payloads, generation_of
from stockstore.errors import CodecError
from stockstore.keys import ClassKeys, IndexPlan, ListLookup, Lookup, has_other_identities_below, keys_of
from stockstore.keys.prefixes import key_prefix
from stockstore.mapped import MappedPlan, plan_of
from stockstore.stores.generations import generation_text
from stockstore.stores.members import Members, numbers_in, stamp_of_numbers
from stockstore.stores.tenants import current as asking
from stockstore.stores.tiers.backed import BackendTier
from stockstore.stores.tiers.local import LocalTier
from stockstore.stores.tiers.local_misses import LocalMisses, claim, numbers_of
from stockstore.stores.tiers.looks import BackendLease
from stockstore_ext.sqlalchemy.read_through.absent import Absent
from stockstore_ext.sqlalchemy.read_through.classes import Classes
from stockstore_ext.sqlalchemy.read_through.exact import kinds_of
from stockstore_ext.sqlalchemy.read_through.found import Found, alias_keys, all_carry, carried_by, found_alike
from stockstore_ext.sqlalchemy.read_through.glance import Glance
from stockstore_ext.sqlalchemy.read_through.guesses import Guesses
from stockstore_ext.sqlalchemy.read_through.list_kinds import ListKinds
from stockstore_ext.sqlalchemy.read_through.quick import memory_of
from stockstore_ext.sqlalchemy.read_through.seen import Seen, SeenList, SeenTier, below, present, seen_list, told

_QUICK: Final = (int, str)
_HEEDED: Final = 32
_OFTEN: Final = 0.1


class _Shape(NamedTuple):
    """What is the same for all reads of one class."""

    plan: MappedPlan
    keys: ClassKeys
    kind: Any
    name: str
    generation: str
    misses: "_Misses"


class _Misses:
    """How often single rows were not there, of late: a read that leases what is absent costs a hit a little, and saves a miss a round trip."""

    __slots__ = ("share",)

    def __init__(self) -> None:
        self.share = 0.0

    def note(self, *, missed: bool) -> None:
        """Heed one more read."""
        self.share += (missed - self.share) / _HEEDED


class RemoteRows:
    """Gives rows by primary keys of one value that are all plain hits of a shared cache in one round trip.

    It is the first of the tiers, or stands below process memory that lacks them, and is filled then.

    Args:
        tiers: The caches, from the top down.
        classes: Which classes are served.
        glance: Judges sessions.
        kinds: Tells by which values lists may be kept.
    """

    def __init__(self, tiers: Sequence[Any], classes: Classes, glance: Glance, kinds: ListKinds) -> None:
        """Look for a shared cache."""
        memory = memory_of(tuple(tiers))
        self._above: LocalTier | None = None if memory is None else tiers[0]
        tier = next(iter(tiers[0 if memory is None else 1 :]), None)
        # Of several servers one may be out of reach alone, which takes a longer look.
        known = type(tier) is BackendTier and tier._backend.follows_lists and not callable(tier._store._namespace_setting)
        self._tier: BackendTier | None = tier if known else None
        self._classes = classes
        self._glance = glance
        self._kinds = kinds
        self._guesses = Guesses()
        self._shapes: WeakKeyDictionary[type, _Shape] = WeakKeyDictionary()

    def read(self, session: Session, cls: type, values: list[Any]) -> Seen | None:
        """Read by values that are all of one exact type; ``None``: nothing was read, for who has to go the longer way."""
        tier = self._tier
        if tier is None or tier._store.tenant_rules or asking.get() is not None:
            return None
        shape = self._shape(cls, tier)
        if type(values[0]) is not shape.kind or not self._glance.is_sure(session, cls) or not tier.readable(cls):
            return None
        texts = shape.keys.identity.texts(tier._store._namespace_setting, values)  # type: ignore[arg-type]
        if texts is None:
            return None
        misses = None if self._above is None else claim(self._above, shape.keys, cls, values)
        if self._above is not None and misses is None:
            return None
        if len(texts) > 1:
            return self._looking(tier, shape, texts, values, misses)
        often = shape.misses.share > _OFTEN
        seen = self._leasing(tier, shape, texts[0], values, misses) if often else self._looking(tier, shape, texts, values, misses)
        shape.misses.note(missed=seen.rows is None)
        return seen

    def _looking(self, tier: BackendTier, shape: _Shape, texts: list[str], values: list[Any], misses: LocalMisses | None) -> Seen:
        asked = [*texts, shape.generation]
        cells = tier.asked(partial(tier._backend.look, asked))
        if cells is None:
            return Seen(None, below(misses, SeenTier(tier, None)))
        return self._judged(tier, shape, asked, cells, values, misses)

    def _leasing(self, tier: BackendTier, shape: _Shape, text: str, values: list[Any], misses: LocalMisses | None) -> Seen:
        token = secrets.token_bytes(TOKEN_SIZE)
        answer = tier.asked(lambda: tier._backend.follow_list(text, shape.generation, b"", "", token))
        if answer is None:
            return Seen(None, below(misses, SeenTier(tier, None)))
        current = generation_of(answer.generation)
        if answer.granted and current is not None:
            tier._store._note("miss", shape.keys.identity, 1)
            return Seen(None, absent=Absent(tier, BackendLease(text, token, current), misses))
        return self._judged(tier, shape, [text, shape.generation], [answer.members[0], answer.generation], values, misses)

    @staticmethod
    def _judged(
        tier: BackendTier,
        shape: _Shape,
        asked: list[str],
        cells: list[bytes | None],
        values: list[Any],
        misses: LocalMisses | None,
    ) -> Seen:
        """Judge rows, and their generation behind them."""
        payloads = _payloads(shape, cells[:-1], generation_of(cells[-1]))
        rows = _rows(shape, payloads, values)
        if rows is None:
            return Seen(None, below(misses, SeenTier(tier, present(asked, cells))))
        tier._store._note("hit", shape.keys.identity, len(values))
        if misses is not None:
            _fill(misses, shape, tier, values, cells[:-1], payloads, rows)
        return Seen(rows)

    def read_list(self, session: Session, cls: type, lookup: Lookup) -> SeenList | None:
        """Read the list of one value of an index with its rows; ``None``: nothing was read, for who has to go the longer way."""
        tier, plan = self._tier, lookup.plan
        if tier is None or tier._store.tenant_rules or asking.get() is not None:
            return None
        if not isinstance(plan, IndexPlan) or plan.owner is not cls or type(lookup.values[0]) is not self._kinds.of(plan):
            return None
        shape = self._shape(cls, tier)
        if shape.kind is not int or not self._glance.is_sure(session, cls) or not tier.readable(cls):
            return None
        return self._listed(tier, shape, ListLookup(plan, lookup.native, lookup.values))

    def _listed(self, tier: BackendTier, shape: _Shape, lookup: ListLookup) -> SeenList | None:
        namespace: Any = tier._store._namespace_setting
        text, stamp = lookup.plan.record_text(namespace, lookup.native), stamp_of_numbers(lookup)
        prefix = f"{key_prefix(namespace, shape.keys.identity.record_space)}i"
        wanted = _numbers(self._guesses.of(text)) or (self._above and numbers_of(self._above, shape.keys, lookup.place))
        if not wanted:
            return self._followed(tier, shape, lookup, text, stamp, prefix)
        misses = None if self._above is None else claim(self._above, shape.keys, shape.plan.cls, [lookup.place, *wanted])
        if self._above is not None and misses is None:
            return None
        seen = self._guessed(tier, shape, lookup, [text, *_texts(prefix, wanted)], stamp, wanted, misses)
        if seen is None and misses is not None:
            misses.give_back_all()
        return self._followed(tier, shape, lookup, text, stamp, prefix) if seen is None else seen

    def _followed(self, tier: BackendTier, shape: _Shape, lookup: ListLookup, text: str, stamp: bytes, prefix: str) -> SeenList | None:
        """Read a list with the rows that it names."""
        misses = None if self._above is None else claim(self._above, shape.keys, shape.plan.cls, [lookup.place])
        if self._above is not None and misses is None:
            return None
        token = secrets.token_bytes(TOKEN_SIZE)
        answer = tier.asked(lambda: tier._backend.follow_list(text, shape.generation, stamp, prefix, token))
        if answer is None:
            return seen_list(tier, misses, None)
        generation, found = generation_of(answer.generation), answer.members[1:]
        held = None if generation is None else _held(answer.members[0], generation + stamp, len(stamp))
        numbers, rows = _numbers(held), None
        if held is not None and numbers is not None and len(numbers) == len(found):
            self._guesses.note(text, held)
            rows = _rows(shape, _payloads(shape, found, generation), numbers) if numbers else []
            rows = self._carrying(tier, shape, lookup, rows, len(numbers))
        if rows is None:
            seen = told(tier, [text, *_texts(prefix, numbers or [])], shape.generation, answer, token, misses)
            tier._store._note("miss", shape.keys.identity, int(seen.absent is not None))
            return seen
        if misses is not None:
            # A list without its rows would be of no use, and these were not leased before.
            misses.give_back_all()
        return SeenList(rows)

    def _guessed(
        self,
        tier: BackendTier,
        shape: _Shape,
        lookup: ListLookup,
        texts: list[str],
        stamp: bytes,
        wanted: list[int],
        misses: LocalMisses | None,
    ) -> SeenList | None:
        """Read a list along with the rows that it held before; ``None`` where it does not hold the same now."""
        asked = [*texts, shape.generation]
        cells = tier.asked(partial(tier._backend.look, asked))
        if cells is None:
            return seen_list(tier, misses, None)
        generation = generation_of(cells[-1])
        held = None if generation is None else _held(cells[0], generation + stamp, len(stamp))
        if _numbers(held) != wanted:
            self._guesses.forget(texts[0])
            return None
        payloads = _payloads(shape, cells[1:-1], generation)
        rows = self._carrying(tier, shape, lookup, _rows(shape, payloads, wanted), len(wanted))
        if rows is None:
            return seen_list(tier, misses, present(asked, cells))
        if misses is not None:
            listed = Members(lookup, tuple([(number,) for number in wanted]))
            _fill(misses, shape, tier, wanted, cells[1:-1], payloads, rows, listed)
        return SeenList(rows)

    @staticmethod
    def _carrying(tier: BackendTier, shape: _Shape, lookup: ListLookup, rows: Found | None, count: int) -> Found | None:
        """Give so many rows that all belong in a list, which are counted."""
        if rows is None or not all_carry(rows, lookup.plan.names[0], lookup.values[0]):
            return None
        tier._store._note("hit", shape.keys.identity, 1 + count)
        return rows

    def learn(self, session: Session, cls: type) -> None:
        """Take a session that the longer way has just served for one of those that it serves."""
        if self._tier is not None and not self._glance.is_sure(session, cls):
            self._glance.learn(session, cls)

    def _shape(self, cls: type, tier: BackendTier) -> _Shape:
        shape, plan = self._shapes.get(cls), plan_of(cls)
        if shape is None or shape.plan is not plan:
            keys = keys_of(cls)
            generation = generation_text(tier._store._namespace_setting, keys.identity)  # type: ignore[arg-type]
            shape = self._shapes[cls] = _Shape(plan, keys, self._kind(plan, keys, tier), keys.identity.names[0], generation, _Misses())
        return shape

    def _kind(self, plan: MappedPlan, keys: ClassKeys, tier: BackendTier) -> Any:
        """Give the type of the primary key, ``None`` where it takes a longer look."""
        kinds = kinds_of(plan.cls, keys.identity)
        plain = len(kinds) == 1 and kinds[0] in _QUICK and not plan.deferred and not has_other_identities_below(plan.cls)
        return kinds[0] if plain and tier.holds(plan.cls) and not self._classes.refuses(plan.cls) else None


def _held(cell: bytes | None, stamp: bytes, drop: int) -> bytes | None:
    """Give the primary keys of a list of numbers that can be used, as they are written."""
    (held,) = fresh_payloads([cell], stamp, drop=drop)
    return held


def _numbers(held: bytes | None) -> list[int] | None:
    try:
        return None if held is None else numbers_in(held)
    except CodecError:
        return None


def _texts(prefix: str, numbers: list[int]) -> list[str]:
    return [f"{prefix}{number}" for number in numbers]


def _payloads(shape: _Shape, cells: list[bytes | None], generation: bytes | None) -> list[Any]:
    return [] if generation is None else fresh_payloads(cells, generation + shape.plan.fingerprint)


def _rows(shape: _Shape, payloads: list[Any], values: list[Any]) -> Found | None:
    plan = shape.plan
    if None in payloads or not payloads:
        return None
    try:
        rows = (found_alike(plan, payloads) if payloads[1:] else None) or list(map(plan.unpack, payloads))
    except CodecError:
        return None
    carried = carried_by(rows, shape.name)
    return rows if carried == values and set(map(type, carried)) == {shape.kind} else None


def _fill(
    misses: LocalMisses,
    shape: _Shape,
    tier: BackendTier,
    values: list[Any],
    cells: list[Any],
    payloads: list[Any],
    rows: Found,
    listed: Members | None = None,
) -> None:
    """Keep in memory rows that a server gave; not such as have a key that is none."""
    cls = shape.plan.cls
    with suppress(CodecError):
        aliases = alias_keys(rows, misses.alias_plans(cls))
        misses.fill_from(cls, tier, values, cells, payloads, aliases, listed)
