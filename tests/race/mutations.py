"""The defences of the protocol, each of which can be taken away from the processes of a race.

Their scripts and methods are patched in the processes, never in files. A patch that does not fit any more is an error.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from tests.model import memory
from tests.model.machine import INVISIBLE, KEYED, WIDE, WIDE_ELSEWHERE, Faults
from tests.model.memory import REMOTE, UNSEEN, Memory
from tests.model.protocols import STRICT, STRICT_OUTBOX, Protocol


def _in_script(name: str, *changes: tuple[str, str]) -> None:
    """Change the text of a step's script, wherever it is used."""
    from stockstore.backends import redis, redis_scripts

    step = getattr(redis_scripts, name)
    text = step.text
    for old, new in changes:
        if text.count(old) != 1:
            raise LookupError(f"the script {name} does not have {old!r} once, so that this defence cannot be taken away")
        text = text.replace(old, new)
    changed = redis_scripts._script(text)
    for module in (redis, redis_scripts):
        for known in [known for known, value in vars(module).items() if value is step]:
            setattr(module, known, changed)


def _fill_unleased() -> None:
    _in_script("FILL", ("elseif cells[i] == lease then", "else"))


def _lease_over_markers() -> None:
    _in_script("LEASE", ("local free = not cell or", "local free = not cell or tag == 87 or"))


def _always_value() -> None:
    _in_script("RELEASE", ("if old == mine then", "if is_marker(old) then"))


def _no_mark() -> None:
    from stockstore.backends.redis import RedisBackend

    def mark_many(
        self: RedisBackend, keys: Sequence[str], ticket: bytes, shared: Sequence[str] = (), generations: Sequence[str] = ()
    ) -> Any:
        return {}

    RedisBackend.mark_many = mark_many  # type: ignore[method-assign]


def _blind_mark() -> None:
    _in_script("MARK", ("is_marker(cell) and joined(cell, ticket) or mine", "mine"))


def _delete_for_invalidate() -> None:
    _in_script("INVALIDATE", ("if is_marker(cell) then", "if false then"))


def _keep_where_marker_was_lost() -> None:
    _in_script(
        "RELEASE",
        ("elseif cell and committed then\n        gone[#gone + 1] = key", ""),
        ("call('SET', key, old) else call('DEL', key) end", "call('SET', key, old) elseif old then call('SET', key, old) end"),
    )


def _no_server_id() -> None:
    from stockstore.backends import redis_cluster, redis_exchange

    for name in ("FOLLOW", "LEASE", "MARK", "INVALIDATE"):
        _in_script(name, ("return (tag == 86 or tag == 76)", "return false and (tag == 86 or tag == 76)"))

    def usable_cells(keys: Sequence[str], cells: Sequence[bytes | None], life: bytes) -> dict[str, bytes]:
        return {key: cell for key, cell in zip(keys, cells, strict=True) if cell is not None}

    redis_exchange.usable_cells = redis_cluster.usable_cells = usable_cells  # type: ignore[attr-defined]


def _generation_of_the_release() -> None:
    from stockstore.backends.redis import RedisBackend
    from stockstore.cells import generation_of

    release = RedisBackend.release_many

    def release_many(self: RedisBackend, keys: Sequence[str], ticket: bytes, *, values: Sequence[Any] = (), **options: Any) -> int:
        changed = []
        for key, body, lasts in values:
            name = ":".join(key.split(":")[:2]) + ":"
            token = generation_of(self.get_many([name]).get(name))
            changed += [(key, body[:9] + token + body[17:], lasts)] if token else []
        return release(self, keys, ticket, values=changed, **options)

    RedisBackend.release_many = release_many  # type: ignore[method-assign]


def _no_resolver() -> None:
    from stockstore.coherence.resolver import Resolver

    Resolver.met = lambda *_: 0  # type: ignore[method-assign]


def _mark_unpublished() -> None:
    _in_script("MARK", ("publish(ticket, marked)\nlocal generations", "local generations"))


def _loss_unpublished() -> None:
    _in_script("RELEASE", ("if committed and held < marked then publish(ticket, marked) end", ""))


def _invalidation_unpublished() -> None:
    _in_script("INVALIDATE", ("publish(ARGV[#ARGV - 1], #KEYS)", ""))


def _no_flush_of_subscribers() -> None:
    from stockstore.channels.receiver import Receiver

    def flush_new(self: Receiver, reason: str) -> bool:
        new = [contact for contact in list(self._contacts) if contact.flushed_at == math.inf]
        for contact in new:
            contact.flushed_at = time.monotonic()
        return bool(new)

    Receiver.flush_new = flush_new  # type: ignore[method-assign]


def _no_gap() -> None:
    from stockstore.channels.receiver import Receiver

    Receiver.flush = lambda *_: None  # type: ignore[method-assign]


def _leases_spared() -> None:
    from stockstore.coherence.claims import Claims

    Claims.invalidate = lambda *_: None  # type: ignore[method-assign]
    Claims.invalidate_all = lambda *_: None  # type: ignore[method-assign]


def _counted_from_the_answer() -> None:
    from stockstore.channels.receiver import Receiver

    confirm = Receiver.confirm
    Receiver.confirm = lambda self, moment: confirm(self, max(moment, time.monotonic()))  # type: ignore[method-assign]


def _no_limit() -> None:
    from stockstore.stores.tiers.local import LocalTier

    LocalTier.limit = property(lambda _: None)  # type: ignore[method-assign, assignment]


class Mutation(NamedTuple):
    """A defence, how it is taken away, and under what the race is run that is to tell.

    Attributes:
        take_away: Patches the process that calls it.
        faults: What is injected.
        raised: The points at which processes are held up.
        outbox: Whether the outbox is in use, which makes good what some defences are for.
        ways: The ways to write, with their weights, where not all are used.
        keys: How many hot rows there are.
        kill: How likely it is to die at a point.
        defect: What it is called in the model.
        model: What the model check is run with.
        memory: What keeps process memory true, where there is any.
    """

    take_away: Callable[[], None]
    faults: tuple[str, ...]
    raised: Mapping[str, float]
    defect: str | None
    model: tuple[Protocol, tuple[str, ...], Faults] | tuple[Memory, tuple[str, ...], memory.Faults] = (STRICT, (KEYED, KEYED), Faults())
    outbox: bool = False
    ways: Mapping[str, int] | None = None
    keys: int = 16
    kill: float = 0.0
    memory: str | None = None


CHANNEL: Final = Memory()
_SLOW_COMMIT: Final = {"after mark": 0.1, "after commit": 0.1}
MUTATIONS: Final[dict[str, Mutation]] = {
    "a fill looks for its lease": Mutation(_fill_unleased, (), {"before fill": 0.2}, "unleased"),
    "no lease over a marker": Mutation(_lease_over_markers, (), {"before lease": 0.2, **_SLOW_COMMIT}, "leases_over_markers"),
    "a value for a sole marker only": Mutation(
        _always_value,
        (),
        {"after commit": 0.5},
        "releases_always_with_value",
        keys=4,
        ways={"change_objects": 1},
    ),
    "a mark before the commit": Mutation(_no_mark, (), {"after commit": 0.2}, "marks"),
    "a mark joins the marks of others": Mutation(
        _blind_mark,
        ("kill",),
        {"after mark": 0.3, "after commit": 0.5, "before fill": 0.3},
        "blind_generation",
        (STRICT, (WIDE, WIDE_ELSEWHERE), Faults()),
        ways={"change_widely": 3, "change_by_text": 3},
        kill=0.02,
    ),
    "invalidate leaves markers": Mutation(
        _delete_for_invalidate,
        (),
        {"after mark": 0.3, "after commit": 0.3, "before fill": 0.3},
        "janitor_deletes",
        (STRICT_OUTBOX, (KEYED, INVISIBLE), Faults()),
        keys=4,
        outbox=True,
    ),
    "a release removes what stands where its marker was lost": Mutation(
        _keep_where_marker_was_lost,
        ("flush",),
        {"after mark": 0.3, "before fill": 0.2},
        "keeps_where_marker_was_lost",
        (replace(STRICT, pinned=False), (KEYED,), Faults(evictions=1)),
    ),
    "nothing is believed of an earlier life of the server": Mutation(_no_server_id, ("restart",), {}, None, ways={"change_objects": 1}),
    "a released value has the generation of the mark": Mutation(
        _generation_of_the_release,
        (),
        {"after commit": 0.5},
        "generation_of_the_release",
        (STRICT, (KEYED, WIDE), Faults()),
        keys=10,
        ways={"change_objects": 6, "change_widely": 2},
    ),
    "dead writers' markers are resolved": Mutation(
        _no_resolver, ("kill",), {}, "resolver", (STRICT, (KEYED,), Faults(crashes=1)), kill=0.02
    ),
    "memory is believed for max_staleness": Mutation(
        _no_limit, (), {}, "believes_for_ever", (Memory(channel=False), (REMOTE,), memory.Faults()), memory="bounded"
    ),
    "a mark is published": Mutation(
        _mark_unpublished, (), {}, "publishes_late", (CHANNEL, (REMOTE,), memory.Faults(crashes=1)), memory="channel"
    ),
    "a release that has lost its marker is published": Mutation(
        _loss_unpublished,
        ("flush",),
        {"after mark": 0.3, "before fill": 0.2},
        "lost_unpublished",
        (CHANNEL, (REMOTE,), memory.Faults(losses=1)),
        memory="channel",
    ),
    "an invalidation is published": Mutation(
        _invalidation_unpublished, (), {}, "janitor_silent", (CHANNEL, (UNSEEN,), memory.Faults()), outbox=True, memory="channel"
    ),
    "memory is flushed after each subscription": Mutation(
        _no_flush_of_subscribers, ("cut",), {}, "never_flushes", (CHANNEL, (REMOTE,), memory.Faults(cuts=1)), memory="channel"
    ),
    "a gap flushes": Mutation(_no_gap, ("lose",), {}, None, ways={"change_objects": 1}, memory="channel"),
    "a message spoils leases": Mutation(
        _leases_spared, (), {"before fill": 0.5}, "spares_leases", (CHANNEL, (REMOTE,), memory.Faults()), memory="channel"
    ),
    "silence is counted from the question": Mutation(
        _counted_from_the_answer,
        ("stop",),
        {"before message": 0.5},
        "pong_counts",
        (CHANNEL, (REMOTE,), memory.Faults(ticks=3)),
        memory="channel",
    ),
}


def take_away(name: str | None) -> None:
    """Take a defence away from this process."""
    if name is not None:
        MUTATIONS[name].take_away()
