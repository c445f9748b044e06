"""What a look-up asks for, and which are refused."""

import re
from collections import OrderedDict
from types import MappingProxyType
from typing import NamedTuple

import pytest

from stockstore import CodecError, NotKeyedError, UnknownKeyError
from stockstore.keys import keys_of

pytestmark = pytest.mark.sa_agnostic


class User:
    __keys__ = ["id", "email", ("tenant", "username")]


class Seat:
    __keys__ = [("row", "number"), "code"]


class Place(NamedTuple):
    row: str
    number: int


USER_KEYS = "it declares 'id', 'email', ('tenant', 'username')"


def test_order_of_names_does_not_matter() -> None:
    """A composite key is the same in whatever order its names stand, in the look-up and in the declaration."""
    keys = keys_of(User)
    assert keys.lookup({"tenant": 1, "username": "ann"}) == keys.lookup({"username": "ann", "tenant": 1})
    turned = type("User", (), {"__keys__": ["id", ("username", "tenant")], "__module__": User.__module__})
    assert keys_of(turned).plan(("tenant", "username")).record_space == keys.plan(("tenant", "username")).record_space


@pytest.mark.parametrize("key", [{"id": 1}, OrderedDict(id=1), MappingProxyType({"id": 1}), 1, (1,), [1]])
def test_a_key_of_one_name_is_a_mapping_or_its_value(key: object) -> None:
    """Any mapping, the bare value and a tuple of it alone are the same key."""
    lookup = keys_of(User).lookup(key)
    assert (lookup.plan.declared, lookup.native, lookup.values) == (("id",), 1, (1,))


@pytest.mark.parametrize("key", [("A", 7), ["A", 7], Place("A", 7), {"number": 7, "row": "A"}])
def test_a_key_of_several_names_is_a_mapping_or_a_tuple(key: object) -> None:
    """A bare tuple gives the values in the order declared."""
    lookup = keys_of(Seat).lookup(key)
    assert dict(zip(lookup.plan.names, lookup.values, strict=True)) == {"row": "A", "number": 7}
    assert dict(zip(lookup.plan.names, lookup.plan.parts(lookup.native), strict=True)) == {"row": "A", "number": 7}


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ({"phone": 1}, "'phone'"),
        ({"tenant": 1}, "'tenant'"),
        ({"id": 1, "email": "a"}, "('id', 'email')"),
        ({"tenant": 1, "username": "a", "id": 1}, "('tenant', 'username', 'id')"),
        ({}, "()"),
        ({1: 1}, "1"),
    ],
)
def test_an_unknown_or_incomplete_key_is_refused(key: object, shown: str) -> None:
    """Names that are no declared key are UnknownKeyError with the names and the declared keys."""
    with pytest.raises(UnknownKeyError, match=re.escape(f"User has no key {shown}; {USER_KEYS}")):
        keys_of(User).lookup(key)


@pytest.mark.parametrize("key", ["A", 7, None, (), ("A",), ("A", 7, 1), {"A", 7}, b"A7"])
def test_a_bare_value_of_the_wrong_arity_is_refused(key: object) -> None:
    """What is no tuple of as many values as the canonical key has names is UnknownKeyError with the declared keys."""
    message = f"Seat is ('row', 'number'): it needs 2 values in this order, not {key!r}; the class declares ('row', 'number'), 'code'"
    with pytest.raises(UnknownKeyError, match=re.escape(message)):
        keys_of(Seat).lookup(key)


@pytest.mark.parametrize("key", [(), (1, 2), [1, 2]])
def test_several_values_for_one_name_are_refused(key: object) -> None:
    """A tuple of other than one value is no key of one name."""
    message = f"User is 'id': it needs 1 values in this order, not {key!r}; the class declares 'id', 'email', ('tenant', 'username')"
    with pytest.raises(UnknownKeyError, match=re.escape(message)):
        keys_of(User).lookup(key)


@pytest.mark.parametrize("value", [{1}, [1], (1,), object(), User, 1j, lambda: 1])
def test_a_value_that_cannot_be_a_key_is_refused(value: object) -> None:
    """A value of a type without an encoding is CodecError naming type and value."""
    kind = type(value)
    message = (
        f"a key value cannot be of type {kind.__module__}.{kind.__qualname__} ({value!r}); use numbers, text, bytes, UUID, dates or enums"
    )
    with pytest.raises(CodecError, match=re.escape(message)):
        keys_of(User).lookup({"id": value})


def test_an_object_without_the_attribute_is_refused() -> None:
    """An object that lacks a key attribute is NotKeyedError naming class, key and attribute."""
    user = User()
    with pytest.raises(NotKeyedError, match=r"a .*User has no value for its key \('tenant', 'username'\): .* 'tenant'"):
        keys_of(User).plan(("username", "tenant")).native_of(user)


def test_an_object_carries_the_key_by_which_it_is_looked_up() -> None:
    """The values of an object and of a look-up have one form, also where their types differ."""
    user = User()
    user.__dict__.update(id=1.0, tenant=True, username="ann")
    keys = keys_of(User)
    for key in ({"id": 1}, {"username": "ann", "tenant": 1}):
        lookup = keys.lookup(key)
        assert lookup.plan.native_of(user) == lookup.native


@pytest.mark.parametrize(("key", "expected"), [({"id": None}, True), ({"id": 0}, False), ({"tenant": 1, "username": None}, True)])
def test_a_none_part_is_told(key: object, expected: bool) -> None:
    """A key with a None part, and no other, is known as such: it has no alias."""
    lookup = keys_of(User).lookup(key)
    assert lookup.plan.has_none(lookup.native) is expected
