"""A shared cache as a tier of the coherence protocol."""

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar
from weakref import WeakSet

from stockstore.backends.base import PartlyUnreachable
from stockstore.backends.coherent import CoherentBackend, Item
from stockstore.cells import TOKEN_SIZE
from stockstore.channels.choice import channel_of
from stockstore.coherence.protocol import Announcer, Answer, Standing, Writes
from stockstore.errors import CacheUnreachable
from stockstore.instrumentation import emit, listening
from stockstore.keys import Key, KeyPlan, Lookup, keys_of
from stockstore.lifetimes import shorter
from stockstore.stores.backed import BackendStore
from stockstore.stores.hiding import hidden_from
from stockstore.stores.snapshots import Snapshot
from stockstore.stores.tiers.backed_debts import BackendDebts
from stockstore.stores.tiers.backed_items import BackendItems
from stockstore.stores.tiers.backed_lists import BackendLists
from stockstore.stores.tiers.backed_places import BackendPlaces
from stockstore.stores.tiers.looks import BackendLease, Leasing, Look, Replaced, by_token
from stockstore.stores.tiers.telling import tell_end, tell_places

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")
Leases: TypeAlias = Mapping[str, BackendLease]
UNTOLD_SECONDS: Final = 3600.0
_NONE: Final[Leases] = {}
_log = logging.getLogger(__name__)


class Resolving(Protocol):
    """Takes away the markers of writers that have died."""

    def met(self, tier: "BackendTier", cells: Mapping[str, bytes]) -> object:
        """Note the markers that a reader has met; never raises."""


class BackendTier:
    """A store over a backend that compares and sets.

    Attributes:
        items: Packs objects for the server.
        debts: What the server could not be told.
        resolvers: Told of the markers that reads come across.
        channel: On which all who write to the server tell of it; ``None`` where there is none.
        untold_by: Those whose commits go on where the server cannot be told of them: while there are any, nothing is kept for longer
            than an hour.
    """

    remote = True
    announcer: Announcer | None = None

    def __init__(self, store: BackendStore, backend: CoherentBackend) -> None:
        """Serve a store."""
        self._store = store
        self._backend = backend
        self.debts = BackendDebts(store, backend)
        self.items = BackendItems(self, store)
        self.replaced = Replaced()
        self.resolvers: list[Resolving] = []
        self.untold_by: WeakSet[object] = WeakSet()
        self.channel = channel_of(backend)
        self.lists = BackendLists(self)

    def __repr__(self) -> str:
        """Name the store."""
        return repr(self._store)

    @property
    def carrier(self) -> "BackendTier | None":
        """The tier itself, where its server tells of what it is told."""
        return self if self.channel is not None else None

    def vouch(self, claim: object, carrier: object) -> None:
        """Note nothing: it is asked itself."""

    def standing(self) -> Standing:
        """Tell whether the server keeps markers, and lets others be told of them; asks it."""
        silence = self._backend.telling_loss()
        if silence is not None:
            return Standing("weak", silence)
        loss = self._backend.marker_loss()
        if loss is None:
            return Standing("strict", "its server keeps markers until they are released")
        return Standing("fast", loss)

    def holds(self, cls: type) -> bool:
        """Whether the store keeps objects of a class."""
        return self._store.holds(cls)

    def readable(self, cls: type) -> bool:
        """Whether nothing is owed to the server for a class."""
        return self.debts.are_settled(cls)

    def passed_by(self, cls: type, count: int) -> None:
        """Note reads that went past it for what is owed."""
        self._store._note("bypass", keys_of(cls).identity, count, "owed")

    # -- reading --------------------------------------------------------------------------------

    def lease(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> list[Answer[Snapshot]]:
        """Give what is there, and leases on the records that are not, in the positions of the keys.

        A server that does not answer is asked nothing more, and the tiers below are; or the error is raised, as the store's
        ``on_error`` says.
        """
        compiled = keys_of(cls)
        lookups = [compiled.lookup(key) for key in keys]
        hidden = hidden_from(session, cls, lookups, self._store.tenant_of)
        self._store._note_hidden(cls, hidden)
        visible = [lookup for lookup, hide in zip(lookups, hidden, strict=True) if not hide]
        look = Look(self._store, cls, visible, self.replaced)
        cells = self._cells(look) if visible else {}
        answers = iter(self._judge(cls, look, cells, len(visible)))
        return [Answer(None, marked=True) if hide else next(answers) for hide in hidden]

    def judge(self, cls: type, lookups: Sequence[Lookup], cells: dict[str, bytes] | None, leases: Leases) -> list[Answer[Snapshot]]:
        """Do as :meth:`lease` with what was just read for the identities asked for, and for their generations.

        Args:
            cls: Of which class the rows are.
            lookups: The identities.
            cells: What stands there; ``None`` where the server did not answer.
            leases: What was leased along with the read.
        """
        return self._judge(cls, Look(self._store, cls, lookups, self.replaced), cells, len(lookups), leases)

    def _judge(self, cls: type, look: Look, cells: dict[str, bytes] | None, number: int, leases: Leases = _NONE) -> list[Answer[Snapshot]]:
        plan = keys_of(cls).identity
        if cells is None:
            self._store._note("bypass", plan, number, "unreachable")
            return [Answer(None, silent=True)] * number
        look.take(cells)
        answers = look.answers(self.leases(look, leases))
        nothing = look.reasons(answers)
        self._store._note("hit", plan, len(answers) - sum(nothing.values()))
        for (kind, reason), count in nothing.items():
            self._store._note(kind, plan, count, reason)
        self.meet(look.marked)
        return answers

    def _cells(self, look: Look) -> dict[str, bytes] | None:
        try:
            return (self._backend.get_many if look.direct else self._backend.follow_many)(look.texts)
        except CacheUnreachable as error:
            self._report_unread(error)
            if not isinstance(error, PartlyUnreachable) or not error.found:
                return None
            look.lost = error.lost
            return error.found

    def asked(self, ask: Callable[[], T]) -> T | None:
        """Give what the server answers to a read, ``None`` where it does not; that is reported, or raised, as the store says."""
        try:
            return ask()
        except CacheUnreachable as error:
            self._report_unread(error)
            return None

    def _report_unread(self, error: CacheUnreachable) -> None:
        if self._store._on_error == "raise":
            raise error
        self.report("was not read; the tiers below are", error)

    def leases(self, look: Leasing, taken: Leases = _NONE) -> dict[str, BackendLease]:
        """Take the leases that a look wants and that were not taken yet, and tell it what stands where there was none to be had."""
        leases = {text: taken[text] for wanted in look.wanted.values() for text in wanted if text in taken}
        for generation, wanted in look.wanted.items():
            seen = {text: cell for text, cell in wanted.items() if text not in leases} if leases else wanted
            if not seen:
                continue
            token = secrets.token_bytes(TOKEN_SIZE)
            try:
                leased = self._backend.lease_many(seen, token, generation)
            except CacheUnreachable as error:
                self.report("gave no leases", error)
                break
            look.refuse(generation, leased)
            if leased.generation is not None:
                leases |= {text: BackendLease(text, token, leased.generation) for text in leased.granted}
        return leases

    def meet(self, marked: Mapping[str, bytes]) -> None:
        """Tell of markers that a read came across."""
        for resolver in self.resolvers if marked else ():
            resolver.met(self, marked)

    def give_back(self, leases: Iterable[object]) -> None:
        """Let them end by themselves: to tell the server would take a round trip."""

    def fill(self, filled: Sequence[tuple[object, Snapshot]]) -> int:
        """Keep what a lower tier gave, where the lease still stands; give how many were kept."""
        kept = 0
        for token, group in by_token(filled).items():
            plan, packed = self.items.leased(group)
            kept += 0 if plan is None else self.fill_items(plan, packed.items, token, packed.aliases)
        self._store._counters.add(puts=kept)
        return kept

    def fill_items(self, plan: KeyPlan, items: Sequence[Item], token: bytes, aliases: Sequence[Item] = ()) -> int:
        """Put values where a token's leases still stand, and give how many; counted under an identity."""
        kept, refusal = 0, "lease"
        try:
            kept = self._backend.fill_many(items, token, aliases)
        except CacheUnreachable as error:
            refusal = "unreachable"
            self.report("was not filled", error)
        self._store._note("fill", plan, kept)
        self._store._note("refused fill", plan, len(items) - kept, refusal)
        return kept

    def limited(self, seconds: float | None) -> float | None:
        """Give a lifetime as it is while there are commits of which the server may never be told."""
        return shorter(seconds, UNTOLD_SECONDS if len(self.untold_by) else None)

    # -- writing --------------------------------------------------------------------------------

    def locate(self, writes: Writes) -> BackendPlaces:
        """Give the keys of writes in the caller's namespace; no I/O."""
        return BackendPlaces(self._store._namespace(writes.tenant), writes, self._store)

    def texts(self, places: object) -> list[str]:
        """Give the keys that another process can invalidate."""
        return _mine(places).texts

    def told(self, places: object) -> list[str]:  # noqa: ARG002 - as other tiers
        """Give none: its server itself tells of them."""
        return []

    def mark(self, places: object, ticket: bytes) -> None:
        """Put markers; raises CacheUnreachable."""
        mine = _mine(places)
        records, shared, generations = mine.record_texts, [*mine.wide.values(), *mine.lists.values()], mine.generations()
        attempts = 0

        def mark() -> dict[str, bytes]:
            nonlocal attempts
            attempts += 1
            return self._backend.mark_many(records, ticket, shared, list(generations.values()))

        found = self._store._twice(mark)
        # The first one may be on its way still, and would make a late release of this ticket put its value once more.
        mine.repeated = attempts > 1
        mine.tokens = {plan: found[text] for plan, text in generations.items() if text in found}
        tell_places("mark", self._store, mine.places, mine.wide)

    def release(self, places: object, ticket: bytes, *, committed: bool, snapshots: Sequence[Snapshot] = ()) -> int:
        """Take markers away, keep exactly what was committed, and give how many had a generation; raises CacheUnreachable."""
        mine = _mine(places)
        values, aliases, kept = self.items.released(mine, snapshots if committed else ())
        release = partial(self._backend.release_many, mine.texts, ticket, committed=committed, values=values, aliases=aliases)
        self._store._twice(partial(release, renews=not mine.repeated))
        self._clear(mine.prefixes.values() if committed else ())
        self._store._counters.add(puts=len(values))
        tell_end(self._store, committed, mine.places, mine.wide, kept)
        return len(values)

    def invalidate(self, places: object) -> None:
        """Remove what stands at places; raises CacheUnreachable."""
        mine = _mine(places)
        self._store._twice(lambda: self._backend.invalidate_many(mine.texts))
        self._clear(mine.prefixes.values())
        tell_places("invalidate", self._store, mine.places, [*mine.wide, *mine.prefixes])

    def _clear(self, prefixes: Iterable[str]) -> None:
        for prefix in prefixes:
            self._store._twice(partial(self._backend.clear, prefix))

    def resolve(self, texts: Sequence[str], ticket: bytes) -> None:
        """Take a dead writer's markers away; raises CacheUnreachable."""
        held = self._backend.release_many(texts, ticket, committed=False)
        if listening:
            emit("resolve", self._store, count=held)

    def owe(self, places: object, ticket: bytes | None = None) -> None:
        """Invalidate, and release, as soon as the server answers again; until then nothing is read for these classes."""
        mine = _mine(places)
        tell_places("owe", self._store, mine.places, [*mine.wide, *mine.prefixes])
        self.debts.add(mine, ticket)

    def report(self, what: str, error: Exception) -> None:
        """Count an error and log it; what a server that is out of reach did not do, once a second."""
        self._store._counters.add(errors=1)
        if isinstance(error, CacheUnreachable):
            self._store._outages.warn(_log, f"%r {what}: %s", self._store, error)
        else:
            _log.warning("%r %s: %s", self._store, what, error)


def _mine(places: object) -> BackendPlaces:
    assert isinstance(places, BackendPlaces)
    return places
