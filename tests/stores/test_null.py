"""The store that keeps nothing."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from stockstore import CodecError, ConfigurationError, NotKeyedError, NullStore, UnknownKeyError
from tests.stores.things import Thing, User, user

pytestmark = pytest.mark.sa_agnostic


def test_nothing_is_kept() -> None:
    """What was put is not there, by any verb, and nothing is counted but the misses."""
    with NullStore() as store:
        store.put(user(1))
        store.batch_put([user(1), user(2)])
        assert store.get(User, 1) is None
        assert store.batch_get(User, [1, {"email": "2@b.c"}, 1]) == [None, None, None]
        assert store.contains(User, 1) is False
        assert store.delete(User, 1) is False
        assert store.delete(user(1)) is False
        assert store.batch_delete([user(1), user(2)]) == 0
        assert store.batch_delete(User, [1, 2]) == 0
        store.clear()
        store.clear(User)
    stats = store.stats()
    assert (stats.hits, stats.misses, stats.puts, stats.deletes, stats.errors) == (0, 5, 0, 0, 0)
    assert repr(store) == "NullStore()"


def test_a_loader_is_asked_each_time() -> None:
    """``get_or_load`` gives what the loader gives, and asks again the next time."""
    store, people = NullStore(), [user(1), user(1)]
    left = iter(people)
    assert [store.get_or_load(User, 1, lambda: next(left)) for _ in people] == people


@pytest.mark.parametrize(
    ("verb", "error", "message"),
    [
        (
            lambda store: store.get(User, phone=1),
            UnknownKeyError,
            "User has no key 'phone'; it declares 'id', 'email', ('tenant', 'username')",
        ),
        (lambda store: store.batch_get(User, [1, {"tenant": 1}]), UnknownKeyError, "User has no key 'tenant'; it declares"),
        (lambda store: store.batch_get(User, {"id": 1}), UnknownKeyError, "a batch of keys is an iterable of them"),
        (lambda store: store.delete(User, {}), UnknownKeyError, "User has no key (); it declares"),
        (lambda store: store.batch_delete(User), UnknownKeyError, "a batch of keys is an iterable of them"),
        (lambda store: store.batch_delete([user(1)], [1]), UnknownKeyError, "batch_delete takes objects, or a class and keys"),
        (lambda store: store.get(User), UnknownKeyError, "no key was given"),
        (lambda store: store.get(Thing, 1), NotKeyedError, "Thing declares no keys"),
        (lambda store: store.get("User", 1), NotKeyedError, "the first argument is the class to look up, not 'User'"),
        (lambda store: store.put(7), NotKeyedError, "builtins.int declares no keys"),
        (lambda store: store.delete(7), NotKeyedError, "builtins.int declares no keys"),
        (lambda store: store.clear(Thing), NotKeyedError, "Thing declares no keys"),
        (lambda store: store.batch_put(7), ConfigurationError, "a batch is an iterable of objects, not 7"),
        (lambda store: store.get(User, float("nan")), CodecError, "NaN cannot be part of a key"),
    ],
)
def test_wrong_input_is_refused_as_by_every_store(verb: Callable[[Any], object], error: type[Exception], message: str) -> None:
    """Switching a cache off hides no mistake of the code around it."""
    with pytest.raises(error, match=re.escape(message)):
        verb(NullStore())
