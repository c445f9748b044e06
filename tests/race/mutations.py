"""The defences of the protocol, each with the race and the model in which its want is most likely to show."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from tests.model import memory
from tests.model.memory import REMOTE, UNSEEN, Memory
from tests.model.protocols import STRICT, STRICT_OUTBOX, Protocol
from tests.model.state import INVISIBLE, KEYED, WIDE, WIDE_ELSEWHERE, Faults
from tests.race import takings
from tests.race.checker import AT_REST_SORTS, BOUNDED_SORTS, NON_LINEARIZABLE, SORTS, STALE
from tests.race.failpoints import Odds
from tests.race.job import DRAIN_SECONDS
from tests.race.options import Options

AFTER_ACK, AFTER_COMMIT, AT_REST, BEYOND = "stale after acknowledgement", "stale after commit", "stale at rest", "stale beyond the bound"
_MAX_STALENESS: Final = 0.3
_LOSE: Final = 0.3
_DROPS_MARKERS: Final = {"flush", "restart"}


class Defect(NamedTuple):
    """A defence less in the model.

    Attributes:
        field: What its want is called there.
        wrong: What goes wrong then, and does not with it.
        protocol: Of what it is taken away.
        writers: Who writes.
        faults: What may happen.
        readers: How many read.
    """

    field: str
    wrong: str
    protocol: Protocol | Memory
    writers: tuple[str, ...]
    faults: Faults | memory.Faults
    readers: int = 2


class Mutation(NamedTuple):
    """A defence, how it is taken away, and in what race and model its want is looked for.

    Attributes:
        take_away: Patches the process that calls it; its first line says what is left then.
        defect: The same in the model.
        raised: The points at which processes are held up, and how likely.
        longest: For how many seconds at most.
        one_in: In one in how many processes, as far as writers are held up.
        faults: What is injected.
        haste: How many times as often as usual.
        kill: How likely a process is to die at a point.
        outbox: Whether the outbox is in use, which makes good what some defences are for.
        drain_every: The seconds between two looks of the janitor.
        ways: The ways to write, with their weights; all where there are none.
        keys: How many hot rows there are.
        think: The longest pause of a writer after a transaction, in seconds.
        memory: What keeps process memory true, where there is any.
        round: For how many seconds it is raced at the most until it is looked at what is left at rest.
    """

    take_away: Callable[[], None]
    defect: Defect
    raised: Mapping[str, float] = {}
    longest: float = 0.1
    one_in: int = 1
    faults: tuple[str, ...] = ()
    haste: float = 1.0
    kill: float = 0.0
    outbox: bool = False
    drain_every: float = DRAIN_SECONDS
    ways: Mapping[str, int] | None = {"change_objects": 1}
    keys: int = 4
    think: float = 0.02
    memory: str | None = None
    round: float = 60.0

    @property
    def removed(self) -> str:
        """What is left of the defence."""
        return str(self.take_away.__doc__)

    @property
    def spared(self) -> frozenset[str]:
        """What may go wrong with the defence, too: who loses a writer's marker opens the gap between its COMMIT and its release."""
        return frozenset([NON_LINEARIZABLE] if _DROPS_MARKERS & set(self.faults) else [])

    @property
    def told(self) -> frozenset[str]:
        """The sorts of wrong that its want shows by; others are errors."""
        return frozenset({*SORTS, *BOUNDED_SORTS, *AT_REST_SORTS}) - self.spared

    def race(self, options: Options) -> Options:
        """Give a race in which it would show, with the defence in place, that ends with the first wrong read."""
        bounded = {STALE, NON_LINEARIZABLE} if self.memory else frozenset()
        return replace(
            options,
            stop_at=tuple({*SORTS, *BOUNDED_SORTS} - self.spared - bounded),
            faults=self.faults,
            haste=self.haste,
            odds=Odds(self.kill, 0.0, self.longest, self.raised, _LOSE if "lose" in self.faults else 0.0, self.one_in),
            outbox=self.outbox,
            drain_every=self.drain_every,
            ways=self.ways,
            keys=self.keys,
            think=self.think,
            memory=self.memory,
            max_staleness=_MAX_STALENESS,
            on_unreachable="abort",
            protocol="strict",
        )


_CHANNEL: Final = Memory()
MUTATIONS: Final[dict[str, Mutation]] = {
    "a fill looks for its lease": Mutation(
        takings.fill_unleased,
        Defect("unleased", AT_REST, STRICT, (KEYED, KEYED), Faults(), 1),
        {"before fill": 0.5},
        longest=0.2,
        faults=("flush",),
        haste=8,
        keys=2,
    ),
    "no lease over a marker": Mutation(
        takings.lease_over_markers,
        Defect("leases_over_markers", AFTER_COMMIT, STRICT, (KEYED, KEYED), Faults()),
        {"before lease": 0.5, "after mark": 0.5, "after commit": 0.5, "before fill": 0.3},
        longest=0.2,
        ways={"change_objects": 4, "change_by_text": 1},
        keys=3,
        think=0.1,
    ),
    "a value for a sole marker only": Mutation(
        takings.always_value,
        Defect("releases_always_with_value", AFTER_COMMIT, STRICT, (KEYED, KEYED), Faults(), 1),
        {"after commit": 0.5},
    ),
    "a mark before the commit": Mutation(
        takings.no_mark, Defect("marks", AFTER_COMMIT, STRICT, (KEYED, KEYED), Faults(), 1), {"after commit": 0.2}
    ),
    "a mark joins the marks of others": Mutation(
        takings.blind_mark,
        Defect("blind_generation", AFTER_COMMIT, STRICT, (WIDE, WIDE_ELSEWHERE), Faults()),
        {"after mark": 0.9, "after commit": 0.9, "before fill": 0.8},
        longest=0.5,
        one_in=2,
        ways={"change_by_text": 1},
        keys=4,
        think=0.8,
    ),
    "invalidate leaves markers": Mutation(
        takings.delete_for_invalidate,
        Defect("janitor_deletes", AFTER_COMMIT, STRICT_OUTBOX, (KEYED, INVISIBLE), Faults()),
        {"after mark": 0.8, "after commit": 0.8, "before fill": 0.5},
        longest=0.4,
        outbox=True,
        drain_every=0.25,
        keys=2,
    ),
    "a release removes what stands where its marker was lost": Mutation(
        takings.keep_where_marker_was_lost,
        Defect("keeps_where_marker_was_lost", AT_REST, replace(STRICT, pinned=False), (KEYED,), Faults(evictions=1), 1),
        {"after mark": 0.7},
        longest=0.3,
        faults=("flush",),
        haste=8,
        keys=8,
        think=0.2,
    ),
    "nothing is believed of an earlier life of the server": Mutation(
        takings.no_server_id,
        Defect("believes_earlier_lives", AFTER_ACK, STRICT, (KEYED,), Faults(restarts=1), 1),
        faults=("restart",),
        haste=3,
        keys=16,
    ),
    "a released value has the generation of the mark": Mutation(
        takings.generation_of_the_release,
        Defect("generation_of_the_release", AT_REST, STRICT, (KEYED, WIDE), Faults(), 1),
        {"after commit": 0.9},
        longest=0.5,
        one_in=2,
        ways={"change_objects": 1, "change_by_text": 1},
        keys=2,
        think=0.2,
    ),
    "dead writers' markers are resolved": Mutation(
        takings.no_resolver,
        Defect("resolver", "marker left", STRICT, (KEYED,), Faults(crashes=1), 1),
        faults=("kill",),
        kill=0.05,
        keys=16,
        round=4.0,
    ),
    "memory is believed for max_staleness": Mutation(
        takings.no_limit,
        Defect("believes_for_ever", BEYOND, Memory(channel=False), (REMOTE,), memory.Faults()),
        keys=16,
        think=0.1,
        memory="bounded",
    ),
    "a mark is published": Mutation(
        takings.mark_unpublished,
        Defect("publishes_late", AT_REST, _CHANNEL, (REMOTE,), memory.Faults(crashes=1)),
        keys=16,
        think=0.1,
        memory="channel",
    ),
    "a release that has lost its marker is published": Mutation(
        takings.loss_unpublished,
        Defect("lost_unpublished", AT_REST, _CHANNEL, (REMOTE,), memory.Faults(losses=1)),
        {"after mark": 0.7},
        longest=0.4,
        faults=("flush",),
        haste=8,
        keys=16,
        think=0.3,
        memory="channel",
    ),
    "an invalidation is published": Mutation(
        takings.invalidation_unpublished,
        Defect("janitor_silent", AT_REST, _CHANNEL, (UNSEEN,), memory.Faults()),
        outbox=True,
        keys=16,
        think=0.5,
        memory="channel",
    ),
    "memory is flushed after each subscription": Mutation(
        takings.no_flush_of_subscribers,
        Defect("never_flushes", AT_REST, _CHANNEL, (REMOTE,), memory.Faults(cuts=1)),
        faults=("cut",),
        haste=2,
        keys=32,
        memory="channel",
    ),
    "a gap flushes": Mutation(
        takings.no_gap,
        Defect("ignores_gaps", BEYOND, _CHANNEL, (REMOTE,), memory.Faults(drops=1)),
        faults=("lose",),
        keys=32,
        think=0.1,
        memory="channel",
    ),
    "a message spoils leases": Mutation(
        takings.leases_spared,
        Defect("spares_leases", AT_REST, _CHANNEL, (REMOTE,), memory.Faults()),
        {"after read": 0.3, "before fill": 0.5},
        faults=("flush",),
        haste=8,
        keys=16,
        think=0.1,
        memory="channel",
    ),
    "silence is counted from the question": Mutation(
        takings.counted_from_the_answer,
        Defect("pong_counts", BEYOND, _CHANNEL, (REMOTE,), memory.Faults(ticks=3)),
        {"before message": 0.3},
        longest=1.0,
        keys=16,
        think=0.2,
        memory="channel",
    ),
}


def take_away(name: str | None) -> None:
    """Take a defence away from this process."""
    if name is not None:
        MUTATIONS[name].take_away()
