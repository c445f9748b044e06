"""What a backend must do that takes part in the coherence protocol: keys, lifetimes, batches, threads."""

import math
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from stockstore.backends.coherent import CoherentBackend, Item
from stockstore.cells import (
    BODY_AT,
    TOKEN_SIZE,
    VALUE,
    pack_alias,
    pack_body,
    tickets_of,
)

HOUR = 3600
DAY = 24 * HOUR
KEY_LIMIT = 250
MANY = 2000
THREADS = 8
PATIENCE = 60.0
TRIES = 5
OFF_BEAT = 0.3
"""Seconds to the next try: right behind the tick of a clock of whole seconds a value that is a second short would live for one."""
ONE, TWO = b"db.1", b"db.2"

Key = Callable[..., str]


def body(text: bytes) -> bytes:
    """Give a value without tag and server id."""
    return pack_body(text, math.inf)


def item(key: str, text: bytes) -> Item:
    """Give a value under a key, for an hour."""
    return key, body(text), HOUR


def alias(key: str, target: str) -> Item:
    """Give an alias under a key, for an hour."""
    return key, pack_alias(target), HOUR


def fresh_token() -> bytes:
    """Give a token for a lease."""
    return secrets.token_bytes(TOKEN_SIZE)


def lease(backend: CoherentBackend, *keys: str) -> bytes:
    """Take leases on absent keys, all of which must be granted."""
    token = fresh_token()
    assert backend.lease_many(dict.fromkeys(keys), token, "").granted == frozenset(keys)
    return token


def bodies(backend: CoherentBackend, *keys: str) -> dict[str, bytes]:
    """Give the bodies of the values that are there, and whole cells of any other kind."""
    return {key: cell[BODY_AT:] if cell.startswith(VALUE) else cell for key, cell in backend.get_many(keys).items()}


class CoherentBasics:
    """The fixtures, and the tests that have to do with no particular step."""

    expires = True
    """Whether the storage drops values itself when their lifetime is over."""

    @pytest.fixture
    def other(self, backend: CoherentBackend) -> CoherentBackend:
        """A backend on the same storage, with connections of its own."""
        return backend

    @pytest.fixture
    def namespace(self) -> str:
        """A namespace that nobody else uses."""
        return uuid.uuid4().hex

    @pytest.fixture
    def key(self, namespace: str) -> Key:
        """A function of a number, and if need be of a class label and a namespace, that gives a key."""
        return lambda number, label="User", space=namespace: f"{space}:{label}:id:i{number}"

    @pytest.fixture
    def generation(self, namespace: str) -> str:
        """The key of a class's generation cell."""
        return f"{namespace}:User:"

    # -- keys, lifetimes, batches ---------------------------------------------------------------

    def test_empty_batches_do_nothing(self, backend: CoherentBackend) -> None:
        """Every step takes an empty batch."""
        backend.put_many([])
        backend.mark_many([], ONE)
        assert backend.get_many([]) == backend.follow_many([]) == {}
        assert backend.look([]) == backend.look([], follow=True) == []
        assert backend.lease_many({}, fresh_token(), "").granted == frozenset()
        counts = [
            backend.fill_many([], fresh_token()),
            backend.release_many([], ONE, committed=True),
            backend.invalidate_many([]),
            backend.delete_many([]),
        ]
        assert counts == [0, 0, 0, 0]

    def test_a_key_may_have_250_bytes(self, backend: CoherentBackend, namespace: str) -> None:
        """The longest key works in every step, and differs from one with another end."""
        head = f"{namespace}:User:name:"
        one, two = (head + "x" * (KEY_LIMIT - 1 - len(head)) + end for end in "12")
        self._walk(backend, one)
        assert backend.get_many([two]) == {}

    def test_a_key_may_hold_any_printable_character(self, backend: CoherentBackend, namespace: str) -> None:
        """All printable ASCII but the space may stand in a key."""
        self._walk(backend, f"{namespace}:User:name:" + "".join(map(chr, range(33, 127))))

    def test_a_key_asked_twice_is_answered(self, backend: CoherentBackend, key: Key) -> None:
        """A batch may repeat a key."""
        backend.put_many([item(key(1), b"one")])
        assert bodies(backend, key(1), key(1)) == {key(1): body(b"one")}
        assert bodies(backend, key(1)) == {name: cell[BODY_AT:] for name, cell in backend.follow_many([key(1), key(1)]).items()}

    def test_a_look_answers_in_the_positions_of_the_keys(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """A look gives the cells that the reads give, also of keys that are absent or repeated; of values alone, too."""
        backend.put_many([item(key(1), b"one"), item(key(2), b"two")], [alias(key(4), key(1)), alias(key(5), key(3))])
        backend.mark_many([key(3)], ONE)
        for keys in ([key(1), key(2), key(1)], [key(3), key(1), key(404), key(3)], [key(4), key(4)], [key(2), key(5), key(4), key(404)]):
            assert other.look(keys) == [*map(other.get_many(keys).get, keys)]
            assert other.look(keys, follow=True) == [*map(other.follow_many(keys).get, keys)]
        assert [cell and cell[BODY_AT:] for cell in other.look([key(4), key(404), key(4)], follow=True)] == [
            body(b"one"),
            None,
            body(b"one"),
        ]

    @pytest.mark.parametrize("days", [1, 29, 30, 31, 40, 365, 3650, 36500])
    def test_long_lifetimes_keep_a_value(self, backend: CoherentBackend, key: Key, days: int) -> None:
        """A lifetime of months, years or a century is a lifetime, not a moment long past."""
        backend.put_many([(key(1), body(b"value"), days * DAY)], [(key(2), pack_alias(key(1)), days * DAY)])
        assert bodies(backend, key(1), key(2)) == {key(1): body(b"value"), key(2): pack_alias(key(1))}

    @pytest.mark.parametrize("step", ["put", "fill", "release"])
    def test_a_value_lives_as_long_as_asked_and_then_goes(self, backend: CoherentBackend, key: Key, step: str) -> None:
        """A value of one second is there for one second, and then the storage drops it; so is an alias.

        That is so by the storage's own clock: where that is behind, as memcached's is on a machine that stood still, another value is tried.
        """
        if self.expires:
            assert any(self._lives(backend, key(number), key(number, "Name"), step) for number in range(TRIES))

    def _lives(self, backend: CoherentBackend, record: str, name: str, step: str) -> bool:
        token = lease(backend, record)
        values, aliases = [(record, body(b"value"), 1)], [(name, pack_alias(record), 1)]
        start = time.monotonic()
        if step == "put":
            backend.put_many(values, aliases)
        elif step == "fill":
            assert backend.fill_many(values, token, aliases) == 1
        else:
            backend.mark_many([record], ONE)
            backend.release_many([record], ONE, committed=True, values=values, aliases=aliases)
        _wait_until(lambda: len(backend.get_many([record, name])) < len((record, name)), (record, name))
        ended = time.monotonic()
        self.wait_until_absent(backend, record, name)
        if ended < start + 1:
            time.sleep(OFF_BEAT)
        return ended >= start + 1

    def test_each_value_has_its_own_lifetime(self, backend: CoherentBackend, key: Key) -> None:
        """Values of different lifetimes may share a batch."""
        if not self.expires:
            return
        backend.put_many([(key(number), body(b"value"), HOUR if number % 2 else 1) for number in range(6)])
        self.wait_until_absent(backend, key(0), key(2), key(4))
        assert set(backend.get_many([key(number) for number in range(6)])) == {key(1), key(3), key(5)}

    def test_a_large_batch_is_one_like_any_other(self, backend: CoherentBackend, key: Key, generation: str) -> None:
        """Thousands of keys go through every step at once, each with its own value."""
        numbers = range(MANY)
        keys, token = [key(number) for number in numbers], fresh_token()
        texts = {key(number): body(b"%d " % number * 50) for number in numbers}
        items = [(name, text, HOUR) for name, text in texts.items()]
        aliases = [alias(key(number, "Name"), key(number)) for number in numbers]
        answer = backend.lease_many(dict.fromkeys(keys), token, generation)
        assert (answer.cells, answer.granted) == ({}, frozenset(keys))
        assert backend.fill_many(items, token, aliases) == MANY
        assert bodies(backend, *keys) == texts
        found = backend.follow_many([name for name, _, _ in aliases])
        assert {name: cell[BODY_AT:] for name, cell in found.items()} == {key(n, "Name"): texts[key(n)] for n in numbers}
        backend.mark_many(keys, ONE, [generation])
        assert backend.get_many(keys) == dict.fromkeys(keys, b"W-" + ONE)
        assert backend.release_many(keys, ONE, committed=True, values=items) == MANY
        assert bodies(backend, *keys) == texts
        assert backend.invalidate_many(keys) == MANY
        backend.put_many(items, aliases)
        assert bodies(backend, *keys) == texts

    def test_threads_share_a_backend(self, backend: CoherentBackend, key: Key) -> None:
        """Threads at the same time each get their own keys' values."""

        def work(thread: int) -> bool:
            good = True
            for turn in range(30):
                texts = {key(f"{thread}.{number}"): body(b"%d.%d.%d" % (thread, turn, number)) for number in range(20)}
                items = [(name, text, HOUR) for name, text in texts.items()]
                backend.mark_many(list(texts), b"t%d" % thread)
                good = good and backend.release_many(list(texts), b"t%d" % thread, committed=True, values=items) == len(texts)
                good = good and bodies(backend, *texts) == texts
            return good

        with ThreadPoolExecutor(THREADS) as threads:
            assert all(threads.map(work, range(THREADS)))

    def test_writers_of_one_shared_cell_lose_no_marker(self, backend: CoherentBackend, other: CoherentBackend, key: Key) -> None:
        """Markers that are set and released at the same time all count, and the last leaves nothing."""
        start = Barrier(THREADS)

        def work(thread: int) -> bool:
            mine, ticket, good = (backend, other)[thread % 2], b"db.%d" % thread, True
            start.wait(PATIENCE)
            for _ in range(20):
                mine.mark_many([], ticket, [key(1)])
                good = good and ticket in tickets_of(mine.get_many([key(1)])[key(1)])
                good = good and mine.release_many([key(1)], ticket, committed=True) == 1
            return good

        with ThreadPoolExecutor(THREADS) as threads:
            assert all(threads.map(work, range(THREADS)))
        assert backend.get_many([key(1)]) == {}

    def test_close_may_be_called_twice(self, backend: CoherentBackend) -> None:
        """Closing a closed backend does nothing."""
        backend.close()
        backend.close()

    def _walk(self, backend: CoherentBackend, key: str) -> None:
        """Take one key through every step."""
        assert backend.fill_many([item(key, b"read")], lease(backend, key)) == 1
        assert bodies(backend, key) == {key: body(b"read")}
        backend.mark_many([key], ONE)
        backend.mark_many([], TWO, [key])
        assert backend.release_many([key], ONE, committed=True) == 1
        assert backend.release_many([key], TWO, committed=True) == 1
        backend.put_many([item(key, b"put")])
        assert {name: cell[BODY_AT:] for name, cell in backend.follow_many([key]).items()} == {key: body(b"put")}
        assert backend.invalidate_many([key]) == 1
        assert backend.get_many([key]) == {}

    def wait_until_absent(self, backend: CoherentBackend, *keys: str) -> None:
        """Wait until the storage has dropped some keys by itself."""
        _wait_until(lambda: not backend.get_many(keys), keys)


def _wait_until(reached: Callable[[], bool], keys: Sequence[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, f"{keys} stayed"
        time.sleep(0.01)
