"""The bounded maps in process memory: eviction, aliases, threads, forks."""

import gc
import math
import os
import random
import signal
import threading
import tracemalloc
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import pytest

from stockstore import ConfigurationError
from stockstore.backends.local import LocalCells
from stockstore.backends.local_nodes import Node, Shelf

pytestmark = pytest.mark.sa_agnostic


def new_shelf(aliases: int = 0) -> Shelf[Any, Any]:
    """Make a shelf with so many sorts of aliases."""
    return Shelf({}, tuple({} for _ in range(aliases)))


def assert_whole(cells: LocalCells[Any, Any], *shelves: Shelf[Any, Any]) -> None:
    """Fail unless size, queues, records and aliases agree."""
    live = [node for queue in (cells._small, cells._main) for node in queue if node.shelf is not None]
    assert len(cells) == len(live) == len(set(map(id, live))) == sum(len(shelf.cells) for shelf in shelves) <= cells.maxsize
    assert {id(node) for node in live} == {id(node) for shelf in shelves for node in shelf.cells.values()}
    for shelf in shelves:
        assert all(node.key == key and node.shelf is shelf for key, node in shelf.cells.items())
        for place, aliases in enumerate(shelf.aliases):
            assert all(shelf.cells.get(node.key) is node and node.alias_keys[place] == key for key, node in aliases.items())


@pytest.mark.parametrize("maxsize", [0, -1, 1.5, "10", None, True])
def test_a_size_that_is_no_number_is_refused(maxsize: Any) -> None:
    """A bound below one, or no int, is ConfigurationError with the value."""
    with pytest.raises(ConfigurationError, match=rf"^maxsize is a number of objects from 1, not {maxsize!r}$"):
        LocalCells(maxsize)


@pytest.mark.parametrize("maxsize", [1, 2, 9, 10, 100])
def test_never_more_than_the_bound_together(maxsize: int) -> None:
    """Records that are kept together are bounded too, and may replace others."""
    cells, shelf = LocalCells[int, int](maxsize), new_shelf(1)
    cells.put(shelf, 7, 0, None, (7,))
    evicted = sum(
        cells.alone(cells.keep_together, shelf, {at: at + 1 for at in range(start, start + 10)}, None) for start in range(0, 500, 5)
    )
    assert len(cells) == min(505, maxsize)
    assert evicted >= 505 - maxsize
    assert all(node.value == key + 1 and node.expires == math.inf for key, node in shelf.cells.items())
    assert_whole(cells, shelf)


def test_what_is_kept_together_gives_way_to_a_finalizer() -> None:
    """A finalizer that came up in the middle, and removes one of the records, has the last word."""
    cells, shelf = LocalCells[int, Any](10), new_shelf()

    class Late(dict[int, Any]):
        def items(self) -> Any:
            cells.remove(shelf.cells, 1)
            return super().items()

    cells.alone(cells.keep_together, shelf, Late({1: "old", 2: "two"}), None)
    assert 1 not in shelf.cells
    assert_whole(cells, shelf)


@pytest.mark.parametrize("maxsize", [1, 2, 9, 10, 100])
def test_never_more_than_the_bound(maxsize: int) -> None:
    """Each put beyond the bound evicts one record, and says so; the newest always stays."""
    cells, shelf = LocalCells[int, int](maxsize), new_shelf()
    evicted = 0
    for number in range(500):
        evicted += cells.put(shelf, number, number, None, ())
        assert shelf.cells[number].value == number
        assert len(cells) == min(number + 1, maxsize)
    assert evicted == 500 - maxsize
    assert_whole(cells, shelf)


def test_the_bound_holds_for_all_shelves_together() -> None:
    """Records of several classes share one bound."""
    cells, shelves = LocalCells[int, int](10), [new_shelf() for _ in range(3)]
    for number in range(100):
        cells.put(shelves[number % 3], number, number, None, ())
    assert len(cells) == 10
    assert_whole(cells, *shelves)


def test_an_eviction_drops_the_aliases() -> None:
    """What leaves is not found by any key, and the value is let go of."""
    cells, shelf = LocalCells[Any, Any](1), new_shelf(2)
    cells.put(shelf, 1, "one", None, ("a", "b"))
    cells.put(shelf, 2, "two", None, ("c", None))
    assert list(shelf.cells) == [2]
    assert [list(aliases) for aliases in shelf.aliases] == [["c"], []]
    assert_whole(cells, shelf)


def test_an_eviction_leaves_aliases_that_point_elsewhere() -> None:
    """An alias that a later record took over stays with that one."""
    cells, shelf = LocalCells[Any, Any](2), new_shelf(1)
    cells.put(shelf, 1, "one", None, ("shared",))
    cells.put(shelf, 2, "two", None, ("shared",))
    assert cells.remove(shelf.cells, 1)
    assert shelf.aliases[0]["shared"].value == "two"
    assert_whole(cells, shelf)


def test_a_replaced_record_loses_its_old_aliases() -> None:
    """Putting again with other aliases leaves none of the old ones, and keeps one node."""
    cells, shelf = LocalCells[Any, Any](5), new_shelf(2)
    cells.put(shelf, 1, "old", 9.0, ("a", "b"))
    node = shelf.cells[1]
    assert cells.put(shelf, 1, "new", None, ("c", "b")) == 0
    assert shelf.cells[1] is node
    assert (node.value, node.expires, [list(aliases) for aliases in shelf.aliases]) == ("new", math.inf, [["c"], ["b"]])
    assert_whole(cells, shelf)


def test_a_record_moves_to_the_shelf_of_its_new_class() -> None:
    """Shelves that share records, as those of a class hierarchy do, replace each other's."""
    cells = LocalCells[Any, Any](5)
    base = new_shelf(1)
    sub = Shelf(base.cells, ({},))
    cells.put(base, 1, "base", None, ("a",))
    cells.put(sub, 1, "sub", None, ("b",))
    assert (len(cells), base.cells[1].value, list(base.aliases[0]), list(sub.aliases[0])) == (1, "sub", [], ["b"])


def test_remove_says_whether_there_was_one() -> None:
    """A record is removed once."""
    cells, shelf = LocalCells[int, int](5), new_shelf()
    cells.put(shelf, 1, 1, None, ())
    assert (cells.remove(shelf.cells, 1), cells.remove(shelf.cells, 1), len(cells)) == (True, False, 0)


def test_expire_drops_only_what_has_expired() -> None:
    """A node is dropped by its own expiry at that moment, once, however a reader came to hold it."""
    cells, shelf = LocalCells[Any, Any](5), new_shelf(1)
    cells.put(shelf, 1, "x", 10.0, ("a",))
    node = shelf.cells[1]
    assert cells.expire(node, 9.9) is False
    cells.put(shelf, 1, "renewed", 20.0, ("a",))
    assert cells.expire(node, 10.0) is False
    assert shelf.aliases[0]["a"].value == "renewed"
    assert cells.expire(node, 20.0) is True
    assert cells.expire(node, 20.0) is False
    assert_whole(cells, shelf)
    assert not shelf.aliases[0]


def test_clear_drops_some_shelves_or_all() -> None:
    """Clearing one shelf's records leaves the others; clearing all leaves nothing, and counts of hits stay."""
    cells, one, two = LocalCells[int, int](10), new_shelf(1), new_shelf(1)
    for number in range(4):
        cells.put(one, number, number, None, (number,))
        cells.put(two, number, number, None, (number,))
    one.cells[0].hits += 3
    cells.clear([one.cells])
    assert (len(cells), len(one.cells), len(one.aliases[0]), len(two.cells), len(two.aliases[0])) == (4, 0, 0, 4, 4)
    cells.clear()
    assert (len(cells), len(two.cells), len(two.aliases[0]), cells.hits()) == (0, 0, 0, 3)
    assert_whole(cells, one, two)


def test_hits_count_those_of_records_that_are_gone() -> None:
    """Evicted, replaced and removed records keep their share of the sum."""
    cells, shelf = LocalCells[int, int](1), new_shelf()
    for number in range(3):
        cells.put(shelf, number, number, None, ())
        shelf.cells[number].hits += 1
    cells.put(shelf, 2, 22, None, ())
    shelf.cells[2].hits += 1
    cells.remove(shelf.cells, 2)
    assert cells.hits() == 4


# -- which records leave ----------------------------------------------------------------------------


class Lru:
    """The least recently used goes."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.kept: OrderedDict[int, None] = OrderedDict()

    def ask(self, key: int) -> bool:
        """Say whether the key is there, and keep it."""
        hit = key in self.kept
        self.kept[key] = None
        self.kept.move_to_end(key)
        if len(self.kept) > self.maxsize:
            self.kept.popitem(last=False)
        return hit


class S3Fifo:
    """S3-FIFO as its paper writes it."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize, self.small_size = maxsize, max(1, maxsize // 10)
        self.small: deque[int] = deque()
        self.main: deque[int] = deque()
        self.ghost: OrderedDict[int, None] = OrderedDict()
        self.frequency: dict[int, int] = {}

    def ask(self, key: int) -> bool:
        """Say whether the key is there, and keep it."""
        if key in self.frequency:
            self.frequency[key] = min(self.frequency[key] + 1, 3)
            return True
        while len(self.frequency) >= self.maxsize:
            if len(self.small) >= self.small_size or not self.main:
                self._leave_small()
            else:
                self._leave_main()
        (self.main if key in self.ghost else self.small).append(key)
        self.ghost.pop(key, None)
        self.frequency[key] = 0
        return False

    def _leave_small(self) -> None:
        key = self.small.popleft()
        if self.frequency[key] > 1:
            self.frequency[key] = 0
            self.main.append(key)
            return
        del self.frequency[key]
        self.ghost[key] = None
        if len(self.ghost) > self.maxsize - self.small_size:
            self.ghost.popitem(last=False)

    def _leave_main(self) -> None:
        key = self.main.popleft()
        if self.frequency[key]:
            self.frequency[key] -= 1
            self.main.append(key)
        else:
            del self.frequency[key]


class Ours:
    """The cells as a read-through cache uses them."""

    def __init__(self, maxsize: int) -> None:
        self.cells: LocalCells[int, int] = LocalCells(maxsize)
        self.shelf = new_shelf()

    def ask(self, key: int) -> bool:
        """Say whether the key is there, and keep it."""
        node = self.shelf.cells.get(key)
        if node is not None:
            node.hits += 1
            return True
        self.cells.put(self.shelf, key, key, None, ())
        return False


KEYS, REQUESTS, MOVES = 5_000, 100_000, 8


def zipf(seed: int = 1) -> Iterator[int]:
    """Ask for keys by their rank: Zipf with exponent 1.0."""
    weights = list(accumulate(1 / rank for rank in range(1, KEYS + 1)))
    return iter(random.Random(seed).choices(range(KEYS), cum_weights=weights, k=REQUESTS))


def with_scans() -> Iterator[int]:
    """One request in five belongs to a walk through keys that nobody asks for again."""
    chooser, scanned = random.Random(2), KEYS
    for key in zipf():
        scanning = chooser.random() < 0.2
        scanned += scanning
        yield scanned if scanning else key


def with_a_moving_hot_set() -> Iterator[int]:
    """Which keys are popular changes from time to time, altogether."""
    return ((key + number // (REQUESTS // MOVES) * KEYS // 20) % KEYS for number, key in enumerate(zipf()))


def hit_ratio(cache: Lru | S3Fifo | Ours, trace: Iterator[int]) -> float:
    """Give the share of hits in percent."""
    return 100 * sum(map(cache.ask, trace)) / REQUESTS


@pytest.mark.parametrize(
    ("trace", "gain_on_lru"), [(zipf, 6.0), (with_scans, 8.0), (with_a_moving_hot_set, 4.0)], ids=["zipf", "scans", "moving"]
)
def test_evicts_at_least_as_well_as_s3_fifo(trace: Callable[[], Iterator[int]], gain_on_lru: float) -> None:
    """With room for 5 % of the keys, the share of hits is that of S3-FIFO as published, and well above that of LRU."""
    size = KEYS // 20
    ours, s3_fifo, lru = (hit_ratio(cache, trace()) for cache in (Ours(size), S3Fifo(size), Lru(size)))
    print(f"{trace.__name__}: ours {ours:.1f}, S3-FIFO {s3_fifo:.1f}, LRU {lru:.1f}")  # noqa: T201 - the figures, when it fails
    assert ours >= s3_fifo - 0.3
    assert ours >= lru + gain_on_lru


@pytest.mark.parametrize(("hits", "stays"), [(0, False), (1, False), (2, True), (9, True)])
def test_a_newcomer_stays_that_was_asked_for_twice(hits: int, stays: bool) -> None:
    """A record that no one, or one reader, asked for makes room for the next newcomers; after two it stays."""
    cells, shelf = LocalCells[int, int](10), new_shelf()
    cells.put(shelf, 0, 0, None, ())
    shelf.cells[0].hits += hits
    for number in range(1, 12):
        cells.put(shelf, number, number, None, ())
    assert (0 in shelf.cells) is stays


def test_a_record_that_comes_back_soon_stays_longer() -> None:
    """A record asked for again just after it left goes to the main queue at once, and survives newcomers."""
    cells, shelf = LocalCells[int, int](10), new_shelf()
    for number in range(11):
        cells.put(shelf, number, number, None, ())
    assert 0 not in shelf.cells
    for number in (0, *range(11, 30)):
        cells.put(shelf, number, number, None, ())
    assert 0 in shelf.cells


def test_a_scan_does_not_drive_out_what_is_asked_for() -> None:
    """Keys asked for again and again survive any number of keys asked for once."""
    ours = Ours(100)
    hot = range(50)
    for _ in range(4):
        for key in hot:
            ours.ask(key)
    for key in range(1000, 3000):
        ours.ask(key)
    assert sum(key in ours.shelf.cells for key in hot) == 50


# -- memory -----------------------------------------------------------------------------------------


def memory_after(work: Callable[[int], object], rounds: int) -> int:
    """Give the bytes in use after so many rounds."""
    for number in range(rounds):
        work(number)
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.fixture
def traced() -> Iterator[None]:
    """Count memory during the test."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_memory_stays_flat_under_puts_and_deletes(traced: None) -> None:
    """Records that come and go, evicted or deleted, leave nothing behind."""
    cells, shelf = LocalCells[int, bytes](100), new_shelf(1)

    def come_and_go(number: int) -> None:
        cells.put(shelf, number, bytes(100), None, (-number,))
        if number % 2:
            cells.remove(shelf.cells, number)

    first = memory_after(come_and_go, 3_000)
    second = memory_after(come_and_go, 5_000)
    assert second - first < 20_000
    assert len(cells._small) + len(cells._main) <= 2 * len(cells) + 64 + 1


def test_memory_stays_flat_where_nothing_is_evicted(traced: None) -> None:
    """A queue far from full does not gather the places of deleted records."""
    cells, shelf = LocalCells[int, bytes](1_000_000), new_shelf()

    def come_and_go(number: int) -> None:
        cells.put(shelf, number, bytes(100), None, ())
        cells.remove(shelf.cells, number)

    first = memory_after(come_and_go, 1_000)
    assert memory_after(come_and_go, 10_000) - first < 5_000


def test_memory_stays_flat_with_expired_records(traced: None) -> None:
    """Records that expire unread are bounded like any other, and those that are read are dropped."""
    cells, shelf = LocalCells[int, bytes](200), new_shelf(1)

    def expire(number: int) -> None:
        cells.put(shelf, number, bytes(100), float(number), (-number,))
        if number % 3 == 0:
            cells.expire(shelf.cells[number], number + 1.0)

    first = memory_after(expire, 3_000)
    assert memory_after(expire, 5_000) - first < 20_000
    assert_whole(cells, shelf)


# -- threads, finalizers and forks -------------------------------------------------------------------


def test_a_finalizer_may_use_the_cells() -> None:
    """Values are let go of outside the lock: what runs then can put, remove and clear without waiting for itself."""
    cells, shelf = LocalCells[Any, Any](2), new_shelf()
    finalized: list[int] = []

    class Careful:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            finalized.append(self.number)
            cells.remove(shelf.cells, "nothing")
            cells.hits()

    def use() -> None:
        for number in range(4):
            cells.put(shelf, number, Careful(number), None, ())
        cells.put(shelf, 3, Careful(4), None, ())
        cells.remove(shelf.cells, 3)
        cells.put(shelf, 5, Careful(5), 1.0, ())
        cells.expire(shelf.cells[5], 2.0)
        cells.clear()

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    gc.collect()
    assert sorted(finalized) == [0, 1, 2, 3, 4, 5]


def test_threads_leave_the_cells_whole() -> None:
    """Eight threads that put, remove, expire and clear at once leave records, aliases, queues and size in agreement."""
    cells, shelves = LocalCells[int, int](50), (new_shelf(2), new_shelf(1))
    errors: list[BaseException] = []

    def hammer(seed: int) -> None:
        chooser = random.Random(seed)
        try:
            for _ in range(3_000):
                shelf, key = chooser.choice(shelves), chooser.randrange(120)
                action = chooser.random()
                node: Node[Any, Any] | None = shelf.cells.get(key)
                if action < 0.5:
                    aliases = tuple(chooser.choice((key, key + 1, None)) for _ in shelf.aliases)
                    cells.put(shelf, key, key, chooser.choice((None, 1.0)), aliases)
                elif action < 0.8:
                    cells.remove(shelf.cells, key)
                elif action < 0.99 and node is not None:
                    node.hits += 1
                    cells.expire(node, 2.0)
                elif action > 0.998:
                    cells.clear(chooser.choice((None, [shelf.cells])))
        except BaseException as error:  # noqa: BLE001 - whatever a thread dies of fails the test
            errors.append(error)

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert_whole(cells, *shelves)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_writes() -> None:
    """The child finds the cells whole and can write, however busy other threads were at the fork."""
    cells, shelf = LocalCells[int, int](20), new_shelf(1)
    done = threading.Event()

    def write() -> None:
        for number in iter(lambda: random.randrange(100), None):
            cells.put(shelf, number, number, None, (number,))
            if done.is_set():
                return

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    statuses = [_status_of_child(cells, shelf) for _ in range(10)]
    done.set()
    for writer in writers:
        writer.join(10)
    assert Counter(statuses) == {0: 10}


def _status_of_child(cells: LocalCells[Any, Any], shelf: Shelf[Any, Any]) -> int:
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        status = 1
        try:
            assert_whole(cells, shelf)
            cells.put(shelf, -1, -1, None, (-1,))
            status = 0 if shelf.cells[-1].value == -1 else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_finalizer_that_the_collector_runs_under_the_lock_may_use_the_map() -> None:
    """An object in a cycle whose finalizer writes and drops records never blocks a put, and leaves the map whole."""
    cells: LocalCells[Any, Any] = LocalCells(50)
    shelf = new_shelf()

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            cells.put(shelf, 1, "one", None, ())
            cells.remove(shelf.cells, 1)

    before = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    try:
        for number in range(2, 5000):
            Cycle()
            cells.put(shelf, number, number, None, ())
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert shelf.cells[4999].value == 4999
    assert_whole(cells, shelf)


def test_a_put_of_the_same_keys_takes_its_alias_back() -> None:
    """An alias that another record has taken points to the record that was put last."""
    cells: LocalCells[Any, Any] = LocalCells(10)
    shelf = new_shelf(1)
    cells.put(shelf, 1, "one", None, ("x",))
    cells.put(shelf, 2, "two", None, ("x",))
    cells.put(shelf, 1, "one again", None, ("x",))
    assert shelf.aliases[0]["x"].value == "one again"
    cells.put(shelf, 1, "one more", None, ("x",))
    assert shelf.cells[1].value == shelf.aliases[0]["x"].value == "one more"


def test_a_put_of_a_known_key_waits_for_no_other_thread() -> None:
    """While another thread holds the lock, a new value of a lasting record is stored at once."""
    cells: LocalCells[Any, Any] = LocalCells(10)
    shelf = new_shelf()
    cells.put(shelf, 1, "old", None, ())
    with cells.lock:
        writer = threading.Thread(target=cells.put, args=(shelf, 1, "new", None, ()))
        writer.start()
        writer.join(10)
        assert not writer.is_alive()
    assert shelf.cells[1].value == "new"
    assert_whole(cells, shelf)
