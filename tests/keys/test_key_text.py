"""The texts of keys: printable, short, with a prefix to clear by, and no two keys with one text."""

import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stockstore.keys import canonical, key_text, keys_of, label_of, namespace_text
from stockstore.keys.texts import read_text, read_texts
from tests.keys.samples import GERMAN, VERY_LONG, Color, Level, Right, Sprawling, User, Word, text_of_key

pytestmark = pytest.mark.sa_agnostic

ZONES = st.sampled_from([dt.timezone.utc, dt.timezone(dt.timedelta(hours=-9, minutes=-30)), dt.timezone(dt.timedelta(hours=14))])
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-3, 3),
    st.booleans(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False, min_value=-(10**9), max_value=10**9, places=3),
    st.fractions(max_denominator=9),
)
OTHERS = st.one_of(
    st.none(),
    st.text(st.characters(), max_size=400),
    st.sampled_from(["1", "i1", "n", "b1", "~", "a:b", "%20", " ", "sa%20", "\ud800", "q1/2"]),
    st.binary(max_size=300),
    st.uuids(),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=ZONES),
    st.times(),
    st.timedeltas(),
    st.sampled_from([*Color, *Level, *Word, *Right, Right.READ | Right.WRITE]),
    st.ip_addresses(),
)
VALUES = st.one_of(NUMBERS, OTHERS)


def text(*values: object, namespace: str = "shop", cls: type = User) -> str:
    """Give the text of a key of one or two names."""
    plan = keys_of(cls).plans[len(values) - 1]
    return key_text(namespace, plan.record_space, [canonical(value) for value in values])


def assert_legal(found: str) -> None:
    """Fail unless every server takes this key."""
    assert found.isascii()
    assert found.isprintable()
    assert not any(character.isspace() for character in found)
    assert len(found) <= 250


@given(VALUES, VALUES)
def test_keys_have_one_text_just_when_they_are_equal(one: Any, other: Any) -> None:
    """Two values share a text if and only if they share their canonical form."""
    assert (text(one) == text(other)) == (canonical(one) == canonical(other))


@given(NUMBERS, NUMBERS)
def test_numbers_have_one_text_just_when_they_compare_equal(one: Any, other: Any) -> None:
    """Python's own equality of numbers decides, across all their types."""
    assert (text(one) == text(other)) == (one == other)


@given(st.tuples(VALUES, VALUES), st.tuples(VALUES, VALUES))
def test_composite_keys_have_one_text_just_when_all_parts_are_equal(one: Any, other: Any) -> None:
    """No part of a key runs over into the next."""
    assert (text(*one) == text(*other)) == ([*map(canonical, one)] == [*map(canonical, other)])


@given(VALUES)
def test_a_text_is_legal_on_every_server(value: Any) -> None:
    """A text is printable ASCII without white space, of at most 250 bytes, behind its namespace and class."""
    assert_legal(text(value))
    assert text(value).startswith(f"shop:{label_of(User)}:id:")


@given(st.text(st.characters(), min_size=1), st.text(st.characters(), min_size=1))
def test_namespaces_have_one_text_just_when_they_are_equal(one: str, other: str) -> None:
    """Tenants never meet, and no namespace's text begins another's prefix."""
    assert (namespace_text(one) == namespace_text(other)) == (one == other)
    assert ":" not in namespace_text(one)
    assert len(namespace_text(one)) <= 40


def test_parts_split_elsewhere_are_different_keys() -> None:
    """Separators inside values do not shift where a part ends."""
    splits = [("a:b", "c"), ("a", "b:c"), ("a:sb:c", ""), ("", "a:b:c"), ("a%3Ab", "c"), ("a:sb", "c"), ("a", "b", "c")[:2]]
    assert len({text(*parts) for parts in splits}) == len(splits)


@pytest.mark.parametrize("size", [0, 1, 150, 180, 200, 210, 217, 230, 249, 250, 251, 1000, 100_000])
def test_long_values_stay_legal_and_different(size: int) -> None:
    """Values that differ in their last character only have different texts, at every length."""
    one, other = text("x" * size + "1"), text("x" * size + "2")
    assert_legal(one)
    assert_legal(other)
    assert one != other


def test_no_value_can_be_made_to_look_like_the_digest_of_another() -> None:
    """A value that spells out the shortened text of a longer one has another text."""
    long = text("x" * 1000)
    assert len(long) == 250
    head = text("")
    forged = long.removeprefix(head)
    assert text(forged) != long
    assert_legal(text(forged))


def test_no_namespace_can_be_made_to_look_like_the_digest_of_another() -> None:
    """A tenant who is called as another's long name is shortened does not get the other's keys."""
    for size in (39, 40, 41, 100):
        long = "t" * size
        assert size < 40 or namespace_text(namespace_text(long)) != namespace_text(long)


def test_no_class_can_be_made_to_look_like_the_digest_of_another() -> None:
    """The same holds for names of classes."""
    module, _, name = label_of(VERY_LONG).rpartition(".")
    forged = type(name, (), {"__module__": module, "__keys__": ["id"]})
    assert label_of(forged) != label_of(VERY_LONG)


def test_everything_long_at_once_stays_legal_and_keeps_its_prefix() -> None:
    """A long namespace, class, set of names and value together leave the prefix that ``clear`` goes by."""
    namespace = "ten ant:" * 100
    for cls, key in [(VERY_LONG, "x" * 999), (Sprawling, ("ü" * 99,) * 12), (GERMAN, "ß" * 999)]:
        found = text_of_key(cls, key, namespace=namespace)
        assert_legal(found)
        assert found.startswith(f"{namespace_text(namespace)}:{label_of(cls)}:")


@pytest.mark.parametrize("length", [1, 100, *range(195, 235), 300])
@pytest.mark.parametrize(
    "alike", [[0, 7, -(10**17)], [10**18 - 1, 1 - 10**18], ["", "a", "a:b", "é"], ["x" * 19]], ids=lambda alike: repr(alike[-1])
)
def test_many_keys_have_the_texts_of_each(length: int, alike: list[Any]) -> None:
    """Whatever the length of their prefix: where some are shortened, no batch stands under other keys."""
    plan = keys_of(type("Long", (), {"__keys__": ["n" * length], "__module__": "m"})).identity
    records = plan.texts("shop", alike)
    aliases = plan.texts("shop", alike, alias=True)
    assert records in (None, [plan.record_text("shop", value) for value in alike])
    assert aliases in (None, [plan.alias_text("shop", value) for value in alike])
    assert length > 100 or None not in (records, aliases)


def test_classes_with_long_names_are_different() -> None:
    """Names that differ at their end only, or in their module only, have different labels."""
    kinds = [type("N" * size + end, (), {"__module__": module}) for size in (1, 99, 500) for end in "ab" for module in ("m", "m" * 120)]
    assert len({label_of(kind) for kind in kinds}) == len(kinds)
    assert max(len(label_of(kind)) for kind in kinds) == 100


def test_a_class_is_not_a_prefix_of_another() -> None:
    """Clearing ``shop.User`` does not touch ``shop.UserGroup``, nor one namespace another that begins like it."""
    kinds = [type(name, (), {"__module__": "shop", "__keys__": ["id"]}) for name in ("User", "UserGroup", "User.Group")]
    texts = [text_of_key(kind, 1, namespace=namespace) for kind in kinds for namespace in ("a", "ab", "a:b")]
    prefixes = [f"{namespace_text(namespace)}:{label_of(kind)}:" for kind in kinds for namespace in ("a", "ab", "a:b")]
    assert [[found.startswith(prefix) for prefix in prefixes] for found in texts] == [
        [one == other for other in range(len(prefixes))] for one in range(len(texts))
    ]


def test_keys_of_one_class_are_apart_from_each_other_and_from_aliases() -> None:
    """The same values under another key of the class, or as an alias, have another text."""
    keys = keys_of(type("Pair", (), {"__keys__": ["a", "b", ("a", "b"), ("a", "c")]}))
    spaces = [space for plan in keys.plans for space in (plan.record_space, plan.alias_space)]
    texts = {key_text("shop", space, (1, 2)) for space in spaces}
    assert len(texts) == len(spaces) == 8


@settings(max_examples=300)
@given(st.lists(OTHERS, min_size=12, max_size=12), st.integers(0, 11), VALUES)
def test_many_names_stay_legal_and_different(values: list[Any], place: int, changed: Any) -> None:
    """A key of twelve names whose text is a digest still tells apart keys that differ in one value."""
    assume(canonical(values[place]) != canonical(changed))
    others = [*itertools.islice(values, place), changed, *values[place + 1 :]]
    assert_legal(text_of_key(Sprawling, tuple(values)))
    assert text_of_key(Sprawling, tuple(values)) != text_of_key(Sprawling, tuple(others))


def test_a_plan_writes_the_text_that_all_stores_use() -> None:
    """The plan's own way to a text is the same as the plain one."""
    for key in (*({"id": "x" * size} for size in (0, 210, 211, 212, 213, 214, 215, 216, 217, 500)), {"username": None, "tenant": "a:b"}):
        plan, native, _ = keys_of(User).lookup(key)
        assert plan.record_text("shop", native) == key_text("shop", plan.record_space, plan.parts(native))
        assert plan.alias_text("shop", native) == key_text("shop", plan.alias_space, plan.parts(native))


def test_texts_read_together_say_what_each_says_alone() -> None:
    """Whatever stands before them."""
    texts = [
        "shop:User:id:i1",
        "shop:User:id:i2",
        "shop:User:id:i-3",
        "shop:User:id:s4",
        "shop:User:id:i05",
        "shop:User:",
        "shop:User:id:i6",
    ]
    texts += [
        "shop:Seat:row,number:sA:i7",
        "shop:Seat:row,number:sA:i8",
        "shop:Seat:row,number:i9:i10",
        "shop:User:id:i",
        "shop:User:id:i11x",
    ]
    texts += [
        "shop:User:*group_id:i1",
        "shop:User:*group_id:i2",
        "tiny:User:id:i1",
        "nothing",
        "shop:",
        "shop:User:id:i" + "9" * 300,
        "shop:User:id:i12",
    ]
    assert read_texts(texts) == [read_text(text) for text in texts]
    assert read_texts(texts[::-1]) == [read_text(text) for text in texts[::-1]]
