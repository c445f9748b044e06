"""Wrong input is refused by what was wrong with it."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from stockstore import ChainedStore, CodecError, ConfigurationError, NotKeyedError, ProcessMemoryStore, UnknownKeyError
from tests.stores.memory.readings import every_reading
from tests.stores.things import Code, Thing, User, user

pytestmark = pytest.mark.sa_agnostic


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"phone": 1}, "User has no key 'phone'; it declares 'id', 'email', ('tenant', 'username')"),
        ({"tenant": 1}, "User has no key 'tenant'; it declares 'id', 'email', ('tenant', 'username')"),
        ({}, "User has no key (); it declares 'id', 'email', ('tenant', 'username')"),
        ((1, 2), "User is 'id': it needs 1 values in this order, not (1, 2)"),
    ],
)
def test_a_wrong_key_is_refused(warm: bool, key: Any, message: str) -> None:
    """An unknown, incomplete or empty key is UnknownKeyError for every verb, also where the class was read before."""
    store = ProcessMemoryStore()
    store.put(user(1))
    if warm:
        every_reading(store, User, 1)
    verbs: list[Callable[[], object]] = [
        lambda: store.get(User, key),
        lambda: store.batch_get(User, [1, key]),
        lambda: store.contains(User, key),
        lambda: store.delete(User, key),
        lambda: store.batch_delete(User, [1, key]),
        lambda: store.get_or_load(User, key, lambda: None),
    ]
    for verb in verbs:
        with pytest.raises(UnknownKeyError, match=re.escape(message)):
            verb()
    assert store.contains(User, 1)


@pytest.mark.parametrize("warm", [True, False])
def test_keys_given_twice_or_not_at_all_are_refused(warm: bool) -> None:
    """No key, a key as well as keywords, and a key beside an object are UnknownKeyError."""
    store, ann = ProcessMemoryStore(), user(1)
    store.put(ann)
    if warm:
        every_reading(store, User, 1)
    no_key = "no key was given; give a dict, the canonical key's value, or names as keywords"
    twice = re.escape("the key was given twice, as 1 and as {'id': 1}")
    for verb in (store.get, store.contains, store.delete):
        with pytest.raises(UnknownKeyError, match=no_key):
            verb(User)
        with pytest.raises(UnknownKeyError, match=twice):
            verb(User, 1, id=1)
    with pytest.raises(UnknownKeyError, match="delete takes an object, or a class and a key; it was given the object"):
        store.delete(ann, 1)
    assert store.get(User, 1) is ann


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("thing", ["User", 7, None, [], {}])
def test_what_is_no_class_is_refused(warm: bool, thing: Any) -> None:
    """Something else in the place of the class is NotKeyedError showing it."""
    store = ProcessMemoryStore()
    if warm:
        store.get(User, 1)
    for verb in (lambda: store.get(thing, 1), lambda: store.batch_get(thing, [1]), lambda: store.contains(thing, 1)):
        with pytest.raises(NotKeyedError, match=re.escape(f"the first argument is the class to look up, not {thing!r}")):
            verb()


@pytest.mark.parametrize("thing", [7, "text", None, object(), User, Thing()])
def test_an_object_without_keys_is_refused(thing: Any) -> None:
    """An object whose class declares no keys is NotKeyedError naming the class, and nothing of its batch is stored."""
    store = ProcessMemoryStore()
    message = re.escape(f"{type(thing).__module__}.{type(thing).__qualname__} declares no keys; give it __keys__")
    with pytest.raises(NotKeyedError, match=message):
        store.batch_put([user(1), thing])
    with pytest.raises(NotKeyedError, match=message):
        store.batch_delete([user(1), thing])
    assert store.get(User, 1) is None


@pytest.mark.parametrize(("missing", "key"), [("id", "'id'"), ("email", "'email'"), ("username", r"\('tenant', 'username'\)")])
def test_an_object_without_a_key_attribute_is_refused(missing: str, key: str) -> None:
    """An object that lacks the attribute of any of its keys is NotKeyedError naming both."""
    store, ann = ProcessMemoryStore(), user(1)
    delattr(ann, missing)
    with pytest.raises(NotKeyedError, match=rf"a .*User has no value for its key {key}: .* has no attribute '{missing}'"):
        store.batch_put([user(2), ann])
    assert store.get(User, 2) is None


def test_an_object_without_its_canonical_key_cannot_be_deleted() -> None:
    """A delete of such an object is NotKeyedError too, alone and in a chain."""
    store = ProcessMemoryStore()
    for one in (store, ChainedStore([store])):
        with pytest.raises(NotKeyedError, match=r"a .*User has no value for its key 'id': .* has no attribute 'id'"):
            one.delete(User(email="a"))


@pytest.mark.parametrize("batch", [7, None, "text", b"bytes", User])
def test_a_batch_that_is_none_is_refused(batch: Any) -> None:
    """What is no iterable of objects is ConfigurationError showing it."""
    store = ProcessMemoryStore()
    with pytest.raises(ConfigurationError, match=re.escape(f"a batch is an iterable of objects, not {batch!r}")):
        store.batch_put(batch)


@pytest.mark.parametrize("value", [float("nan"), [1], object()])
def test_a_key_value_that_cannot_be_one_is_refused(value: Any) -> None:
    """NaN and values without an encoding are CodecError at put and at get."""
    store = ProcessMemoryStore()
    with pytest.raises(CodecError, match="cannot be"):
        store.put(Code(code=value))
    for _ in range(2):
        with pytest.raises(CodecError, match="cannot be"):
            store.get(Code, {"code": value})
        store.get(Code, 1)


@pytest.mark.parametrize("maxsize", [0, -5, 1.0, "10", None, True])
def test_a_size_that_is_no_number_is_refused(maxsize: Any) -> None:
    """A bound that is no int from 1 is ConfigurationError with the value."""
    with pytest.raises(ConfigurationError, match=re.escape(f"maxsize is a number of objects from 1, not {maxsize!r}")):
        ProcessMemoryStore(maxsize=maxsize)


@pytest.mark.parametrize("keys", [{"id": 1}, "1", b"1", 1, None])
@pytest.mark.parametrize("warm", [True, False])
def test_keys_that_are_no_batch_are_refused(warm: bool, keys: Any) -> None:
    """One key in the place of a batch is UnknownKeyError, not a batch of its letters or names."""
    store = ProcessMemoryStore()
    store.put(user(1))
    if warm:
        every_reading(store, User, 1)
    message = re.escape(f"a batch of keys is an iterable of them, such as [1, {{'id': 2}}], not {keys!r}")
    for verb in (store.batch_get, store.batch_delete):
        with pytest.raises(UnknownKeyError, match=message):
            verb(User, keys)
    assert store.contains(User, 1)


def test_objects_and_keys_together_are_refused() -> None:
    """A delete of objects takes no keys beside them."""
    store, ann = ProcessMemoryStore(), user(1)
    store.put(ann)
    with pytest.raises(UnknownKeyError, match=r"batch_delete takes objects, or a class and keys; it was given \[.*\] and keys as well"):
        store.batch_delete([ann], [1])
    assert store.get(User, 1) is ann


@pytest.mark.parametrize("name", ["polymorphic", "copy"])
def test_a_switch_is_no_text(name: str) -> None:
    """A text, as a settings file gives it, would be taken for true whatever it says."""
    options: dict[str, Any] = {name: "no"}
    with pytest.raises(ConfigurationError, match=rf"^{name} is True or False, not 'no'$"):
        ProcessMemoryStore(**options)
