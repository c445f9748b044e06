"""AsyncStore over stores that need no server."""

# ruff: noqa: D102 - the verbs are a store's

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from stockstore import (
    AsyncStore,
    ChainedStore,
    ConfigurationError,
    MappingStore,
    ProcessMemoryStore,
    RedisStore,
    SqlAlchemyStore,
    ThreadLocalStore,
    UnknownKeyError,
)
from stockstore.aio import bridge
from stockstore.aio.bridge import await_only
from stockstore.instrumentation import hooks
from stockstore.testing.samples import PlainUser


class Awaiting(MappingStore):
    """A store that waits for the loop in every read and write, as one with a server does."""

    def __init__(self) -> None:
        super().__init__({})
        self.asked = 0

    def batch_fetch(self, cls: type, keys: Sequence[Any], **options: Any) -> Any:
        self.asked += 1
        await_only(asyncio.sleep(0))
        return super().batch_fetch(cls, keys, **options)


async def test_a_hit_in_the_first_tier_needs_no_greenlet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What memory above a server has is given before a greenlet is made, by every form of key, and counted once."""
    for first in (ProcessMemoryStore(), ThreadLocalStore()):
        store = AsyncStore(ChainedStore([first, Awaiting()]))
        await store.put(PlainUser(id=1, email="a@b.c"))
        assert await store.get(PlainUser, 1) is not None
        counted = store.stats()
        with monkeypatch.context() as patched:
            patched.setattr("stockstore.aio.store.spawn_in_loop", None)
            for key in (1, {"id": 1}, {"email": "a@b.c"}):
                found = await store.get(PlainUser, key)
                assert found is not None
                assert found.email == "a@b.c"
            assert await store.get(PlainUser, email="a@b.c") is not None
            assert await store.contains(PlainUser, 1)
        assert (store.stats().hits, store.stats().misses) == (counted.hits + 5, counted.misses)


async def test_a_miss_in_the_first_tier_is_counted_once() -> None:
    """What only the lower tier has is a miss above, once, and then a hit."""
    lower = Awaiting()
    store = AsyncStore(ChainedStore([ProcessMemoryStore(), lower]))
    lower.put(PlainUser(id=1))
    assert await store.get(PlainUser, 1) is not None
    assert [tier.misses for tier in store.stats().tiers] == [1, 0]
    assert await store.get(PlainUser, 1) is not None
    assert [(tier.hits, tier.misses) for tier in store.stats().tiers] == [(1, 1), (1, 0)]
    assert await store.get(PlainUser, 2) is None
    assert store.stats().misses == 1


async def test_hooks_hear_of_each_read_once() -> None:
    """With a hook there is no faster way, and no event twice."""
    store = AsyncStore(ChainedStore([ProcessMemoryStore(), Awaiting()]))
    await store.put(PlainUser(id=1))
    heard: list[Any] = []
    with hooks.hooked(heard.append):
        assert await store.get(PlainUser, 1) is not None
        assert await store.get(PlainUser, 2) is None
    assert [(event.kind, event.store.partition("(")[0]) for event in heard] == [
        ("hit", "ProcessMemoryStore"),
        ("miss", "ProcessMemoryStore"),
        ("miss", "Awaiting"),
    ]


async def test_a_loader_may_be_a_coroutine_function() -> None:
    """It is given the key, or nothing, and may itself use the store."""
    store = AsyncStore(ChainedStore([ProcessMemoryStore(), Awaiting()]))

    async def by_key(key: int) -> PlainUser | None:
        await asyncio.sleep(0)
        await store.put(PlainUser(id=100 + key))
        return PlainUser(id=key)

    async def nothing() -> PlainUser | None:
        return None

    found = await store.get_or_load(PlainUser, 1, by_key)
    assert found is not None
    assert found.id == 1
    assert await store.contains(PlainUser, 101)
    assert await store.get_or_load(PlainUser, 2, nothing) is None
    assert await store.get_or_load(PlainUser, 3, lambda: PlainUser(id=3)) is not None
    with pytest.raises(UnknownKeyError, match="does not carry this key"):
        await store.get_or_load(PlainUser, 4, lambda: PlainUser(id=5))
    with pytest.raises(ConfigurationError, match=r"^a loader is a callable .*, not 'ann'$"):
        await store.get_or_load(PlainUser, 4, "ann")  # type: ignore[arg-type]


async def test_tasks_share_memory_but_not_thread_local_memory() -> None:
    """Each task has a thread-local tier of its own; in a scope the tasks that it starts share one, which the scope's end empties."""
    local = ThreadLocalStore()
    store = AsyncStore(local)

    async def read() -> PlainUser | None:
        return await store.get(PlainUser, 1)

    await store.put(PlainUser(id=1))
    assert not any(await asyncio.gather(read(), read()))
    assert await store.get(PlainUser, 1) is not None
    with store.scope():
        await store.put(PlainUser(id=1))
        assert all(await asyncio.gather(read(), read()))
    assert await store.get(PlainUser, 1) is None


async def test_tasks_interleave_in_a_thread_local_tier() -> None:
    """Tasks whose reads wait for a server in turn each keep what they have read, and nobody else's."""
    lower = Awaiting()
    lower.batch_put([PlainUser(id=number) for number in range(10)])
    store = AsyncStore(ChainedStore([ThreadLocalStore(), lower]))

    async def request(number: int) -> int:
        with store.scope():
            for _ in range(2):
                for at in (number, number + 5):
                    found = await store.get(PlainUser, at)
                    assert found is not None
                    assert found.id == at
                    await asyncio.sleep(0)
        return number

    assert await asyncio.gather(*map(request, range(5))) == list(range(5))
    assert lower.asked == 10


async def test_a_store_that_would_block_is_refused(redis_url: str) -> None:
    """A blocking client, also as a tier of a chain, is an error before any I/O that says what to give."""
    blocking = RedisStore(redis_url)
    for store in (blocking, ChainedStore([ProcessMemoryStore(), blocking])):
        with pytest.raises(ConfigurationError, match=r"RedisStore\(.*\) would block the event loop; give AsyncStore"):
            AsyncStore(store)
    blocking.close()


def test_what_is_no_store_is_refused() -> None:
    """So is an AsyncStore itself."""
    wrong: Any
    for wrong in (None, {}, AsyncStore(ProcessMemoryStore())):
        with pytest.raises(ConfigurationError, match="AsyncStore takes a store"):
            AsyncStore(wrong)


def test_a_missing_greenlet_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without greenlet the error says what to install."""
    bridge.concurrency.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "greenlet", None)
    with pytest.raises(ConfigurationError, match=r'greenlet is missing: pip install "stockstore\[asyncio\]"'):
        AsyncStore(ProcessMemoryStore())
    with pytest.raises(ConfigurationError, match=r"^asyncio needs SQLAlchemy with greenlet, and greenlet is missing"):
        SqlAlchemyStore("sqlite+aiosqlite://")
    monkeypatch.undo()
    bridge.concurrency.cache_clear()


async def test_close_and_repr() -> None:
    """It closes its store, by its name too."""
    memory = ProcessMemoryStore(maxsize=5)
    async with AsyncStore(memory) as store:
        await store.put(PlainUser(id=1))
        assert repr(store) == "AsyncStore(ProcessMemoryStore(maxsize=5))"
        assert store.store is memory
        await store.clear(PlainUser)
        assert await store.batch_get(PlainUser, [1]) == [None]
        await store.batch_put([PlainUser(id=1), PlainUser(id=2)])
        assert await store.delete(PlainUser, 1)
        assert await store.batch_delete(PlainUser, [2]) == 1
