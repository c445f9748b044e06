"""A Redis server without room for more: what is not true any more goes all the same."""

import contextlib
from collections.abc import Callable

import pytest
from redis import Redis

from stockstore.backends import RedisBackend
from stockstore.errors import CacheUnreachable
from stockstore.testing.coherent_basics import bodies, body, item
from tests.backends.test_redis_lives import GENERATION, LEASED, MARKED, ONE, START, TWO, VALUE, fill_up, furnish

pytestmark = pytest.mark.sa_agnostic


def test_a_mark_of_new_keys_on_a_full_server_leaves_nothing_old(start_redis: START) -> None:
    """Where the first key is absent, what stands under the others goes too."""
    server = start_redis()
    with contextlib.closing(RedisBackend(server.url)) as backend, Redis.from_url(server.url) as observer:
        furnish(backend)
        fill_up(observer)
        with pytest.raises(CacheUnreachable, match="used memory > 'maxmemory'"):
            backend.mark_many(["n:C:id:i9", VALUE], TWO)
        assert observer.mget(["n:C:id:i9", VALUE]) == [None, None]


def test_an_invalidation_on_a_full_server_removes_values_beside_markers(start_redis: START) -> None:
    """A delete is never refused, nor what follows one, whatever stands first."""
    server = start_redis()
    with contextlib.closing(RedisBackend(server.url)) as backend, Redis.from_url(server.url) as observer:
        furnish(backend)
        fill_up(observer)
        assert backend.invalidate_many([MARKED, VALUE]) == 1
        assert backend.get_many([MARKED, VALUE]) == {MARKED: b"W+" + ONE}


@pytest.mark.parametrize("committed", [True, False])
def test_a_release_on_a_full_server_leaves_no_marker(start_redis: START, committed: bool) -> None:
    """There is no room for the value, and the marker goes."""
    server = start_redis()
    with contextlib.closing(RedisBackend(server.url)) as backend, Redis.from_url(server.url) as observer:
        backend.mark_many([MARKED, LEASED], ONE)
        fill_up(observer)
        assert backend.release_many([MARKED, LEASED], ONE, committed=committed, values=[item(MARKED, b"new")]) == 2
        assert backend.get_many([MARKED, LEASED]) in ({}, {MARKED: backend.get_many([MARKED]).get(MARKED)})


@pytest.mark.parametrize("step", ["lease", "fill", "put"])
def test_a_full_server_refuses_what_needs_room(start_redis: START, step: str) -> None:
    """A lease, a fill and a put are errors that say why."""
    server = start_redis()
    with contextlib.closing(RedisBackend(server.url)) as backend, Redis.from_url(server.url) as observer:
        token = furnish(backend)
        fill_up(observer)
        steps: dict[str, Callable[[], object]] = {
            "lease": lambda: backend.lease_many({"n:C:id:i9": None}, token, GENERATION),
            "fill": lambda: backend.fill_many([item(LEASED, b"new")], token),
            "put": lambda: backend.put_many([item(VALUE, b"new")]),
        }
        with pytest.raises(CacheUnreachable, match="used memory > 'maxmemory'"):
            steps[step]()
        assert bodies(backend, VALUE) == {VALUE: body(b"old")}
