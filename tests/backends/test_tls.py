"""Servers behind TLS, whose connections have bytes that no poll tells of, and are readable where there is nothing to read."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pymemcache.client.base import Client

from stockstore import ChainedStore, MemcacheStore, ProcessMemoryStore, RedisStore, open_store
from tests.servers.secure import SecureRedis, running_secure_memcached, running_secure_redis
from tests.servers.server import wait_until

pytestmark = pytest.mark.sa_agnostic
MANY = 2000


@dataclass
class Letter:
    """A plain object of several kilobytes, so that a batch is more than the sockets' buffers hold."""

    __keys__ = ["id", "code"]
    id: int
    code: str
    text: str = "x" * 3000


LETTERS = [Letter(number, f"c{number}") for number in range(MANY)]


@pytest.fixture(scope="module")
def redis() -> Iterator[SecureRedis]:
    """A Redis with TLS."""
    with running_secure_redis() as server:
        yield server


@pytest.fixture(params=["redis", "memcached"])
def store(request: pytest.FixtureRequest, namespace: str) -> Iterator[RedisStore | MemcacheStore]:
    """A store on a server with TLS."""
    if request.param == "redis":
        with RedisStore(request.getfixturevalue("redis").url, namespace=namespace) as found:
            yield found
    else:
        with running_secure_memcached() as server:
            host, port = server.address.split(":")
            with MemcacheStore(client=Client((host, int(port)), tls_context=server.context), namespace=namespace) as other:
                yield other


def test_large_batches_go_through_tls(store: RedisStore | MemcacheStore) -> None:
    """The first thing that a connection carries, and again on the same one: nothing waits for what has come already."""
    for _ in range(2):
        store.batch_put(LETTERS)
        assert store.batch_get(Letter, range(MANY)) == LETTERS
        assert store.batch_get(Letter, [{"code": letter.code} for letter in LETTERS]) == LETTERS
    assert store.get(Letter, 7) == LETTERS[7]
    store.delete(LETTERS[7])
    assert store.get(Letter, 7) is None
    assert store.stats().errors == 0


def test_the_channel_goes_through_tls(redis: SecureRedis, namespace: str) -> None:
    """Another process's memory drops what is written, long before its bound, also by a message longer than one record of TLS."""
    mine, theirs = (
        ChainedStore([ProcessMemoryStore(namespace=namespace, max_staleness=60), RedisStore(redis.url, namespace=namespace)])
        for _ in range(2)
    )
    with mine, theirs:
        mine.batch_put(LETTERS)
        assert theirs.batch_get(Letter, range(MANY)) == LETTERS
        assert theirs.tiers[0].get(Letter, MANY - 1) == LETTERS[-1]
        changed = [Letter(letter.id, letter.code, "new") for letter in LETTERS]
        mine.batch_put(changed)
        wait_until(lambda: theirs.batch_get(Letter, range(MANY)) == changed, "the other memory to be told")


def test_a_url_of_a_store_names_the_authority(redis: SecureRedis, namespace: str) -> None:
    """What a settings file, and the janitor's command line, needs to trust a server's certificate stands in the URL."""
    with open_store(f"{redis.url}&namespace={namespace}&on_error=raise") as store:
        store.put(LETTERS[0])
        assert store.get(Letter, 0) == LETTERS[0]
