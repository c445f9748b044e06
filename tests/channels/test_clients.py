"""The channel by each sort of Redis client."""

import asyncio
import gc
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from stockstore import AsyncStore, ChainedStore, ProcessMemoryStore, RedisStore
from stockstore.channels.redis import RedisChannel
from stockstore.stores.tiers import hearing
from tests.channels.sides import Deaf, heard
from tests.servers.redis import RedisServer
from tests.servers.server import wait_until

pytestmark = pytest.mark.sa_agnostic


class Plain:
    __keys__ = ["id"]

    def __init__(self, number: int, value: str) -> None:
        self.id, self.value = number, value


def told(mine: RedisStore, theirs: RedisStore) -> None:
    """See to it that memory above one store is told of what is put into the other."""
    memory = ProcessMemoryStore(namespace=mine._namespace(), max_staleness=30)
    with ChainedStore([memory, mine]) as chain, theirs:
        theirs.put(Plain(1, "old"))
        assert [_value(chain.get(Plain, 1)), _value(memory.get(Plain, 1))] == ["old", "old"]
        theirs.put(Plain(1, "new"))
        heard(mine)
        assert [_value(memory.get(Plain, 1)), _value(chain.get(Plain, 1))] == [None, "new"]


def _value(obj: Plain | None) -> str | None:
    return None if obj is None else obj.value


def test_the_socket_of_a_connection(redis_url: str) -> None:
    """redis-py keeps a connection's socket in _sock, from its first command to its end; there is no other way to wait for what comes."""
    with Redis.from_url(redis_url) as client:
        connection: Any = client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
        assert vars(connection)["_sock"] is None
        connection.send_command("PING", check_health=False)
        assert isinstance(connection._sock, socket.socket)
        assert select.select([connection._sock.fileno()], [], [], 5)[0]
        assert connection.read_response() in {b"PONG", "PONG"}
        connection.disconnect()
        assert connection._sock is None


def test_a_unix_socket(redis_unix_url: str, namespace: str) -> None:
    """By its path."""
    told(RedisStore(redis_unix_url, namespace=namespace), RedisStore(redis_unix_url, namespace=namespace))


def test_a_client_of_the_applications(redis_url: str, namespace: str) -> None:
    """With a client's own settings, of which it may have none for time-outs."""
    client = Redis.from_url(redis_url, socket_timeout=None, client_name="shop")
    told(RedisStore(client=client, namespace=namespace), RedisStore(redis_url, namespace=namespace))
    client.close()


def test_a_password_and_another_database(start_redis: Callable[..., RedisServer], namespace: str) -> None:
    """A server with a password; and what is put into one of its databases is not told to another's listeners."""
    server = start_redis("--requirepass", "secret")
    urls = [f"redis://:secret@{server.address}/{number}" for number in (3, 4)]
    told(RedisStore(urls[0], namespace=namespace), RedisStore(urls[0], namespace=namespace))
    memory, mine, theirs = (
        ProcessMemoryStore(namespace=namespace, max_staleness=30),
        *(RedisStore(url, namespace=namespace) for url in urls),
    )
    with ChainedStore([memory, mine]) as chain, theirs:
        chain.put(Plain(1, "mine"))
        theirs.put(Plain(1, "theirs"))
        heard(mine)
        assert _value(memory.get(Plain, 1)) == "mine"


async def test_an_asyncio_client(redis_url: str, namespace: str) -> None:
    """What hears is a thread of its own, and the loop goes on; hits are given without a greenlet, and strict reads ask Redis."""
    memory = ProcessMemoryStore(namespace=namespace, max_staleness=30)
    mine = RedisStore(redis_url.replace("redis://", "redis+asyncio://"), namespace=namespace)
    theirs = RedisStore(redis_url, namespace=namespace)
    store = AsyncStore(ChainedStore([memory, mine]))
    theirs.put(Plain(1, "old"))
    found: Any = await store.get(Plain, 1)
    assert [found.value, _value(memory.get(Plain, 1))] == ["old", "old"]
    theirs.put(Plain(1, "new"))
    await asyncio.to_thread(heard, mine)
    assert memory.get(Plain, 1) is None
    assert [_value(await store.get(Plain, 1)), _value(memory.get(Plain, 1))] == ["new", "new"]
    await store.put(Plain(1, "own"))
    await asyncio.to_thread(heard, mine)
    assert _value(memory.get(Plain, 1)) == "own"
    strict = [await store.get(Plain, 1, strict=True), *await store.batch_get(Plain, [1], strict=True)]
    assert [_value(obj) for obj in strict] == ["own", "own"]
    await store.close()
    theirs.close()


def test_an_acl_without_the_channel(start_redis: Callable[..., RedisServer], namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not subscribe passes memory by; who may not publish is not kept from writing."""
    monkeypatch.setattr(hearing, "START", 100.0)
    server = start_redis()
    admin: Any = Redis.from_url(server.url)
    admin.execute_command("ACL", "SETUSER", "shop", "on", ">pw", "+@all", "~*", "resetchannels")
    admin.close()
    url = server.url.replace("redis://", "redis://shop:pw@")
    memory, redis = ProcessMemoryStore(namespace=namespace, max_staleness=30), RedisStore(url, namespace=namespace)
    with ChainedStore([memory, redis]) as chain:
        started = time.monotonic()
        chain.put(Plain(1, "mine"))
        assert [_value(chain.get(Plain, 1)), memory.get(Plain, 1)] == ["mine", None]
        assert time.monotonic() < started + 50
        assert chain.stats().bypasses["channel"] > 0


def test_a_writer_that_may_not_publish(start_redis: Callable[..., RedisServer], namespace: str) -> None:
    """What it has counted and not published is missed by the others, who empty their memory."""
    server = start_redis()
    admin: Any = Redis.from_url(server.url)
    admin.execute_command("ACL", "SETUSER", "shop", "on", ">pw", "+@all", "~*", "resetchannels")
    admin.close()
    told(RedisStore(server.url, namespace=namespace), RedisStore(server.url.replace("redis://", "redis://shop:pw@"), namespace=namespace))


def test_two_memories_of_one_process(redis_url: str, namespace: str) -> None:
    """Memories share a thread, and each is told of the other's writes."""
    memories = [ProcessMemoryStore(namespace=namespace, max_staleness=30) for _ in range(2)]
    chains = [ChainedStore([memory, RedisStore(redis_url, namespace=namespace)]) for memory in memories]
    for at, chain in enumerate(chains):
        chain.put(Plain(at, "old"))
    assert [_value(chain.get(Plain, 0)) for chain in chains] == ["old", "old"]
    chains[1].put(Plain(0, "new"))
    heard(chains[0].tiers[1])  # type: ignore[arg-type]
    assert [_value(memory.get(Plain, 0)) for memory in memories] == [None, "new"]
    # Those of other tests may still be about to end.
    gc.collect()
    wait_until(lambda: sum(thread.name == "stockstore channel" for thread in threading.enumerate()) == 1, "one thread")
    for chain in chains:
        chain.close()


def test_a_listener_that_is_not_kept(redis_url: str) -> None:
    """A contact that is dropped is told of nothing more."""
    began, contact = time.monotonic(), RedisChannel(Redis.from_url(redis_url)).join(Deaf(), 1.0)
    contact.begin()
    assert contact.settled.wait(20)
    assert contact.fresh_until >= began + 1
    contact.leave()
    assert contact.fresh_until < 0
