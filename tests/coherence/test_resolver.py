import logging
import threading
from collections.abc import Collection, Iterator, Sequence

import pytest
from sqlalchemy import Engine, create_engine

from stockstore.coherence import resolver as module
from stockstore.coherence.resolver import Resolver
from stockstore.errors import CacheUnreachable, ConfigurationError
from stockstore.evidence import Outbox, OutboxEvidence


class Told:
    """A tier that notes what it was told to resolve."""

    def __init__(self) -> None:
        self.resolved: list[tuple[tuple[str, ...], bytes]] = []

    def resolve(self, texts: Sequence[str], ticket: bytes) -> None:
        """Note it."""
        self.resolved.append((tuple(texts), ticket))


class Asked(OutboxEvidence):
    """Evidence that notes what it was asked."""

    def __init__(self, engine: Engine, outbox: Outbox) -> None:
        super().__init__(engine, outbox)
        self.asked: list[list[bytes]] = []

    def decided(self, tickets: Collection[bytes]) -> set[bytes]:
        """Note the question."""
        self.asked.append(sorted(tickets))
        return super().decided(tickets)

    def new(self) -> bytes:
        """Give a new ticket."""
        with self._engine.connect() as connection:
            ticket = self.ticket(connection)
        assert ticket is not None
        return ticket


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Give the time that was set."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the resolver."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def outbox(engine: Engine) -> Iterator[Outbox]:
    """An empty outbox."""
    outbox = Outbox()
    outbox.create(engine)
    yield outbox
    outbox.definition.drop(engine)


@pytest.fixture
def evidence(engine: Engine, outbox: Outbox) -> Asked:
    """Evidence by that outbox."""
    return Asked(engine, outbox)


def test_a_marker_is_doubted_a_second_after_it_was_met(clock: Clock, evidence: Asked) -> None:
    """Not before, however often it is met; then it is resolved at once on the keys that were met."""
    resolver, tier, ticket = Resolver(evidence), Told(), evidence.new()
    for _ in range(10):
        assert resolver.met(tier, {"a:b:1": b"W-" + ticket}) == 0
        clock.now += 0.09
    assert evidence.asked == []
    clock.now = 1001.0
    assert resolver.met(tier, {"a:b:1": b"W-" + ticket, "a:b:2": b"W-" + ticket}) == 1
    assert evidence.asked == [[ticket]]
    assert tier.resolved == [(("a:b:1", "a:b:2"), ticket)]


def test_an_open_transaction_is_asked_about_once_a_second(clock: Clock, evidence: Asked, engine: Engine, outbox: Outbox) -> None:
    """Its marker stays until it has ended."""
    resolver, tier, ticket = Resolver(evidence, after=0), Told(), evidence.new()
    with engine.connect() as connection:
        outbox.write(connection, ticket, ["a:b:1"])
        for _ in range(30):
            resolver.met(tier, {"a:b:1": b"W-" + ticket})
            clock.now += 0.1
        assert len(evidence.asked) == 3
        assert tier.resolved == []
        connection.commit()
    clock.now += 1
    resolver.met(tier, {"a:b:1": b"W-" + ticket})
    assert tier.resolved == [(("a:b:1",), ticket)]


def test_what_is_known_to_be_over_is_not_asked_again(clock: Clock, evidence: Asked) -> None:
    """Its markers on other keys and in other tiers go at once."""
    resolver, one, two, ticket = Resolver(evidence, after=0), Told(), Told(), evidence.new()
    resolver.met(one, {"a:b:1": b"W-" + ticket})
    resolver.met(one, {"a:b:2": b"W-" + ticket})
    resolver.met(two, {"a:b:1": b"W-" + ticket})
    assert len(evidence.asked) == 1
    assert one.resolved == [(("a:b:1",), ticket), (("a:b:2",), ticket)]
    assert two.resolved == [(("a:b:1",), ticket)]


def test_all_that_are_due_are_asked_about_at_once(clock: Clock, evidence: Asked, engine: Engine, outbox: Outbox) -> None:
    """Also the several tickets of one cell; each is resolved where it was met, and those of open transactions are not."""
    dead, other, alive = evidence.new(), evidence.new(), evidence.new()
    resolver, tier = Resolver(evidence, after=0), Told()
    cells = {"a:b:": b"W+" + b"|".join((dead, alive, other)), "a:b:1": b"W-" + other, "a:b:2": b"V not a marker"}
    with engine.connect() as connection:
        outbox.write(connection, alive, ["a:b:"])
        expected = 0 if engine.dialect.name == "sqlite" else 2  # SQLite cannot tell whose transaction is open
        assert resolver.met(tier, cells) == expected
        assert evidence.asked == [sorted((dead, other, alive))]
        connection.rollback()
    clock.now += 1
    resolver.met(tier, cells)
    assert sorted(set(tier.resolved)) == sorted([(("a:b:",), dead), (("a:b:",), alive), (("a:b:", "a:b:1"), other)])


def test_a_foreign_marker_is_left_and_told_once(clock: Clock, evidence: Asked, caplog: pytest.LogCaptureFixture) -> None:
    """Its database would have to be asked."""
    caplog.set_level(logging.INFO)
    resolver, tier = Resolver(evidence, after=0), Told()
    for cell in (b"W-1.2.3", b"W+", b"W-", b"W", b"W-outbox.1.2.3|\xff", b""):
        assert resolver.met(tier, {"a:b:1": cell}) == 0
    assert (evidence.asked, tier.resolved) == ([], [])
    assert caplog.text.count("is not of the database") == 1


def test_a_reader_does_not_wait_for_another_that_asks(clock: Clock, evidence: Asked) -> None:
    """While one asks, others go on, and do not ask."""
    asking, answer = threading.Event(), threading.Event()
    resolver, ticket = Resolver(evidence, after=0), evidence.new()
    real = evidence.decided

    def slow(tickets: Collection[bytes]) -> set[bytes]:
        asking.set()
        assert answer.wait(10)
        return real(tickets)

    evidence.decided = slow  # type: ignore[method-assign]
    tier = Told()
    first = threading.Thread(target=resolver.met, args=[tier, {"a:b:1": b"W-" + ticket}])
    first.start()
    assert asking.wait(10)
    assert resolver.met(tier, {"a:b:1": b"W-" + ticket}) == 0
    answer.set()
    first.join(10)
    assert tier.resolved == [(("a:b:1",), ticket)]


def test_what_fails_is_told_once_and_tried_again(clock: Clock, engine: Engine, evidence: Asked, caplog: pytest.LogCaptureFixture) -> None:
    """A database that cannot be asked, and a cache that cannot be told, end no read."""
    ticket = evidence.new()

    class Dead(Told):
        def resolve(self, texts: Sequence[str], ticket: bytes) -> None:
            raise CacheUnreachable("the cache is down")

    resolver, tier = Resolver(evidence, after=0), Told()
    reachable, evidence._engine = evidence._engine, create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    for _ in range(3):
        assert resolver.met(tier, {"a:b:1": b"W-" + ticket}) == 0
        clock.now += 1
    assert caplog.text.count("cannot be resolved now") == 1
    evidence._engine = reachable
    assert resolver.met(Dead(), {"a:b:1": b"W-" + ticket}) == 0
    assert caplog.text.count("cannot be resolved now") == 2
    assert resolver.met(tier, {"a:b:1": b"W-" + ticket}) == 1


def test_memory_is_bounded(clock: Clock, evidence: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not met for longest is forgotten, and its second begins again."""
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    resolver, tier = Resolver(evidence), Told()
    tickets = [evidence.new() for _ in range(5)]
    for ticket in tickets:
        resolver.met(tier, {"a:b:1": b"W-" + ticket})
    assert len(resolver._asks) == 3
    clock.now += 1
    resolver.met(tier, {"a:b:1": b"W-" + tickets[0]})
    resolver.met(tier, {"a:b:1": b"W-" + tickets[4]})
    assert tier.resolved == [(("a:b:1",), tickets[4])]


def test_many_threads_meet_one_marker(clock: Clock, evidence: Asked) -> None:
    """The database is asked once."""
    resolver, tier, ticket = Resolver(evidence, after=0), Told(), evidence.new()
    start = threading.Barrier(8)

    def meet() -> None:
        start.wait()
        resolver.met(tier, {"a:b:1": b"W-" + ticket})

    threads = [threading.Thread(target=meet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(evidence.asked) == 1
    assert (("a:b:1",), ticket) in tier.resolved


@pytest.mark.parametrize("after", [-1, float("nan")])
def test_the_wait_is_a_number_of_seconds(evidence: Asked, after: float) -> None:
    """The error shows what was given."""
    with pytest.raises(ConfigurationError, match=f"not {after!r}"):
        Resolver(evidence, after=after)
