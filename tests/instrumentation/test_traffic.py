"""Every kind of event from real traffic, with exact counts."""

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import update

from stockstore.backends.redis import RedisBackend
from stockstore.coherence.protocol import Outcome, Writes
from stockstore.keys import keys_of
from stockstore_ext.sqlalchemy.janitor import Janitor
from tests.instrumentation.metered import MakeShop, Part, Shop
from tests.servers.server import wait_until

NAMES = "memory", "redis"


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    """A shop with three parts that no cache has."""
    shop = make_shop()
    shop.add(1, 2, 3)
    return shop


def read(shop: Shop, *parts: int) -> list[str | None]:
    """Give the names of parts by the chain."""
    return [None if part is None else part.name for part in shop.chain.batch_get(Part, [*parts])]


def test_reads_miss_fill_and_hit(shop: Shop) -> None:
    """What the database answers is a miss and a fill of each cache; what no tier has is a miss of all."""
    assert read(shop, 1, 2, 9) == ["old", "old", None]
    misses = {(tier, "miss", ""): 3 for tier in NAMES}
    fills = {(tier, "fill", ""): 2 for tier in NAMES}
    assert shop.told() == {**misses, **fills, ("database", "hit", ""): 2, ("database", "miss", ""): 1}
    assert read(shop, 1, 2) == ["old", "old"]
    assert shop.chain.get(Part, 1) is not None
    assert shop.told() == {("memory", "hit", ""): 3}
    shop.chain.tiers[0].clear()
    assert read(shop, 1, 2, 3) == ["old"] * 3
    assert shop.told() == {
        ("memory", "miss", ""): 3,
        ("redis", "hit", ""): 2,
        ("redis", "miss", ""): 1,
        ("redis", "fill", ""): 1,
        ("memory", "fill", ""): 3,
        ("database", "hit", ""): 1,
    }


def test_the_same_in_the_statistics(shop: Shop) -> None:
    """The counts of stats are those of the events."""
    read(shop, 1, 2, 9)
    read(shop, 1)
    memory, redis, database = shop.chain.stats().tiers
    assert [(one.hits, one.misses, one.fills, one.refused_fills) for one in (memory, redis)] == [(1, 3, 2, 0), (0, 3, 2, 0)]
    assert (database.hits, database.misses) == (2, 1)
    assert (shop.chain.stats().hits, shop.chain.stats().fills) == (3, 4)


def test_a_class_is_called_as_its_keys_are(shop: Shop) -> None:
    """Each event of a read or write names the class."""
    read(shop, 1)
    shop.write(1)
    assert {event.cls for event in shop.events} == {keys_of(Part).identity.label}
    assert keys_of(Part).identity.label == "tests.instrumentation.metered.Part"


def test_a_commit_marks_releases_and_keeps(shop: Shop) -> None:
    """A commit of two rows, and a rollback that never came to a marker."""
    read(shop, 1, 2)
    shop.told()
    shop.write(1, 2)
    kinds = [("mark", ""), ("release", "committed"), ("keep", "")]
    assert shop.told() == {(tier, *kind): 2 for tier in NAMES for kind in kinds}
    assert read(shop, 1, 2) == ["new", "new"]
    assert shop.told() == {("memory", "hit", ""): 2}
    with shop.sessions() as session:
        session.get_one(Part, 1).name = "never"
        session.flush()
        session.rollback()
    assert shop.told() == {}


def test_a_class_wide_write_marks_the_class(make_shop: MakeShop) -> None:
    """Above the bulk limit the class is marked as one place, and what was there is of another generation."""
    shop = make_shop(bulk_limit=1)
    shop.add(1, 2, 3)
    read(shop, 1, 2, 3)
    shop.told()
    with shop.sessions.begin() as session:
        session.execute(update(Part).values(name="all"))
    assert shop.told() == {(tier, *kind): 1 for tier in NAMES for kind in [("mark", "class"), ("release", "committed")]}
    assert read(shop, 1, 2) == ["all", "all"]
    assert shop.told() == {
        ("memory", "miss", ""): 2,
        ("redis", "miss", "generation"): 2,
        ("database", "hit", ""): 2,
        **{(tier, "fill", ""): 2 for tier in NAMES},
    }


def test_invalidate(shop: Shop) -> None:
    """What a user names is invalidated in each tier: records one by one, a class as one place."""
    shop.sync.invalidate(Part, [1, 2])
    shop.sync.invalidate(Part)
    kinds = {("invalidate", ""): 2, ("invalidate", "class"): 1}
    assert shop.told() == {(tier, *kind): count for tier in NAMES for kind, count in kinds.items()}


def test_own_writes_are_bypassed(shop: Shop) -> None:
    """A session that has written a row reads it past every cache; the statistics say so too."""
    read(shop, 1)
    shop.told()
    with shop.sessions() as session:
        session.get_one(Part, 1).name = "mine"
        session.flush()
        assert [part and part.name for part in shop.chain.batch_get(Part, [1], session=session)] == ["mine"]
    assert shop.told() == {**{(tier, "bypass", "own write"): 1 for tier in NAMES}, ("database", "hit", ""): 1}
    assert [tier.bypasses for tier in shop.chain.stats().tiers] == [{"own write": 1}, {"own write": 1}, {}]
    assert shop.chain.stats().bypasses == {"own write": 2}


@pytest.mark.parametrize("reason", ["snapshot", "scope"])
def test_a_session_elsewhere_is_bypassed(make_shop: MakeShop, reason: str) -> None:
    """A transaction of one snapshot, and a session of other schemas, read past every cache, and say why."""
    shop = make_shop()
    shop.add(1)
    options = {"isolation_level": "REPEATABLE READ"} if reason == "snapshot" else {"schema_translate_map": {"none of ours": "elsewhere"}}
    with shop.sessions(bind=shop.engine.execution_options(**options)) as session:
        session.connection()
        assert shop.chain.get(Part, 1, session=session) is not None
    assert shop.told() == {**{(tier, "bypass", reason): 1 for tier in NAMES}, ("database", "hit", ""): 1}


def meanwhile(shop: Shop, monkeypatch: pytest.MonkeyPatch, step: Callable[[], object]) -> None:
    """Do something between the next read of the database and the fills."""
    reader = shop.chain._origin(Part).reader
    fetch, left = reader._origin, [step]

    def fetched(cls: type, keys: Any, **options: Any) -> Any:
        found = fetch(cls, keys, **options)
        while left:
            left.pop()()
        return found

    monkeypatch.setattr(reader, "_origin", fetched)


def test_a_fill_that_was_overtaken_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer who commits between the read of the database and the fill has both caches refuse it."""
    meanwhile(shop, monkeypatch, lambda: shop.write(1))
    assert read(shop, 1) == ["old"]
    told = shop.told()
    assert {name: count for name, count in told.items() if name[1] == "refused fill"} == {
        (tier, "refused fill", "lease"): 1 for tier in NAMES
    }
    assert [tier.refused_fills for tier in shop.chain.stats().tiers] == [1, 1, 0]
    assert read(shop, 1) == ["new"]


def test_marked_keys_are_bypassed(shop: Shop) -> None:
    """While a writer is between its markers and its commit each cache is bypassed."""
    writes = shop.sync._recording.through
    wide, narrow = Writes(), Writes()
    narrow.add(Part, 1)
    wide.add_class(Part)
    for written, reason in [(narrow, "marked"), (wide, "generation")]:
        located = writes.locate(written)
        writes.mark(located, b"writer")
        shop.told()
        assert read(shop, 1) == ["old"]
        assert shop.told() == {**{(tier, "bypass", reason): 1 for tier in NAMES}, ("database", "hit", ""): 1}
        writes.settle(located, Outcome.ROLLED_BACK)
        assert {name[1:] for name in shop.told()} == {("release", "rolled back")}


def test_a_dead_writers_marker_is_resolved(shop: Shop) -> None:
    """A marker of a transaction that has ended goes, and is told once."""
    with shop.engine.connect() as connection:
        means = shop.sync._recording.means_of(shop.engine)
        assert means is not None
        assert means.evidence is not None
        connection.execute(update(Part).values(name="dead"))
        ticket = means.evidence.ticket(connection)
        assert ticket is not None
        connection.rollback()
    text = keys_of(Part).identity.record_text(shop.chain.tiers[1].partition, 1)
    with closing(RedisBackend(shop.server.url)) as backend:
        backend.mark_many([text], ticket)
        shop.told()

        def resolved() -> bool:
            read(shop, 1)
            return any(event.kind == "resolve" for event in shop.events)

        wait_until(resolved, "the marker to be resolved")
    assert [(event.store, event.count) for event in shop.events if event.kind == "resolve"] == [(repr(shop.chain.tiers[1]), 1)]


def test_an_unreachable_cache_owes(make_shop: MakeShop) -> None:
    """What Redis could not be told it owes, is bypassed for that, and is told once it is back."""
    shop = make_shop(on_unreachable="commit")
    shop.add(1)
    read(shop, 1)
    shop.server.stop()
    shop.told()
    shop.chain.tiers[0].clear()
    assert read(shop, 1) == ["old"]
    told = shop.told()
    assert told["redis", "bypass", "unreachable"] == 1
    shop.write(1)
    assert shop.told()["redis", "owe", ""] == 1
    shop.chain.tiers[0].clear()
    assert read(shop, 1) == ["new"]
    assert shop.told()["redis", "bypass", "owed"] == 1
    shop.server.start()

    def delivered() -> bool:
        shop.chain.tiers[0].clear()
        read(shop, 1)
        return any(event.kind == "invalidate" for event in shop.events)

    wait_until(delivered, "Redis to be told")
    # The reader and the thread that pays what is owed may both have told it.
    assert {(event.reason, event.count) for event in shop.events if event.kind == "invalidate"} == {("owed", 1)}


def test_the_janitor_tells_the_lag(make_shop: MakeShop) -> None:
    """Rows that wait are told with their age, and each row that was drained."""
    shop = make_shop(outbox=True)
    shop.add(1, 2)
    shop.write(1)
    shop.write(2)
    shop.told()
    janitor = Janitor(shop.engine, [shop.chain])
    stop = threading.Event()
    janitor._tell_lag()
    (waiting,) = shop.events
    assert (waiting.kind, waiting.count, waiting.seconds > 0) == ("outbox lag", 2, True)
    shop.events.clear()
    assert janitor.run_once() == 2
    assert shop.told() == {("outbox", "drain", ""): 2, ("outbox", "outbox lag", ""): 0}
    thread = threading.Thread(target=janitor.run, args=[stop])
    thread.start()
    wait_until(lambda: bool(shop.events), "the janitor's round")
    stop.set()
    thread.join()
    rounds = [event for event in shop.events if event.kind == "outbox lag"]
    assert rounds
    assert {(event.count, event.seconds) for event in rounds} == {(0, 0.0)}
