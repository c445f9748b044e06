"""The store of one thread or task: who sees what, and what a scope leaves behind."""

import asyncio
import gc
import random
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from stockstore import ChainedStore, ConfigurationError, NotKeyedError, ProcessMemoryStore, ThreadLocalStore, UnknownKeyError
from tests.stores.things import Animal, Cat, Code, Dog, User, user

pytestmark = pytest.mark.sa_agnostic


def seen(store: ThreadLocalStore, *numbers: int) -> list[int]:
    """Give which of the users this thread or task sees."""
    return [found.id for found in store.batch_get(User, list(numbers)) if found is not None]


# -- one thread ---------------------------------------------------------------------------------------


def test_a_thread_sees_what_it_put() -> None:
    """Within one thread every key gives the very object, and a delete takes it from all of them."""
    store, ann = ThreadLocalStore(), user(1)
    store.put(ann)
    for key in (1, {"email": "1@b.c"}, {"tenant": 1, "username": "u1"}):
        assert store.get(User, key) is ann
    assert store.delete(User, {"email": "1@b.c"})
    assert [store.get(User, key) for key in (1, {"email": "1@b.c"}, {"tenant": 1, "username": "u1"})] == [None] * 3


def test_counts_are_of_all_threads_together() -> None:
    """Stats sum up what every thread did, and stay when a thread ends."""
    store = ThreadLocalStore(maxsize=2)

    def work() -> None:
        store.batch_put([user(1), user(2), user(3)])
        store.batch_get(User, [3, 3, 404])
        store.delete(User, 3)

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
    stats = store.stats()
    assert (stats.hits, stats.misses, stats.puts, stats.deletes, stats.evictions) == (6, 3, 9, 3, 3)


def test_entries_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lifetimes hold here too, on the monotonic clock."""
    now = [1000.0]
    monkeypatch.setattr("stockstore.stores.local._now", lambda: now[0])
    store = ThreadLocalStore(lifetime=60)
    store.put(user(1))
    now[0] += 59.9
    assert seen(store, 1) == [1]
    now[0] += 0.1
    assert seen(store, 1) == []
    assert store.stats().expirations == 1


def test_polymorphic_finds_by_the_base() -> None:
    """With ``polymorphic=True`` a base's key finds a subclass's object, and siblings stay apart."""
    store = ThreadLocalStore(polymorphic=True)
    dog, cat = Dog(id=1, name="Rex", chip="c"), Cat(id=1, name="Tom")
    store.batch_put([dog, cat])
    assert (store.get(Animal, name="Rex"), store.get(Animal, name="Tom"), store.get(Dog, id=1)) == (dog, cat, dog)


def test_tenants_are_apart() -> None:
    """A callable namespace separates tenants within one thread."""
    tenant = ["a"]
    store = ThreadLocalStore(namespace=lambda: tenant[0])
    store.put(user(1))
    tenant[0] = "b"
    assert seen(store, 1) == []
    tenant[0] = "a"
    assert seen(store, 1) == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maxsize": 0}, "maxsize is a number of objects from 1, not 0"),
        ({"maxsize": "10"}, "maxsize is a number of objects from 1, not '10'"),
        ({"namespace": ""}, "a namespace is a text that is not empty"),
        ({"jitter": 1.0}, "jitter is a fraction from 0 to below 1, not 1.0"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    """A store that could not work is ConfigurationError when it is made, not at its first use in some thread."""
    with pytest.raises(ConfigurationError, match=message):
        ThreadLocalStore(**options)


def test_wrong_input_is_refused() -> None:
    """Unknown keys and unkeyed objects are refused as by every store."""
    store = ThreadLocalStore()
    with pytest.raises(UnknownKeyError, match="User has no key 'phone'; it declares 'id', 'email'"):
        store.get(User, phone=1)
    with pytest.raises(NotKeyedError, match=r"builtins\.int declares no keys"):
        store.put(7)


# -- threads -------------------------------------------------------------------------------------------


def test_another_thread_sees_nothing() -> None:
    """What one thread puts, deletes or clears does not touch what another has."""
    store = ThreadLocalStore()
    store.batch_put([user(1), user(2)])
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(seen, store, 1, 2).result() == []
        pool.submit(store.put, user(3)).result()
        assert pool.submit(seen, store, 1, 2, 3).result() == [3]
        assert pool.submit(store.delete, User, 1).result() is False
        pool.submit(store.clear).result()
    assert seen(store, 1, 2, 3) == [1, 2]


def test_threads_that_work_at_once_stay_apart() -> None:
    """Eight threads at once each see their own objects, however their turns fall."""
    store = ThreadLocalStore(maxsize=50)
    wrong: list[object] = []

    def work(seed: int) -> None:
        chooser = random.Random(seed)
        for _ in range(500):
            number = chooser.randrange(20)
            store.put(user(number, email=f"{seed}@b.c"))
            found = store.get(User, chooser.randrange(20))
            if found is not None and found.email != f"{seed}@b.c":
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


def test_a_thread_s_end_lets_go_of_its_objects() -> None:
    """Objects of a thread that has ended are not kept alive."""
    store = ThreadLocalStore()
    gone: list[weakref.ref[User]] = []

    def work() -> None:
        ann = user(1)
        gone.append(weakref.ref(ann))
        store.put(ann)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    del thread
    gc.collect()
    assert gone[0]() is None


def test_a_context_copied_within_the_thread_sees_the_thread_s_objects() -> None:
    """Entries belong to the thread: a context that the same thread copied shares them."""
    store = ThreadLocalStore()
    store.put(user(1))
    assert copy_context().run(seen, store, 1) == [1]


def test_a_context_carried_to_another_thread_carries_no_objects() -> None:
    """A context that another thread runs gives it nothing of the first thread's, nor the other way round."""
    store = ThreadLocalStore()
    store.put(user(1))
    context = copy_context()

    def work() -> list[int]:
        before = context.run(seen, store, 1)
        context.run(store.put, user(2))
        return before

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == []
    assert seen(store, 1, 2) == [1]
    assert context.run(seen, store, 1, 2) == []


# -- scopes ----------------------------------------------------------------------------------------------


def test_a_scope_starts_and_ends_empty() -> None:
    """Nothing from before is seen inside, and nothing from inside after."""
    store = ThreadLocalStore()
    store.put(user(1))
    with store.scope() as scoped:
        assert scoped is store
        assert seen(store, 1) == []
        store.put(user(2))
        assert seen(store, 2) == [2]
    assert seen(store, 1, 2) == []
    store.put(user(3))
    assert seen(store, 3) == [3]


def test_a_scope_ends_empty_after_an_error() -> None:
    """A request that fails leaves nothing behind either."""
    store = ThreadLocalStore()

    def request() -> None:
        with store.scope():
            store.put(user(1))
            raise RuntimeError("request")

    with pytest.raises(RuntimeError, match="request"):
        request()
    assert seen(store, 1) == []


def test_scopes_nest() -> None:
    """An inner scope sees nothing of the outer one, and leaves it nothing."""
    store = ThreadLocalStore()
    with store.scope():
        store.put(user(1))
        with store.scope():
            assert seen(store, 1) == []
            store.put(user(2))
        assert seen(store, 2) == []
    assert seen(store, 1, 2) == []


def test_a_pooled_thread_leaks_nothing_to_the_next_request() -> None:
    """Requests in one pooled thread see only their own objects, and those are let go."""
    store = ThreadLocalStore()
    gone: list[weakref.ref[User]] = []

    def request(number: int) -> list[int]:
        with store.scope():
            ann = user(number)
            gone.append(weakref.ref(ann))
            store.put(ann)
            return seen(store, *range(10))

    with ThreadPoolExecutor(1) as pool:
        assert [pool.submit(request, number).result() for number in range(5)] == [[number] for number in range(5)]
        gc.collect()
        assert [ref() for ref in gone] == [None] * 5
        assert pool.submit(seen, store, *range(10)).result() == []


def test_a_scope_that_ends_in_another_context_empties_all_the_same() -> None:
    """A framework may end a scope in a context or thread other than that in which it began: its objects are let go."""
    store, ann = ThreadLocalStore(), user(1)
    gone = weakref.ref(ann)
    beginning, scope = copy_context(), store.scope()
    beginning.run(scope.__enter__)
    beginning.run(store.put, ann)
    del ann
    with ThreadPoolExecutor(1) as pool:
        pool.submit(copy_context().run, scope.__exit__, None, None, None).result()
    gc.collect()
    assert beginning.run(seen, store, 1) == []
    assert gone() is None


def test_a_scope_around_another_goes_on_empty() -> None:
    """What an inner scope wrote may be what the outer one had read; a thread with the context sees the outer one again."""
    store = ThreadLocalStore()
    with store.scope(), ThreadPoolExecutor(1) as pool:
        store.put(user(1))
        with store.scope():
            pass
        assert seen(store, 1) == []
        store.put(user(2))
        assert pool.submit(copy_context().run, seen, store, 2).result() == [2]


def test_a_store_without_such_objects_has_a_scope_that_changes_nothing() -> None:
    """Code that scopes its requests runs with any store, and gets that very store."""
    store = ProcessMemoryStore()
    store.put(user(1))
    with store.scope() as scoped:
        assert scoped is store
        assert store.contains(User, 1)
    assert store.contains(User, 1)


def test_a_chain_scopes_its_tiers() -> None:
    """A chain's scope is that of those of its tiers that have one; the others keep what they have."""
    requests, below = ThreadLocalStore(), ProcessMemoryStore()
    chain = ChainedStore([requests, below])
    with chain.scope() as scoped:
        assert scoped is chain
        chain.put(user(1))
        chain.get(User, 1)
        assert seen(requests, 1) == [1]
    assert seen(requests, 1) == []
    assert below.contains(User, 1)


def test_threads_that_share_a_scope_never_read_backwards() -> None:
    """Threads of one request write an object each and read all of them: nobody reads an older one than he has read, or written."""
    below = ProcessMemoryStore()
    chain = ChainedStore([ThreadLocalStore(max_staleness=None), below])
    chain.batch_put([Code(code=number, version=0) for number in range(4)])
    wrong: list[object] = []

    def work(mine: int) -> None:
        seen_last = dict.fromkeys(range(4), 0)
        for version in range(1, 100):
            chain.put(Code(code=mine, version=version))
            seen_last[mine] = version
            for found in chain.batch_get(Code, [0, 1, 2, 3]) + chain.batch_get(Code, [0, 1, 2, 3]):
                assert found is not None
                if found.version < seen_last[found.code]:
                    wrong.append((found.code, found.version, seen_last[found.code]))
                seen_last[found.code] = found.version

    with chain.scope(), ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(copy_context().run, work, mine) for mine in range(4)]:
            done.result(30)
        assert chain.tiers[0].stats().hits > 0
    assert wrong == []


# -- tasks -------------------------------------------------------------------------------------------------


async def test_tasks_are_apart() -> None:
    """Tasks that take turns in one thread each see their own objects."""
    store = ThreadLocalStore()

    async def request(number: int) -> list[int]:
        with store.scope():
            store.put(user(number))
            await asyncio.sleep(0)
            store.put(user(number + 100))
            await asyncio.sleep(0)
            return seen(store, *range(200))

    assert await asyncio.gather(*map(request, range(20))) == [[number, number + 100] for number in range(20)]
    assert seen(store, *range(200)) == []


async def test_a_child_task_inherits_no_objects() -> None:
    """A task that another starts begins empty, and what it puts the other does not see."""
    store = ThreadLocalStore()
    store.put(user(1))

    async def child() -> list[int]:
        before = seen(store, 1)
        store.put(user(2))
        store.clear()
        store.put(user(3))
        return before

    assert await asyncio.create_task(child()) == []
    assert seen(store, 1, 2, 3) == [1]


async def test_a_task_does_not_see_its_thread_s_objects() -> None:
    """Objects of the code around the event loop are not the tasks'."""
    store = ThreadLocalStore()
    loop = asyncio.get_running_loop()
    outside: asyncio.Future[list[int]] = loop.create_future()

    def put_outside() -> None:
        store.put(user(1))
        outside.set_result(seen(store, 1))

    loop.call_soon(put_outside)
    assert await outside == [1]
    assert seen(store, 1) == []


async def test_to_thread_begins_empty() -> None:
    """A thread that a task hands work to inherits the context, but not its objects."""
    store = ThreadLocalStore()
    store.put(user(1))
    assert await asyncio.to_thread(seen, store, 1) == []
    await asyncio.to_thread(store.put, user(2))
    assert seen(store, 1, 2) == [1]
    assert await asyncio.to_thread(seen, store, 2) == []


async def test_a_scope_is_shared_by_the_tasks_and_threads_that_work_for_it() -> None:
    """What a request's task, a task that it started or a thread with its context puts, all of them see; other requests do not."""
    store = ThreadLocalStore()

    async def request(number: int) -> list[list[int]]:
        with store.scope():
            store.put(user(number))
            await asyncio.to_thread(store.put, user(number + 10))
            await asyncio.create_task(asyncio.to_thread(store.put, user(number + 20)))
            return [seen(store, *range(30)), await asyncio.to_thread(seen, store, *range(30))]

    found = await asyncio.gather(*map(request, range(3)))
    assert found == [[[number, number + 10, number + 20]] * 2 for number in range(3)]
    assert seen(store, *range(30)) == []


async def test_who_outlives_a_scope_starts_empty() -> None:
    """A task that goes on after its request ended sees nothing of it, and keeps what it puts to itself."""
    store, ended = ThreadLocalStore(), asyncio.Event()

    async def afterwards() -> list[list[int]]:
        before = seen(store, 1)
        await ended.wait()
        after = seen(store, 1)
        store.put(user(2))
        return [before, after, seen(store, 1, 2)]

    with store.scope():
        store.put(user(1))
        task = asyncio.create_task(afterwards())
        await asyncio.sleep(0)
    ended.set()
    assert await task == [[1], [], [2]]
    assert seen(store, 1, 2) == []


async def test_a_write_of_a_thread_ends_what_its_request_has_read() -> None:
    """A worker thread's commit is seen at once by the request that it works for."""
    requests, below = ThreadLocalStore(), ProcessMemoryStore()
    chain = ChainedStore([requests, below])
    chain.put(user(1, email="old@b.c"))
    with chain.scope():
        before = chain.get(User, 1)
        assert before is not None
        assert seen(requests, 1) == [1]
        below.put(user(1, email="unseen@b.c"))
        assert chain.get(User, 1) is before
        await asyncio.to_thread(chain.put, user(1, email="new@b.c"))
        after = chain.get(User, 1)
        assert after is not None
        assert after.email == "new@b.c"


async def test_a_task_s_end_lets_go_of_its_objects() -> None:
    """Objects of a task that has ended are not kept alive."""
    store = ThreadLocalStore()

    async def work() -> weakref.ref[Code]:
        code = Code(code=1)
        store.put(code)
        return weakref.ref(code)

    gone = await asyncio.create_task(work())
    await asyncio.sleep(0)  # the event loop lets go of the task at its next turn
    gc.collect()
    assert gone() is None


async def test_a_scope_may_end_in_another_task() -> None:
    """A scope that one task began and another ends leaves nothing in either."""
    store, scope = ThreadLocalStore(), None

    async def begin() -> Any:
        scope = store.scope()
        scope.__enter__()
        store.put(user(1))
        return scope

    async def end(scope: Any) -> list[int]:
        store.put(user(2))
        scope.__exit__(None, None, None)
        return seen(store, 1, 2)

    scope = await asyncio.create_task(begin())
    assert await asyncio.create_task(end(scope)) == []
