"""Lists in a shared cache: cells of their own, of the generation of their hierarchy."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from stockstore.backends.coherent import Leased
from stockstore.cells import LEASE, VALUE, generation_of, is_marker, pack_body, unpack_value
from stockstore.coherence.protocol import Answer
from stockstore.errors import CodecError
from stockstore.keys import ListLookup, keys_of
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
        """Give the lists that are there, and leases on those that are not, in the positions of the keys; one round trip, two with leases."""
        look = _Look(cls, self._tier._store._namespace(), keys, self._tier.replaced)
        cells = self._tier.asked(lambda: self._tier._backend.get_many([*look.texts, look.generation]))
        return self._judge(cls, keys, look, cells)

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
        """Keep lists where the lease still stands; give how many were kept."""
        seconds = self._tier.limited(seconds_for_lists(self._tier._store._rule))
        if seconds is not None and seconds <= 0:
            return 0
        by_token: dict[bytes, list[tuple[str, bytes, int]]] = {}
        for lease, members in filled:
            assert isinstance(lease, BackendLease)
            try:
                body = pack_body(members.payload(), expiry(seconds), lease.generation)
            except CodecError as error:
                self._tier.report(f"cannot keep a list of {members.cls.__qualname__}", error)
            else:
                by_token.setdefault(lease.token, []).append((lease.text, body, server_seconds(seconds)))
        plan = keys_of(filled[0][1].cls).identity
        kept = sum(self._tier.fill_items(plan, items, token) for token, items in by_token.items())
        self._tier._store._counters.add(puts=kept)
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
