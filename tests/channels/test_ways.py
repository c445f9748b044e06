"""Every way to a hit in process memory looks whether its channel is heard."""

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore
from stockstore.instrumentation import hooked
from stockstore.stores.tiers.ears import Ear
from stockstore_ext.sqlalchemy import SessionSync
from tests.channels.conftest import Sides
from tests.channels.sides import Side, heard
from tests.stores.listed import Animal
from tests.stores.shop import Customer


class Unheard:
    """What a memory looks at whose channel was not heard for too long."""

    def __init__(self) -> None:
        self.fresh_until = float("-inf")
        self.settled = threading.Event()
        self.settled.set()

    def begin(self) -> None:
        """Do nothing."""

    def wait(self, seconds: float) -> None:
        """Do nothing."""

    def leave(self) -> None:
        """Do nothing."""


class Plain:
    __keys__ = ["name", "code"]

    def __init__(self, name: str, code: int, value: str) -> None:
        self.name, self.code, self.value = name, code, value


PLAIN: dict[str, Callable[[ChainedStore], Any]] = {
    "get": lambda chain: chain.get(Plain, "n"),
    "named": lambda chain: chain.get(Plain, name="n"),
    "other key": lambda chain: chain.get(Plain, code=1),
    "batch": lambda chain: chain.batch_get(Plain, ["n"])[0],
    "batch of dicts": lambda chain: chain.batch_get(Plain, [{"code": 1}])[0],
    "memory first": lambda chain: chain.get_from_memory(Plain, "n") or chain.get(Plain, "n"),
}


@pytest.mark.sa_agnostic
@pytest.mark.parametrize("told", [False, True], ids=["", "with a hook"])
@pytest.mark.parametrize("expiring", [None, 60.0], ids=["lasting", "expiring"])
@pytest.mark.parametrize("way", PLAIN.values(), ids=PLAIN)
def test_plain_objects(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, way: Callable[..., Any], expiring: float | None, told: bool
) -> None:
    """What another process has put meanwhile is read past a memory that has not heard."""
    memory = ProcessMemoryStore(namespace=namespace, lifetime=expiring, max_staleness=30)
    redis, theirs = RedisStore(redis_url, namespace=namespace), RedisStore(redis_url, namespace=namespace)
    with ChainedStore([memory, redis]) as mine, hooked(lambda _: None) if told else nullcontext():
        mine.put(Plain("n", 1, "old"))
        monkeypatch.setattr(Ear, "heard", lambda *_: None)
        theirs.put(Plain("n", 1, "new"))
        heard(redis)
        assert [way(mine).value for _ in range(3)] == ["old"] * 3
        memory.listen(Unheard())
        assert [way(mine).value for _ in range(3)] == ["new"] * 3


def _session(side: Side, read: Callable[[Session], Any]) -> Any:
    with Session(side.engine) as session:
        return read(session)


MAPPED: dict[str, Callable[[Side], Any]] = {
    "get": lambda side: side.chain.get(Customer, 1),
    "other key": lambda side: side.chain.get(Customer, email="e1"),
    "batch": lambda side: side.chain.batch_get(Customer, [1])[0],
    "for a session": lambda side: _session(side, lambda session: side.chain.get(Customer, 1, session=session)),
    "batch for a session": lambda side: _session(side, lambda session: side.chain.batch_get(Customer, [1], session=session)[0]),
    "session.get": lambda side: _session(side, lambda session: session.get(Customer, 1)),
    "select": lambda side: _session(side, lambda session: session.scalars(select(Customer).where(Customer.id == 1)).one()),
    "select in": lambda side: _session(side, lambda session: session.scalars(select(Customer).where(Customer.id.in_([1]))).one()),
    "select by key": lambda side: _session(side, lambda session: session.scalars(select(Customer).filter_by(email="e1")).one()),
}


@pytest.fixture
def reading(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    """A side whose sessions read through, whose memory has an old row, and the shared cache a new one."""
    mine, theirs = sides
    sync = SessionSync(mine.chain, read_through=True).attach(Session)
    monkeypatch.setattr(Ear, "heard", lambda *_: None)
    theirs.write("new")
    theirs.caught_up()
    yield mine
    sync.detach()


@pytest.mark.parametrize("told", [False, True], ids=["", "with a hook"])
@pytest.mark.parametrize("way", MAPPED.values(), ids=MAPPED)
def test_rows(reading: Side, way: Callable[[Side], Any], told: bool) -> None:
    """What another process has committed meanwhile is read past a memory that has not heard."""
    with hooked(lambda _: None) if told else nullcontext():
        assert [way(reading).name for _ in range(3)] == ["old"] * 3
        reading.memory.listen(Unheard())
        assert [way(reading).name for _ in range(3)] == ["new"] * 3


def _select_listed(side: Side) -> Any:
    return _session(side, lambda session: session.scalars(select(Animal).where(Animal.owner_id == 7)).all())


LISTS: dict[str, Callable[[Side], Any]] = {"get_all": lambda side: side.chain.get_all(Animal, 7), "select": _select_listed}


@pytest.mark.parametrize("way", LISTS.values(), ids=LISTS)
def test_lists(db: Engine, reading: Side, way: Callable[[Side], Any], redis_url: str) -> None:
    """A list that another process has changed meanwhile is read past a memory that has not heard."""
    Animal.metadata.create_all(db)
    theirs = Side(redis_url, db, namespace=reading.memory._namespace())
    with theirs.chain:
        theirs.chain.put(Animal(id=1, owner_id=7, kind="animal"))
        assert [len(way(reading)) for _ in range(3)] == [1] * 3
        theirs.chain.put(Animal(id=2, owner_id=7, kind="animal"))
        theirs.caught_up()
        assert [len(way(reading)) for _ in range(3)] == [1] * 3
        reading.memory.listen(Unheard())
        assert [len(way(reading)) for _ in range(3)] == [2] * 3
    Animal.metadata.drop_all(db)
