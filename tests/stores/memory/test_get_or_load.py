"""Loaders of what no tier has."""

from collections.abc import Callable
from typing import Any

import pytest

from stockstore import ChainedStore, ConfigurationError, ProcessMemoryStore, ShardedStore, Store, UnknownKeyError
from tests.stores.memory.readings import counts
from tests.stores.things import Animal, Code, Dog, User, user

pytestmark = pytest.mark.sa_agnostic


def test_a_loader_is_asked_once() -> None:
    """What the loader gives is stored under every key, and the next read does not ask it."""
    store, asked = ProcessMemoryStore(), []

    def load(key: object) -> User:
        asked.append(key)
        return user(1)

    ann = store.get_or_load(User, {"email": "1@b.c"}, load)
    assert ann is store.get_or_load(User, {"email": "1@b.c"}, load) is store.get_or_load(User, 1, load) is store.get(User, 1)
    assert asked == [{"email": "1@b.c"}]


def test_a_loader_may_take_no_argument() -> None:
    """A loader without parameters is called with nothing."""
    store, ann = ProcessMemoryStore(), user(1)
    assert store.get_or_load(User, 1, lambda: ann) is ann
    assert store.get(User, 1) is ann


def test_what_is_no_loader_is_refused() -> None:
    """A value in place of a loader is ConfigurationError that shows it."""
    with pytest.raises(ConfigurationError, match=r"^a loader is a callable that gives the object of a key, .*, not 'ann'$"):
        ProcessMemoryStore().get_or_load(User, 1, "ann")  # type: ignore[arg-type]


@pytest.mark.parametrize("loader", [lambda _key, _more: None, lambda *, key: key])
def test_a_loader_that_takes_other_arguments_is_refused(loader: Callable[..., None]) -> None:
    """A callable that could not be called is ConfigurationError; a TypeError from within a loader stays its own."""
    with pytest.raises(
        ConfigurationError, match=r"^a loader is called with the key, or with nothing, and <function .* takes other arguments$"
    ):
        ProcessMemoryStore().get_or_load(User, 1, loader)
    with pytest.raises(TypeError, match="no len"):
        ProcessMemoryStore().get_or_load(User, 1, lambda key: user(len(key)))


def test_none_from_a_loader_is_not_stored() -> None:
    """Nothing found is asked for again."""
    store, answers = ProcessMemoryStore(), iter([None, None, user(1)])
    assert [store.get_or_load(User, 1, lambda: next(answers)) is None for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    "wrong",
    [user(2), user(1, email="other@b.c"), Code(code="1@b.c")],
    ids=["another key", "another value", "another class"],
)
def test_a_loader_that_gives_another_object_is_refused(wrong: Any) -> None:
    """An object that does not carry the key asked for is UnknownKeyError, and is not stored."""
    store = ProcessMemoryStore()
    with pytest.raises(UnknownKeyError, match=r"the loader for .*User \{'email': '1@b\.c'\} gave .*, which does not carry this key"):
        store.get_or_load(User, {"email": "1@b.c"}, lambda: wrong)
    assert counts(store) == {"misses": 1}


def test_a_loader_that_gives_an_object_of_a_subclass() -> None:
    """It is kept where look-ups of the class find it; elsewhere it would be loaded each time, which is refused."""
    rex, asked = Dog(id=1, name="rex", chip="c"), []

    def load(key: object) -> Dog:
        asked.append(key)
        return rex

    def stores(**options: Any) -> list[Store]:
        cache = ProcessMemoryStore(**options)
        return [cache, ChainedStore([ProcessMemoryStore(), cache]), ShardedStore([cache, ProcessMemoryStore(**options)])]

    for store in stores(polymorphic=True):
        assert store.get_or_load(Animal, {"name": "rex"}, load) is rex is store.get_or_load(Animal, 1, load)
        store.clear()
    assert asked == [{"name": "rex"}] * 3
    for store in stores():
        with pytest.raises(ConfigurationError, match=r"gave a .*\.Dog, which .* do not find.*; ask for the Dog, or .* polymorphic=True$"):
            store.get_or_load(Animal, 1, load)
        assert store.get(Dog, {"id": 1}) is None
        assert store.get_or_load(Dog, {"id": 1}, load) is rex is store.get_or_load(Dog, "c", load)
        store.clear()


def test_an_error_of_a_loader_comes_through() -> None:
    """The loader's own error is the caller's, TypeError included."""

    def fail(key: object) -> User:
        raise TypeError(f"no {key}")

    with pytest.raises(TypeError, match=r"^no 1$"):
        ProcessMemoryStore().get_or_load(User, 1, fail)
