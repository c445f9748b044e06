"""Lists in a shared cache: cells of their own, of the generation of their hierarchy."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from stockstore.backends.coherent import Item, Leased
from stockstore.cells import LEASE, TOKEN_SIZE, VALUE, generation_of, is_marker, pack_body, unpack_value
from stockstore.coherence.protocol import Answer
from stockstore.errors import CacheUnreachable, CodecError
from stockstore.keys import KeyPlan, ListLookup, keys_of
from stockstore.lifetimes import expiry, remaining, server_seconds
from stockstore.stores.generations import generation_text
from stockstore.stores.members import Members, OtherMembersError, members_in, seconds_for_lists
from stockstore.stores.tiers.looks import BackendLease, Replaced
from stockstore.stores.tiers.tier_lists import TierLists

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from stockstore.stores.tiers.backed import BackendTier


class BackendLists(TierLists):
    """The lists of a tier. What it marks, releases and invalidates for a write are its own cells and theirs."""

    _tier: "BackendTier"

    @property
    def carrier(self) -> "BackendTier | None":
        """As the tier."""
        return self._tier.carrier

    def vouch(self, claim: object, carrier: object) -> None:
        """As the tier."""

    def lease(self, cls: type, keys: Sequence[ListLookup], *, session: "Session | None" = None) -> list[Answer[Members]]:  # noqa: ARG002 - as for records
        """Give the lists that are there, and leases on those that are not, in the positions of the keys; one round trip, two with leases on several."""
        look = _Look(cls, self._tier._store._namespace(), keys, self._tier.replaced)
        if len(look.texts) == 1 and self._tier._backend.follows_lists:
            return self._judge(cls, keys, look, *self._led(look.texts[0], look.generation))
        cells = self._tier.asked(lambda: self._tier._backend.get_many([*look.texts, look.generation]))
        return self._judge(cls, keys, look, cells)

    def _led(self, text: str, generation: str) -> "tuple[dict[str, bytes] | None, Mapping[str, BackendLease]]":
        """Read one list, and lease it at once where it is absent."""
        token = secrets.token_bytes(TOKEN_SIZE)
        answer = self._tier.asked(lambda: self._tier._backend.follow_list(text, generation, b"", generation, token))
        if answer is None:
            return None, {}
        given, current = ((generation, answer.generation), (text, answer.members[0])), generation_of(answer.generation)
        leases = {text: BackendLease(text, token, current, answer.watch)} if answer.granted and current is not None else {}
        return {name: cell for name, cell in given if cell is not None}, leases

    def judge(
        self, cls: type, keys: Sequence[ListLookup], cells: dict[str, bytes] | None, leases: Mapping[str, BackendLease]
    ) -> list[Answer[Members]]:
        """Do as :meth:`lease` with what was just read of the lists and of the generation, as :meth:`BackendTier.judge` does."""
        return self._judge(cls, keys, _Look(cls, self._tier._store._namespace(), keys, self._tier.replaced), cells, leases)

    def _judge(
        self,
        cls: type,
        keys: Sequence[ListLookup],
        look: "_Look",
        cells: dict[str, bytes] | None,
        leases: "Mapping[str, BackendLease] | None" = None,
    ) -> list[Answer[Members]]:
        tier, plan = self._tier, keys_of(cls).identity
        if cells is None:
            tier._store._note("bypass", plan, len(keys), "unreachable")
            return [Answer(None, silent=True)] * len(keys)
        look.take(cells)
        answers = look.answers(tier.leases(look, leases or {}))
        marked = sum(answer.marked for answer in answers)
        hits = sum(answer.snapshot is not None for answer in answers)
        tier._store._note("hit", plan, hits)
        tier._store._note("miss", plan, len(keys) - hits - marked)
        tier._store._note("bypass", plan, marked, "generation" if look.stopped else "marked")
        tier.meet(look.marked)
        return answers

    def give_back(self, leases: Iterable[object]) -> None:
        """As the tier."""

    def fill(self, filled: Sequence[tuple[object, Members]]) -> int:
        """Keep lists where the lease still stands, with the rows that were read along; give how many lists were kept."""
        seconds = self._tier.limited(seconds_for_lists(self._tier._store._rule))
        by_token: dict[bytes, list[tuple[BackendLease, Members, Item]]] = {}
        for lease, members in filled:
            assert isinstance(lease, BackendLease)
            item = self._item(lease, members, seconds)
            if item is not None:
                by_token.setdefault(lease.token, []).append((lease, members, item))
        plan = keys_of(filled[0][1].cls).identity
        kept = sum(self._fill(plan, token, lists) for token, lists in by_token.items())
        self._tier._store._counters.add(puts=kept)
        return kept

    def fill_with_rows(self, lease: BackendLease, members: Members) -> bool:
        """Do as :meth:`fill` with one list, and say whether all the rows that were read along were put, which nobody has written since then."""
        item = self._item(lease, members, self._tier.limited(seconds_for_lists(self._tier._store._rule)))
        if item is None:
            return False
        lists, cells = self._fill_both(keys_of(members.cls).identity, lease, members, item)
        self._tier._store._counters.add(puts=lists)
        return cells == lists + len(members.rows)

    def _item(self, lease: BackendLease, members: Members, seconds: float | None) -> Item | None:
        """Give a list as what is to stand in the cache, ``None`` where it may not or cannot be kept."""
        if seconds is not None and seconds <= 0:
            return None
        try:
            return lease.text, pack_body(members.payload(), expiry(seconds), lease.generation), server_seconds(seconds)
        except CodecError as error:
            self._tier.report(f"cannot keep a list of {members.cls.__qualname__}", error)
            return None

    def _fill(self, plan: KeyPlan, token: bytes, lists: list[tuple[BackendLease, Members, Item]]) -> int:
        (lease, members, item), *others = lists
        if others or not lease.watch or not members.rows:
            return self._tier.fill_items(plan, [item for _, _, item in lists], token)
        return self._fill_both(plan, lease, members, item)[0]

    def _fill_both(self, plan: KeyPlan, lease: BackendLease, members: Members, item: Item) -> tuple[int, int]:
        """Fill a list and its rows, and give how many lists were put, and how many cells in all."""
        rows, aliases, _ = self._tier.items.read(members.rows, lease.generation)
        kept, refusal = (0, 0), "lease"
        try:
            kept = self._tier._backend.fill_list([item, *rows], lease.token, lease.watch, aliases)
        except CacheUnreachable as error:
            refusal = "unreachable"
            self._tier.report("was not filled", error)
        self._tier._store._note("fill", plan, kept[1])
        self._tier._store._note("refused fill", plan, 1 - kept[0], refusal)
        self._tier._store._counters.add(puts=kept[1] - kept[0])
        return kept


class _Look:
    """One batch of lists on its way.

    Attributes:
        texts: The keys of the lists.
        generation: The key of their hierarchy's generation.
        wanted: The lists to be leased, each with what was seen there, by the key of the generation.
        marked: The cells in which markers were met.
        stopped: Whether a writer is at work on the whole hierarchy.
    """

    def __init__(self, cls: type, namespace: str, lookups: Sequence[ListLookup], replaced: Replaced) -> None:
        self._lookups = {lookup.plan.record_text(namespace, lookup.native): lookup for lookup in lookups}
        self.texts = [lookup.plan.record_text(namespace, lookup.native) for lookup in lookups]
        self.generation = generation_text(namespace, keys_of(cls).identity)
        self.wanted: dict[str, dict[str, bytes | None]] = {}
        self.marked: dict[str, bytes] = {}
        self.stopped = False
        self._replaced = replaced
        self._found: dict[str, Members] = {}

    def take(self, cells: Mapping[str, bytes]) -> None:
        """Judge what was read."""
        self.marked = {text: cell for text, cell in cells.items() if is_marker(cell)}
        self.stopped = self.generation in self.marked
        token = generation_of(cells.get(self.generation))
        for text in () if self.stopped else self._lookups:
            cell = cells.get(text)
            if text not in self.marked and self._is_free(text, cell, token):
                self.wanted.setdefault(self.generation, {})[text] = cell

    def _is_free(self, text: str, cell: bytes | None, token: bytes | None) -> bool:
        """Note the list in a cell, or say whether it may give way to a lease."""
        if cell is None or not cell.startswith((VALUE, LEASE)):
            return True
        if cell.startswith(LEASE):
            return False
        try:
            members = self._members(text, cell, token)
        except OtherMembersError:
            return self._replaced.may(text)
        except CodecError:
            return True
        return members is None

    def _members(self, text: str, cell: bytes, token: bytes | None) -> Members | None:
        payload, expires, generation = unpack_value(cell)
        lifetime = remaining(expires)
        if generation != token or (lifetime is not None and lifetime <= 0):
            return None
        members = self._found[text] = members_in(payload, self._lookups[text])
        return members

    def refuse(self, generation: str, leased: Leased) -> None:  # noqa: ARG002 - as for records
        """Judge what stands where no lease was granted."""
        self.stopped = leased.generation is None
        for text, cell in leased.cells.items():
            if is_marker(cell):
                self.marked[text] = cell
            elif not self.stopped:
                self._is_free(text, cell, leased.generation)

    def answers(self, leases: Mapping[str, object]) -> list[Answer[Members]]:
        """Give an answer for each list."""
        return [self._answer(text, leases) for text in self.texts]

    def _answer(self, text: str, leases: Mapping[str, object]) -> Answer[Members]:
        if self.stopped or text in self.marked:
            return Answer(None, marked=True)
        return Answer(self._found.get(text), leases.get(text) if text not in self._found else None)
