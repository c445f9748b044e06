"""Stores behind dogpile.cache's regions: dogpile's own suites of backends and locks, and what they do not ask."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dogpile.cache import CacheRegion, make_region
from dogpile.cache.api import NO_VALUE
from dogpile.testing.fixtures import _GenericBackendTestSuite, _GenericMutexTestSuite, _GenericSerializerTestSuite

from stockstore import CacheUnreachable, ChainedStore, ConfigurationError, MemcacheStore, NullStore, ProcessMemoryStore, RedisStore, Store
from stockstore.backends.redis import RedisBackend
from stockstore_ext.dogpile import LeaseMutex, StoreBackend, Value
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.sa_agnostic


class _Backend(_GenericSerializerTestSuite, _GenericBackendTestSuite):
    backend = "stockstore"
    # They sleep for many seconds to ask the region, whose locks are asked below.
    test_threaded_dogpile = test_threaded_get_multi = test_region_expire = None


class TestProcessMemory(_Backend):
    config_args = {"arguments": {"url": "memory://"}}


class _Served(_Backend, _GenericMutexTestSuite):
    """Runs the suites on a server: what the arguments are is known when it has started."""

    @classmethod
    def setup_class(cls) -> None:
        """Ask for nothing: the server is there."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _opened(cls, request: pytest.FixtureRequest) -> Iterator[None]:
        with cls.open(request) as store:
            cls.config_args = {"arguments": {"store": store, "distributed_lock": True}}
            yield

    @staticmethod
    def open(request: pytest.FixtureRequest) -> Store:
        """Open the store."""
        raise NotImplementedError


class TestRedis(_Served):
    @staticmethod
    def open(request: pytest.FixtureRequest) -> Store:
        """Open the store."""
        return RedisStore(request.getfixturevalue("redis_url"))


class TestMemoryAboveMemcached(_Served):
    @staticmethod
    def open(request: pytest.FixtureRequest) -> Store:
        """Open the store."""
        return ChainedStore([ProcessMemoryStore(), MemcacheStore([request.getfixturevalue("memcached_address")])])


# -- what the suites do not ask ---------------------------------------------------------------------------


def region_on(store: Store, **options: Any) -> CacheRegion:
    """Make a region on a store."""
    return make_region(**options).configure("stockstore", arguments={"store": store})


def test_several_urls_are_a_chain(redis_url: str) -> None:
    """URLs parted by spaces, as in a settings file, or in a list are the tiers; what stands in the lower one fills the upper one."""
    shared = f"{redis_url}?namespace=dogpile&lifetime=300"
    for url in (f"memory:// {shared}", ["memory://", shared]):
        region = make_region()
        region.configure_from_config({"cache.backend": "stockstore", "cache.arguments.url": url}, "cache.")
        store: Any = region.backend.store
        memory, redis = store.tiers
        region.set("answer", 42)
        memory.clear()
        assert region.get("answer") == 42
        assert [tier.contains(Value, "answer") for tier in (memory, redis)] == [True, True]
        store.clear()
        store.close()


@pytest.mark.parametrize("key", ["", "two words", "a:b~c", "ключ", "x" * 400, "line\nbreak"])
def test_keys_are_any_text(redis_url: str, key: str) -> None:
    """Keys need no mangler: whatever text they are, and however long, they are apart."""
    with RedisStore(redis_url) as store:
        region: Any = region_on(store)
        region.set_multi({key: 1, key + "x": 2})
        assert region.get_multi([key, key + "x", key + "y"]) == [1, 2, NO_VALUE]
        region.delete(key)
        assert region.get_multi([key, key + "x"]) == [NO_VALUE, 2]


def test_the_region_s_serializer_makes_the_bytes() -> None:
    """With json for pickle, json is what the store keeps."""
    store = ProcessMemoryStore()
    region = region_on(store, serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads)
    region.set("a", {"b": 1})
    kept = store.get(Value, "a")
    assert kept is not None
    assert kept.value.endswith(b'{"b": 1}')
    assert region.get("a") == {"b": 1}


def test_one_creator_for_all_regions_with_the_lock(redis_url: str) -> None:
    """Two regions that stand for two processes create a value once: who comes second waits for it, and gets it."""
    begun, go_on, created = threading.Event(), threading.Event(), []

    def create() -> int:
        created.append(1)
        begun.set()
        assert go_on.wait(10)
        return 42

    with RedisStore(redis_url) as store, ThreadPoolExecutor(2) as pool:
        arguments = {"store": store, "distributed_lock": True}
        first, second = (make_region().configure("stockstore", arguments=arguments) for _ in range(2))
        one = pool.submit(first.get_or_create, "answer", create)
        assert begun.wait(10)
        other = pool.submit(second.get_or_create, "answer", create)
        assert first.backend.get_mutex("answer").acquire(wait=False) is False
        go_on.set()
        assert [one.result(10), other.result(10)] == [42, 42]
    assert created == [1]


def test_a_lock_that_has_ended_is_not_given_back_for_another(redis_url: str) -> None:
    """Who took too long finds the lock in another's hands, and leaves it there."""
    backend = RedisBackend(redis_url)
    late, other = (LeaseMutex(backend, "shop", "answer") for _ in range(2))
    assert late.acquire()
    backend.clear("shop:")  # ten seconds have passed
    assert other.acquire(wait=False)
    late.release()
    assert other.locked()
    assert late.acquire(wait=False) is False
    assert LeaseMutex(backend, "other shop", "answer").acquire(wait=False)
    other.release()
    assert not other.locked()
    backend.close()


def test_a_server_that_is_down_is_a_miss_to_read_and_an_error_to_write(start_redis: Any) -> None:
    """Reads go on to the creator; what cannot be kept is told, as dogpile's own backends do."""
    server: RedisServer = start_redis()
    region = make_region().configure("stockstore", arguments={"url": server.url})
    server.stop()
    assert region.get("answer") is NO_VALUE
    with pytest.raises(CacheUnreachable):
        region.set("answer", 42)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "takes either a store or a url in its arguments, exactly one of them"),
        ({"url": "memory://", "store": NullStore()}, "takes either a store or a url in its arguments, exactly one of them"),
        ({"store": "memory://"}, "the argument store of a region is a blocking store, such as .*, not 'memory://'"),
        ({"url": "mongo://"}, "no store has the scheme 'mongo'"),
        ({"url": 5}, "the argument url of a region is a store's URL, such as 'memory://', or a list of them, not 5"),
        ([], r"the arguments of the backend 'stockstore' are a dict, not \[\]"),
        ({"url": "sqlite://"}, r"ChainedStore\(\[SqlAlchemyStore.* has no cache, which a region's values need"),
        (
            {"url": "memory://", "distributed_lock": True},
            "distributed_lock needs Redis or memcached as the last tier, not ProcessMemoryStore",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    """A region that could not work is refused when it is configured."""
    with pytest.raises(ConfigurationError, match=message):
        StoreBackend(arguments)


def test_an_argument_that_does_not_exist_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Dogpile's suite wants it passed over, and it may be a mistake."""
    make_region().configure("stockstore", arguments={"url": "null://", "distributed": True})
    assert caplog.messages == [
        "the backend 'stockstore' has no argument 'distributed', and passes over it; it has store, url, distributed_lock"
    ]
