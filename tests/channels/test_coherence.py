"""Two processes' memories above one Redis: what each of them believes while the other writes."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore
from stockstore.evidence import Outbox
from stockstore.instrumentation import Event, hooked
from stockstore.stores.tiers import tier_of
from stockstore.stores.tiers.ears import Ear
from stockstore_ext.sqlalchemy import SessionSync, triggers
from stockstore_ext.sqlalchemy.janitor import Janitor
from tests.channels.conftest import Sides
from tests.channels.sides import Side, client_of, heard, two_sides, unseen
from tests.stores.listed import Animal
from tests.stores.shop import Customer


def test_an_entry_lives_until_somebody_writes_it(sides: Sides) -> None:
    """What another process writes is dropped within moments; what nobody writes stays beyond ``max_staleness``."""
    mine, theirs = sides
    unseen(mine.engine, "unseen")
    assert [(mine.name(), theirs.name()), (mine.kept(), theirs.kept())] == [("old", "old")] * 2
    (node,) = mine.memory._shelves.found(mine.memory._namespace(), _identity(), alias=False).values()
    assert node.expires == math.inf
    theirs.write("new")
    theirs.caught_up()
    assert (mine.kept(), mine.name(), mine.kept()) == (None, "new", "new")


def test_an_own_write_keeps_its_own_value(sides: Sides) -> None:
    """A process hears of its own write, and its memory keeps what it has written."""
    mine, _ = sides
    mine.write("mine")
    unseen(mine.engine, "unseen")
    mine.caught_up()
    assert (mine.kept(), mine.name()) == ("mine", "mine")


@pytest.mark.parametrize("outbox", [False, True], ids=["fast", "outbox"])
def test_on_sqlite(request: pytest.FixtureRequest, redis_url: str, namespace: str, outbox: bool) -> None:
    """The same where writers have no evidence and invalidate afterwards, and where the outbox is theirs."""
    engine = request.getfixturevalue("outboxed" if outbox else "lite")
    with two_sides(redis_url, engine, namespace=namespace) as (mine, theirs):
        theirs.write("new")
        unseen(engine, "unseen")
        theirs.caught_up()
        assert (mine.kept(), theirs.kept()) == (None, "new")
        assert (mine.name(), mine.kept()) == ("new", "new")


def test_a_write_between_lease_and_fill(sides: Sides) -> None:
    """A reader that has read the old row may not keep it once the message has come."""
    mine, theirs = sides
    mine.redis.clear()
    mine.memory.clear()
    mine.caught_up()

    def write() -> None:
        theirs.write("new")
        theirs.caught_up()

    mine.database.after_read = write
    assert mine.name() == "old"
    assert mine.kept() is None
    assert (mine.name(), mine.kept()) == ("new", "new")


def test_a_message_that_is_late_for_the_fill(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that keeps the old row before the message has come loses it by the message."""
    mine, theirs = sides
    mine.redis.clear()
    mine.memory.clear()
    mine.caught_up()
    tier: Any = tier_of(mine.memory)
    fill = tier.fill

    def late(filled: Any) -> int:
        kept: int = fill(filled)
        assert mine.kept() == "old"
        theirs.write("new")
        theirs.caught_up()
        return kept

    monkeypatch.setattr(tier, "fill", late)
    assert mine.name() == "old"
    monkeypatch.undo()
    assert (mine.kept(), mine.name()) == (None, "new")


def test_a_read_while_another_is_between_mark_and_commit(sides: Sides) -> None:
    """From the mark on nothing old is kept; after the commit, be the writer killed then, nothing old is read."""
    mine, theirs = sides
    during: list[str | None] = []

    def before_commit() -> None:
        theirs.caught_up()
        during.extend([mine.kept(), mine.name(), mine.kept()])

    def after_commit() -> None:
        during.extend([mine.name(), mine.kept()])

    theirs.database.before_commit, theirs.database.after_commit = before_commit, after_commit
    theirs.write("new")
    assert during == [None, "old", None, "new", None]
    mine.caught_up()
    assert (mine.name(), mine.kept()) == ("new", "new")


def test_anothers_message_while_one_writes(sides: Sides) -> None:
    """Whoever hears, between mark and release, that another has written the key too keeps no value of his own."""
    mine, theirs = sides

    def invalidate() -> None:
        theirs.redis.delete(Customer, 1)
        theirs.caught_up()

    mine.database.before_commit = invalidate
    mine.write("mine")
    assert (mine.kept(), mine.name()) == (None, "mine")


def test_a_missing_message(sides: Sides, redis_url: str) -> None:
    """A number that nobody heard of empties memory, at the latest with the next beat."""
    mine, _ = sides
    events: list[Event] = []
    with hooked(events.append):
        client_of(redis_url).incr("stockstore~0")
        mine.caught_up()
        assert mine.kept() is None
    assert {(event.kind, event.reason) for event in events if event.kind == "flush"} == {("flush", "gap")}
    assert (mine.name(), mine.kept()) == ("old", "old")


def test_numbers_that_begin_anew(sides: Sides, redis_url: str) -> None:
    """A server that was emptied has lost its markers: memory is emptied as well, and goes on."""
    mine, theirs = sides
    client_of(redis_url).flushall()
    mine.caught_up()
    assert mine.kept() is None
    assert (mine.name(), mine.kept()) == ("old", "old")
    theirs.write("new")
    mine.caught_up()
    assert (mine.kept(), mine.name()) == (None, "new")


def test_a_marker_that_was_lost(sides: Sides, redis_url: str) -> None:
    """Who meanwhile keeps what he finds where a marker was lost, is told at its release."""
    mine, theirs = sides

    def lose() -> None:
        theirs.caught_up()
        client_of(redis_url).flushall()
        mine.caught_up()
        assert (mine.name(), mine.kept()) == ("old", "old")

    theirs.database.before_commit = lose
    theirs.write("new")
    mine.caught_up()
    assert (mine.kept(), mine.name()) == (None, "new")


# -- what is told of ------------------------------------------------------------------------------


@pytest.fixture
def session_sides(sides: Sides) -> Iterator[Sides]:
    """Two sides, the other one with a hook on its sessions."""
    sync = SessionSync(sides[1].chain).attach(Session)
    yield sides
    sync.detach()


def test_a_sessions_commit(session_sides: Sides) -> None:
    """What a session of another process commits is dropped here."""
    mine, theirs = session_sides
    with Session(theirs.engine) as session:
        session.get_one(Customer, 1).name = "new"
        session.commit()
    mine.caught_up()
    assert (mine.kept(), mine.name()) == (None, "new")


def test_a_write_of_a_whole_class(session_sides: Sides) -> None:
    """A statement that tells no keys drops the whole class, and nothing of it is kept before it commits."""
    mine, theirs = session_sides
    mine.write("second", 2)
    assert mine.name(2) == "second"
    with Session(theirs.engine) as session:
        session.connection().exec_driver_sql("UPDATE customers SET name = 'all'")
        session.commit()
    mine.caught_up()
    assert [mine.kept(1), mine.kept(2)] == [None, None]
    assert [mine.name(1), mine.name(2), mine.kept(1)] == ["all", "all", "all"]


def test_an_invalidation_by_hand(session_sides: Sides) -> None:
    """``sync.invalidate`` reaches the memory of other processes."""
    mine, theirs = session_sides
    unseen(mine.engine, "new")
    assert mine.name() == "old"
    SessionSync(theirs.chain).invalidate(Customer, [1])
    mine.caught_up()
    assert (mine.kept(), mine.name()) == (None, "new")


def test_a_clear(sides: Sides) -> None:
    """What is cleared is dropped in the memory of other processes, once everything is gone."""
    mine, theirs = sides
    unseen(mine.engine, "new")
    theirs.chain.clear(Customer)
    mine.caught_up()
    assert (mine.kept(), mine.name()) == (None, "new")
    unseen(mine.engine, "newer")
    theirs.chain.clear()
    mine.caught_up()
    assert (mine.kept(), mine.name()) == (None, "newer")


def test_other_keys_and_other_namespaces_stay(sides: Sides, redis_url: str, db: Engine) -> None:
    """A message drops what it names and nothing else."""
    mine, theirs = sides
    mine.write("second", 2)
    theirs.write("new")
    other = Side(redis_url, db, namespace="other")
    with other.chain:
        other.redis.clear()
        other.redis.put(Customer(id=2, email="e2", name="x", tenant=1, status="s", balance=0, prefs=None, stamp=None))
    mine.caught_up()
    assert [mine.kept(1), mine.kept(2)] == [None, "second"]


def test_a_memory_of_another_namespace_than_its_redis(redis_url: str, db: Engine) -> None:
    """Where the names differ, what is named is dropped in whichever namespace of memory it stands."""
    sides = [Side(redis_url, db, namespace="shop") for _ in range(2)]
    mine = ProcessMemoryStore(namespace="mine", max_staleness=30)
    with ChainedStore([mine, sides[0].redis, sides[0].database]) as chain, sides[1].chain:
        sides[1].write("old")
        assert (chain.get(Customer, 1).name, mine.get(Customer, 1).name) == ("old", "old")  # type: ignore[union-attr]
        sides[1].write("new")
        heard(sides[0].redis)
        assert mine.get(Customer, 1) is None


class Plain:
    __keys__ = ["name", "code"]

    def __init__(self, name: str, code: int, value: str) -> None:
        self.name, self.code, self.value = name, code, value


@pytest.mark.parametrize("name", ["short", "a b:c\u00fc%", "long" * 100, "~" * 60])
def test_a_chain_whose_origin_is_redis(redis_url: str, namespace: str, name: str) -> None:
    """Plain objects that Redis alone keeps: what another process puts or deletes is dropped, what oneself has put stays."""
    memories = [ProcessMemoryStore(namespace=namespace, max_staleness=30) for _ in range(2)]
    redis = [RedisStore(redis_url, namespace=namespace) for _ in range(2)]
    with ChainedStore([memories[0], redis[0]]) as mine, ChainedStore([memories[1], redis[1]]) as theirs:
        theirs.put(Plain(name, 1, "old"))
        other = Plain("other", 2, "other")
        mine.put(other)
        assert [_value(mine.get(Plain, name)), _value(memories[0].get(Plain, name))] == ["old", "old"]
        heard(redis[0])
        assert [_value(store.get(Plain, name)) for store in memories] == ["old", "old"]
        theirs.put(Plain(name, 1, "new"))
        heard(redis[0])
        assert [_value(memory.get(Plain, name)) for memory in memories] == [None, "new"]
        assert _value(mine.get(Plain, name)) == "new"
        theirs.delete(Plain, name)
        heard(redis[0])
        assert (memories[0].get(Plain, name), mine.get(Plain, name)) == (None, None)


def _value(obj: Plain | None) -> str | None:
    return None if obj is None else obj.value


def _identity() -> Any:
    from stockstore.keys import keys_of

    return keys_of(Customer).identity


# -- strict reads ---------------------------------------------------------------------------------


def test_a_strict_read(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory has not heard yet, a strict read gives what the shared cache has, by every verb."""
    mine, theirs = sides
    monkeypatch.setattr(Ear, "heard", lambda *_: None)
    theirs.write("new")
    theirs.caught_up()
    assert mine.name() == "old"
    strict = [
        mine.chain.get(Customer, 1, strict=True),
        mine.chain.get(Customer, id=1, strict=True),
        *mine.chain.batch_get(Customer, [1], strict=True),
        mine.chain.get(Customer, email="e1", strict=True),
    ]
    assert [found and found.name for found in strict] == ["new"] * 4
    assert mine.memory.get(Customer, 1, strict=True) is None
    assert mine.name() == "old"


def test_a_list(redis_url: str, db: Engine, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that another process changes is dropped; until that is heard a strict read gives the new one."""
    Animal.metadata.create_all(db)
    mine, theirs = Side(redis_url, db, namespace=namespace), Side(redis_url, db, namespace=namespace)
    with mine.chain, theirs.chain:
        theirs.chain.put(Animal(id=1, owner_id=7, kind="animal"))
        assert _ids(mine) == [1]
        mine.caught_up()
        with db.begin() as connection:
            connection.execute(insert(Animal).values(id=9, owner_id=7, kind="animal"))
        assert _ids(mine) == [1]
        with monkeypatch.context() as patch:
            patch.setattr(Ear, "heard", lambda *_: None)
            theirs.chain.put(Animal(id=2, owner_id=7, kind="animal"))
            theirs.caught_up()
            assert [_ids(mine), [animal.id for animal in mine.chain.get_all(Animal, 7, strict=True)]] == [[1], [1, 2, 9]]
        theirs.chain.put(Animal(id=3, owner_id=7, kind="animal"))
        theirs.caught_up()
        assert _ids(mine) == [1, 2, 3, 9]
    Animal.metadata.drop_all(db)


def _ids(side: Side) -> list[int]:
    return [animal.id for animal in side.chain.get_all(Animal, 7)]


def test_sessions_that_read_through(sides: Sides) -> None:
    """Sessions that are served from memory see what another process has written, by each of the ways to a hit."""
    mine, theirs = sides
    sync = SessionSync(mine.chain, read_through=True).attach(Session)
    try:
        for name in ("one", "two"):
            assert _read_through(mine) == [theirs.name()] * 3
            unseen(mine.engine, "unseen")
            assert _read_through(mine) == [theirs.name()] * 3
            theirs.write(name)
            theirs.caught_up()
        assert _read_through(mine) == ["two"] * 3
        unseen(mine.engine, "unseen")
        theirs.redis.clear()
        mine.caught_up()
        assert _read_through(mine) == ["unseen"] * 3
    finally:
        sync.detach()


def _read_through(side: Side) -> list[str]:
    with Session(side.engine) as one, Session(side.engine) as other, Session(side.engine) as third:
        rows = [one.get_one(Customer, 1), other.scalars(select(Customer).where(Customer.id == 1)).one()]
        return [row.name for row in (*rows, *third.scalars(select(Customer).where(Customer.id.in_([1]))))]


def test_what_triggers_have_noted(sides: Sides, redis_url: str) -> None:
    """A statement of nobody that the library knows is told by trigger, outbox and janitor."""
    mine, _ = sides
    Outbox().create(mine.engine)
    with mine.engine.begin() as connection:
        triggers.install(connection, ["customers"], namespaces=[mine.memory._namespace()])
    try:
        unseen(mine.engine, "new")
        assert mine.name() == "old"
        Janitor(mine.engine, [mine.redis]).run_once()
        mine.caught_up()
        assert (mine.kept(), mine.name()) == (None, "new")
    finally:
        with mine.engine.begin() as connection:
            triggers.remove(connection, ["customers"])
        Outbox().definition.drop(mine.engine)
