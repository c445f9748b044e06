"""What every backend must do, as tests.

The test file of a backend is a subclass and a fixture::

    class TestMine(BackendContract):
        @pytest.fixture
        def backend(self):
            backend = MyBackend(...)
            yield backend
            backend.close()

The storage may be shared with others: each test keeps to a namespace of its own.
"""

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from stockstore.backends.base import Backend

HOUR = 3600
DAY = 24 * HOUR
KEY_LIMIT = 250
MANY = 2000
THREADS = 8
PATIENCE = 60.0
TRIES = 5
OFF_BEAT = 0.3
"""Seconds to the next try: right behind the tick of a clock of whole seconds a value that is a second short would live for one."""

Key = Callable[..., str]


class BackendContract:
    """The tests. A subclass gives the fixture ``backend``, and switches off what its storage cannot do."""

    expires = True
    """Whether the storage drops values itself when their lifetime is over."""

    @pytest.fixture
    def namespace(self) -> str:
        """A namespace that nobody else uses."""
        return uuid.uuid4().hex

    @pytest.fixture
    def key(self, namespace: str) -> Key:
        """A function of a number, and if need be of a class label and a namespace, that gives a key."""
        return lambda number, label="User", space=namespace: f"{space}:{label}:id:i{number}"

    def test_a_key_never_set_is_absent(self, backend: Backend, key: Key) -> None:
        """A key that was never set is not in the answer."""
        assert backend.get_many([key(1)]) == {}

    def test_values_come_back_under_their_keys(self, backend: Backend, key: Key) -> None:
        """A batch gives each present key its own value, and leaves out the absent ones."""
        backend.set_many([(key(1), b"one", HOUR), (key(2), b"two", HOUR)])
        assert backend.get_many([key(2), key(3), key(1)]) == {key(1): b"one", key(2): b"two"}

    def test_a_key_asked_twice_is_answered(self, backend: Backend, key: Key) -> None:
        """A batch may repeat a key."""
        backend.set_many([(key(1), b"one", HOUR)])
        assert backend.get_many([key(1), key(1)]) == {key(1): b"one"}

    def test_a_later_value_replaces_an_earlier_one(self, backend: Backend, key: Key) -> None:
        """The last value set is the one read, also within a batch."""
        backend.set_many([(key(1), b"old", HOUR)])
        backend.set_many([(key(1), b"older", HOUR), (key(1), b"new", HOUR)])
        assert backend.get_many([key(1)]) == {key(1): b"new"}

    @pytest.mark.parametrize(
        "value",
        [b"", b"\0", b"\r\n", b"END\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n", b"A", bytes(range(256)), b"\xff" * 300_000],
        ids=["empty", "nul", "newline", "end", "answer", "tag", "all bytes", "300 kB"],
    )
    def test_any_bytes_are_kept(self, backend: Backend, key: Key, value: bytes) -> None:
        """A value is given back byte for byte, whatever it holds."""
        backend.set_many([(key(1), value, HOUR), (key(2), b"next", HOUR)])
        assert backend.get_many([key(1), key(2)]) == {key(1): value, key(2): b"next"}

    def test_a_key_may_have_250_bytes(self, backend: Backend, namespace: str) -> None:
        """The longest key works in every operation, and differs from one with another end."""
        head = f"{namespace}:User:name:"
        one, two = (head + "x" * (KEY_LIMIT - 1 - len(head)) + end for end in "12")
        backend.set_many([(one, b"one", HOUR)])
        assert backend.follow_many([one, two]) == {one: b"one"}
        assert backend.delete_many([one, two]) == 1

    def test_a_key_may_hold_any_printable_character(self, backend: Backend, namespace: str) -> None:
        """All printable ASCII but the space may stand in a key."""
        key = f"{namespace}:User:name:" + "".join(map(chr, range(33, 127)))
        backend.set_many([(key, b"value", HOUR)])
        assert backend.get_many([key]) == {key: b"value"}

    def test_delete_counts_what_was_there(self, backend: Backend, key: Key) -> None:
        """Deleting drops the keys, leaves others, and counts each present key once."""
        backend.set_many([(key(number), b"value", HOUR) for number in range(3)])
        assert backend.delete_many([key(0), key(9), key(1), key(0)]) == 2  # noqa: PLR2004 - two of them were there
        assert backend.get_many([key(0), key(1), key(2)]) == {key(2): b"value"}
        assert backend.delete_many([key(0)]) == 0

    def test_empty_batches_do_nothing(self, backend: Backend) -> None:
        """Every batch operation takes an empty batch."""
        backend.set_many([])
        assert backend.get_many([]) == {}
        assert backend.follow_many([]) == {}
        assert backend.look([]) == backend.look([], follow=True) == []
        assert backend.delete_many([]) == 0

    def test_an_alias_is_followed(self, backend: Backend, key: Key) -> None:
        """Following gives an alias's target under the asked key, and plain values as they are."""
        backend.set_many([(key(1), b"Vone", HOUR), (key("ann", "Name"), b"A" + key(1).encode(), HOUR)])
        assert backend.follow_many([key("ann", "Name"), key(1)]) == {key("ann", "Name"): b"Vone", key(1): b"Vone"}

    def test_a_look_answers_in_the_positions_of_the_keys(self, backend: Backend, key: Key) -> None:
        """A look gives what the reads give, also of keys that are absent or repeated."""
        alias = b"A" + key(1).encode()
        backend.set_many([(key(1), b"Vone", HOUR), (key(2), alias, HOUR)])
        keys = [key(2), key(404), key(1), key(2)]
        assert backend.look(keys) == [alias, None, b"Vone", alias]
        assert backend.look(keys, follow=True) == [b"Vone", None, b"Vone", b"Vone"]

    def test_reading_does_not_follow(self, backend: Backend, key: Key) -> None:
        """A plain read gives the alias itself."""
        backend.set_many([(key(1), b"Vone", HOUR), (key(2), b"A" + key(1).encode(), HOUR)])
        assert backend.get_many([key(2)]) == {key(2): b"A" + key(1).encode()}

    def test_two_aliases_may_share_a_target(self, backend: Backend, key: Key) -> None:
        """Both aliases give the value."""
        alias = b"A" + key(1).encode()
        backend.set_many([(key(1), b"Vone", HOUR), (key(2), alias, HOUR), (key(3), alias, HOUR)])
        assert backend.follow_many([key(2), key(3)]) == {key(2): b"Vone", key(3): b"Vone"}

    @pytest.mark.parametrize("target", [b"", b"gone", b"two words", b"a\r\nflush_all", b"\xff\xfe", b"x" * 300])
    def test_an_alias_to_nothing_is_absent(self, backend: Backend, key: Key, target: bytes) -> None:
        """An alias whose target is absent, or no key at all, is left out and disturbs no other key."""
        backend.set_many([(key(1), b"A" + target, HOUR), (key(2), b"Vtwo", HOUR)])
        assert backend.follow_many([key(1), key(2)]) == {key(2): b"Vtwo"}
        assert backend.get_many([key(2)]) == {key(2): b"Vtwo"}

    def test_only_one_hop_is_followed(self, backend: Backend, key: Key) -> None:
        """An alias of an alias gives the second alias as it stands."""
        backend.set_many([(key(1), b"A" + key(2).encode(), HOUR), (key(2), b"A" + key(3).encode(), HOUR), (key(3), b"V", HOUR)])
        assert backend.follow_many([key(1)]) == {key(1): b"A" + key(3).encode()}

    def test_clear_of_a_namespace_drops_all_of_it(self, backend: Backend, key: Key, namespace: str) -> None:
        """Clearing a namespace drops its classes, and nothing of one whose name goes on from there."""
        other = key(1, space=namespace + "2")
        backend.set_many([(key(1), b"user", HOUR), (key(1, "Order"), b"order", HOUR), (other, b"other", HOUR)])
        backend.clear(f"{namespace}:")
        assert backend.get_many([key(1), key(1, "Order"), other]) == {other: b"other"}

    def test_clear_of_a_class_leaves_the_others(self, backend: Backend, key: Key, namespace: str) -> None:
        """Clearing a class drops its keys and no other class's, also where that one's label goes on from there."""
        backend.set_many([(key(1), b"user", HOUR), (key(1, "UserGroup"), b"group", HOUR)])
        backend.clear(f"{namespace}:User:")
        assert backend.get_many([key(1), key(1, "UserGroup")]) == {key(1, "UserGroup"): b"group"}

    @pytest.mark.parametrize(("cleared", "other"), [("*", "xy"), ("?", "x"), ("[xy]", "x"), ("x-z", "y"), ("a\\b", "ab"), ("^", "x")])
    def test_clear_takes_a_prefix_literally(self, backend: Backend, key: Key, namespace: str, cleared: str, other: str) -> None:
        """Characters that are wildcards elsewhere stand for themselves."""
        backend.set_many([(key(1, cleared), b"cleared", HOUR), (key(1, other), b"other", HOUR)])
        backend.clear(f"{namespace}:{cleared}:")
        assert backend.get_many([key(1, cleared), key(1, other)]) == {key(1, other): b"other"}

    def test_cleared_keys_can_be_set_again(self, backend: Backend, key: Key, namespace: str) -> None:
        """After a clear, twice over, a new value is kept, and those not set again stay absent."""
        for value in (b"one", b"two", b"three"):
            backend.set_many([(key(1), value, HOUR), (key(2), value, HOUR)])
            backend.clear(f"{namespace}:")
        backend.set_many([(key(1), b"new", HOUR)])
        assert backend.get_many([key(1), key(2)]) == {key(1): b"new"}

    def test_cleared_keys_are_not_counted_when_deleted(self, backend: Backend, key: Key, namespace: str) -> None:
        """What a clear dropped was not there."""
        backend.set_many([(key(1), b"one", HOUR)])
        backend.clear(f"{namespace}:User:")
        assert backend.delete_many([key(1)]) == 0

    def test_clear_of_nothing_is_fine(self, backend: Backend, namespace: str) -> None:
        """A prefix without keys can be cleared."""
        backend.clear(f"{namespace}:")
        backend.clear(f"{namespace}:User:")

    def test_clear_drops_thousands(self, backend: Backend, key: Key, namespace: str) -> None:
        """A clear reaches every key of a large class."""
        backend.set_many([(key(number), b"value", HOUR) for number in range(MANY)])
        backend.clear(f"{namespace}:User:")
        assert backend.get_many([key(number) for number in range(MANY)]) == {}

    @pytest.mark.parametrize("days", [1, 29, 30, 31, 40, 365, 3650, 36500])
    def test_long_lifetimes_keep_a_value(self, backend: Backend, key: Key, days: int) -> None:
        """A lifetime of months, years or a century is a lifetime, not a moment long past."""
        backend.set_many([(key(1), b"value", days * DAY)])
        assert backend.get_many([key(1)]) == {key(1): b"value"}

    def test_a_value_lives_as_long_as_asked_and_then_goes(self, backend: Backend, key: Key) -> None:
        """A value of one second is there for one second, and then the storage drops it.

        That is so by the storage's own clock: where that is behind, as memcached's is on a machine that stood still, another value is tried.
        """
        if self.expires:
            assert any(self._lives(backend, key(number)) for number in range(TRIES))

    def _lives(self, backend: Backend, key: str) -> bool:
        start = time.monotonic()
        backend.set_many([(key, b"value", 1)])
        while backend.get_many([key]):
            assert time.monotonic() < start + PATIENCE, "the value stayed"
            time.sleep(0.01)
        ended = time.monotonic()
        if ended < start + 1:
            time.sleep(OFF_BEAT)
        return ended >= start + 1

    def test_a_large_batch_is_one_like_any_other(self, backend: Backend, key: Key) -> None:
        """Thousands of keys are set, read, followed and deleted at once, each with its own value."""
        values = {key(number): b"V%d" % number * 200 for number in range(MANY)}
        aliases = {key(number, "Name"): b"A" + key(number).encode() for number in range(MANY)}
        backend.set_many([(name, value, HOUR) for name, value in (values | aliases).items()])
        assert backend.get_many(list(values)) == values
        assert backend.follow_many(list(aliases)) == {key(number, "Name"): values[key(number)] for number in range(MANY)}
        assert backend.look(list(aliases), follow=True) == backend.look(list(values)) == list(values.values())
        assert backend.delete_many([*values, *aliases]) == 2 * MANY
        assert backend.get_many(list(values)) == {}

    def test_threads_share_a_backend(self, backend: Backend, key: Key) -> None:
        """Threads that write and read at the same time each get their own keys' values."""

        def work(thread: int) -> bool:
            good = True
            for turn in range(50):
                values = {key(f"{thread}.{number}"): b"%d.%d.%d" % (thread, turn, number) for number in range(20)}
                backend.set_many([(name, value, HOUR) for name, value in values.items()])
                good = good and backend.get_many(list(values)) == values
            return good

        with ThreadPoolExecutor(THREADS) as threads:
            assert all(threads.map(work, range(THREADS)))

    def test_close_may_be_called_twice(self, backend: Backend) -> None:
        """Closing a closed backend does nothing."""
        backend.close()
        backend.close()
