"""Two sides of one database and one Redis, as two processes are: each with its own memory, chain and hook."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis import Redis
from sqlalchemy import Engine, text

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore
from stockstore.channels.base import Channel
from stockstore.channels.choice import channel_of
from tests.servers.server import wait_until
from tests.stores.halting import HaltingWrites
from tests.stores.shop import Customer


class Halting(HaltingWrites):
    """Lets a test go on in the middle of a read or a write, once each."""

    def batch_fetch(self, cls: type, keys: Sequence[Any], *, session: Any = None) -> list[Any]:
        """Read, and halt before the rows reach a cache."""
        found = super().batch_fetch(cls, keys, session=session)
        self._halt("after_read")
        return found


class Side:
    """One process's memory above the shared Redis and the database."""

    def __init__(self, url: Any, engine: Engine, *, namespace: str = "stockstore", **options: Any) -> None:
        """By a URL, or a client."""
        # Long, as what is heard has to be told from what is too old.
        self.memory = ProcessMemoryStore(**{"namespace": namespace, "max_staleness": 30.0, **options})
        where = {"url": url} if isinstance(url, str) else {"client": url}
        self.redis = RedisStore(**where, namespace=namespace)
        self.database = Halting(engine=engine)
        self.chain = ChainedStore([self.memory, self.redis, self.database])
        self.engine = engine

    def name(self, key: Any = 1) -> str | None:
        """Read a customer's name through the chain."""
        customer = self.chain.get(Customer, key)
        return None if customer is None else customer.name

    def kept(self, key: Any = 1) -> str | None:
        """Give the name that stands in memory."""
        customer = self.memory.get(Customer, key)
        return None if customer is None else customer.name

    def write(self, name: str, key: int = 1, **columns: Any) -> None:
        """Write a customer through the chain."""
        self.chain.put(Customer(id=key, email=f"e{key}", name=name, **columns))

    def caught_up(self) -> None:
        """Wait until all that was published by now has been heard."""
        heard(self.redis)


class Deaf:
    """Listens, and does nothing."""

    def heard(self, texts: Sequence[str], ticket: bytes) -> None:
        """Do nothing."""

    def flush(self, reason: str) -> None:
        """Do nothing."""


def heard(redis: RedisStore) -> None:
    """Wait until this process has heard all that was published by now: a new listener has the thread beat at once."""
    channel = channel_of(redis.backend)
    assert channel is not None
    hear_all(channel)


def hear_all(channel: Channel) -> None:
    """Wait until this process has heard all that was told by a channel by now."""
    began, contact = time.monotonic(), channel.join(Deaf(), 1.0)
    contact.begin()
    assert contact.settled.wait(20)
    # It is settled as well where the connection was lost.
    wait_until(lambda: contact.fresh_until > began, "the channel")
    contact.leave()


def unseen(engine: Engine, name: str) -> None:
    """Change all customers past every cache."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE customers SET name = :name"), {"name": name})


@contextmanager
def two_sides(url: str, engine: Engine, **options: Any) -> Iterator[tuple[Side, Side]]:
    """Give two sides whose memories both hold the first customer."""
    mine, theirs = Side(url, engine, **options), Side(url, engine, **options)
    with mine.chain, theirs.chain:
        theirs.write("old")
        # What is still told of it would be dropped from the other's memory.
        theirs.caught_up()
        wait_until(lambda: (mine.name(), mine.kept()) == ("old", "old"), "memory")
        yield mine, theirs


def client_of(url: str) -> "Redis":
    """Give a client."""
    return Redis.from_url(url)
