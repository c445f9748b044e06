"""Objects, keys, loaders and subclasses that do not behave."""

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from stockstore import CacheUnreachable, ChainedStore, CodecError, MappingStore, NotKeyedError, ProcessMemoryStore, Store, ThreadLocalStore

LOCALS: list[Callable[[], Store]] = [ProcessMemoryStore, ThreadLocalStore, lambda: ChainedStore([ProcessMemoryStore(), MappingStore({})])]


class Note:
    """Two keys."""

    __keys__ = ["id", "title"]

    def __init__(self, id: int, title: Any = "", text: str = "") -> None:  # noqa: A002 - the attribute's name
        self.id, self.title, self.text = id, title, text


def forget_title(note: Note) -> None:
    """Take the attribute away."""
    del note.title


def spoil_title(note: Note) -> None:
    """Leave a value that cannot be part of a key."""
    note.title = []


@pytest.mark.parametrize("spoil", [forget_title, spoil_title])
@pytest.mark.parametrize("make", LOCALS)
def test_a_shared_object_that_lost_its_key_is_a_miss_by_that_key(make: Callable[[], Store], spoil: Callable[[Note], None]) -> None:
    """What one reader does to an object raises nothing at another's read or delete, which go by the keys."""
    with make() as store:
        note = Note(1, "one")
        store.put(note)
        spoil(note)
        for _ in range(2):
            assert store.get(Note, 1) is not None
            found = store.get(Note, title="one")
            assert found is None or found.title == "one"
            assert [each is None or each.title == "one" for each in store.batch_get(Note, [{"title": "one"}])] == [True]
        store.delete(Note, title="one")
        store.delete(Note, 1)
        assert not store.contains(Note, 1)


def test_a_tier_with_a_spoilt_object_is_still_read(caplog: pytest.LogCaptureFixture) -> None:
    """A delete by a key that a shared object has lost leaves no debt that the tier could never pay."""
    memory = ProcessMemoryStore()
    with ChainedStore([memory, MappingStore({})]) as chain, caplog.at_level(logging.WARNING):
        note = Note(1, "one")
        chain.put(note)
        spoil_title(note)
        chain.delete(Note, title="one")
        chain.put(Note(2, "two"))
        before = memory.stats().hits
        assert chain.get(Note, 2) is not None
        assert memory.stats().hits == before + 1
    assert not caplog.records


class Proxy:
    """Says that it is of the type of another object."""

    def __init__(self, kind: type) -> None:
        object.__setattr__(self, "kind", kind)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """Give the other type."""
        return object.__getattribute__(self, "kind")


@pytest.mark.parametrize("kind", [str, int, float, bytes])
def test_a_key_value_that_only_pretends_to_a_type_is_refused(kind: type) -> None:
    """A proxy in place of a key value is a ``CodecError``."""
    with pytest.raises(CodecError, match=r"Proxy cannot be read"):
        ProcessMemoryStore().get(Note, Proxy(kind))


def test_a_loader_that_hides_what_it_takes_is_given_the_key() -> None:
    """A builtin without a signature is called with the key."""
    store = ProcessMemoryStore()
    note = store.get_or_load(Note, 1, {1: Note(1)}.pop)
    assert note is not None
    assert store.get(Note, 1) is note


class Counting:
    """A mixin that counts batches, over any store."""

    reads = writes = 0

    def batch_get(self, cls: type, keys: Iterable[Any], *, session: Any = None) -> Any:
        """Count a read."""
        self.reads += 1
        return super().batch_get(cls, keys, session=session)  # type: ignore[misc]

    def batch_put(self, objects: Iterable[object]) -> None:
        """Count a write."""
        self.writes += 1
        super().batch_put(objects)  # type: ignore[misc]


class CountingMemory(Counting, ProcessMemoryStore):
    """The mixin over process memory."""


class CountingMapping(Counting, MappingStore):
    """The mixin over a mapping."""


class CountingChain(Counting, ChainedStore):  # type: ignore[misc]
    """The mixin over a chain."""


@pytest.mark.parametrize(
    "make", [CountingMemory, lambda: CountingMapping({}), lambda: CountingChain([ProcessMemoryStore(), MappingStore({})])]
)
def test_no_way_leads_around_the_verbs_of_a_mixin(make: Callable[[], Any]) -> None:
    """Each read and write, by the one-item verbs and through a chain, is one of the mixin's."""
    with make() as store:
        store.put(Note(1))
        assert store.get(Note, 1).id == 1
        assert store.get(Note, 1).id == 1
        assert (store.writes, store.reads) == (1, 2)
    with make() as store, ChainedStore([store]) as chain:
        chain.put(Note(1))
        assert chain.get(Note, 1) is not None
        assert (store.writes, store.reads) == (1, 1)


class Flaky(MappingStore):
    """Refuses everything while it is down."""

    down = False

    def batch_put(self, objects: Iterable[object]) -> None:
        """Store, or refuse."""
        self._refuse()
        super().batch_put(objects)

    def batch_delete(self, targets: Any, keys: Any = None) -> int:
        """Delete, or refuse."""
        self._refuse()
        return super().batch_delete(targets, keys)

    def _refuse(self) -> None:
        if self.down:
            raise CacheUnreachable("it is down; start it")


@pytest.fixture
def _hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_hasty_threads")
def test_writers_at_once_owe_a_tier_all_of_their_keys() -> None:
    """What threads wrote together while a tier was down reads as they wrote it when the tier is back."""
    for _ in range(10):
        top = Flaky({})
        with ChainedStore([top, MappingStore({})]) as chain:
            chain.batch_put([Note(number, number, "old") for number in range(64)])
            top.down = True

            def write(first: int, chain: ChainedStore = chain) -> None:
                for number in range(first, 64, 8):
                    chain.put(Note(number, number, "new"))

            threads = [threading.Thread(target=write, args=(first,)) for first in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            top.down = False
            chain.put(Note(64, 64, "new"))
            assert {note and note.text for note in chain.batch_get(Note, list(range(65)))} == {"new"}


def test_no_class_is_refused_while_a_tier_is_owed_something() -> None:
    """A look-up of what is no class is ``NotKeyedError`` then too."""
    top = Flaky({})
    with ChainedStore([top, MappingStore({})]) as chain:
        top.down = True
        chain.put(Note(1))
        with pytest.raises(NotKeyedError, match="the first argument is the class to look up, not None"):
            chain.get(None, 1)  # type: ignore[arg-type]
