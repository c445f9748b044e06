"""What classes declare."""

import re
from enum import Enum
from typing import Any

import pytest
from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column

from stockstore import ConfigurationError, NotKeyedError, ProcessMemoryStore
from stockstore.keys import keys_of


class Base(DeclarativeBase):
    pass


def declared(cls: type) -> list[tuple[str, ...]]:
    """Give the keys of a class as it declares them."""
    return [plan.declared for plan in keys_of(cls).plans]


def keyed(keys: object, *bases: type) -> type:
    """Make a class with these ``__keys__``."""
    return type("Keyed", bases, {"__keys__": keys})


def test_names_and_tuples_of_names_are_keys() -> None:
    """A list of names and tuples of names gives these keys, the first one canonical."""
    cls = keyed(["id", "email", ("tenant_id", "username")])
    assert declared(cls) == [("id",), ("email",), ("tenant_id", "username")]
    assert keys_of(cls).canonical.declared == ("id",)
    assert keys_of(cls).identity is keys_of(cls).canonical


def test_a_tuple_of_keys_and_a_list_of_names_do_as_well() -> None:
    """The outer and the inner brackets may be of either sort."""
    assert declared(keyed(("id", ["tenant", "name"]))) == [("id",), ("tenant", "name")]


class Name(str, Enum):
    """Names of keys."""

    ID = "id"
    PLACE = "place"


def test_names_that_are_more_than_text_are_text() -> None:
    """Members of an enum name attributes as plain text does, and objects are found by them."""

    class Seat:
        __keys__ = (Name.ID, (Name.PLACE, "id"))

        def __init__(self) -> None:
            self.id = self.place = 1

    assert [type(name) for names in declared(Seat) for name in names] == [str, str, str]
    store, seat = ProcessMemoryStore(), Seat()
    store.put(seat)
    for _ in range(2):
        assert store.get(Seat, 1) is store.get(Seat, id=1) is store.get(Seat, place=1, id=1) is store.batch_get(Seat, [1])[0] is seat


def test_a_key_declared_twice_stands_once() -> None:
    """A key repeated with its names in another order is the same key, as first declared."""
    assert declared(keyed(["id", ("b", "a"), ("a", "b"), "id", ("id",)])) == [("id",), ("b", "a")]


def test_keys_are_inherited() -> None:
    """A class without ``__keys__`` has those of its base."""
    assert declared(type("Sub", (keyed(["id", "email"]),), {})) == [("id",), ("email",)]


def test_own_keys_come_before_inherited_ones() -> None:
    """A class's own first key is its canonical one, and it keeps those of its base."""
    sub = keyed(["serial"], keyed(["id", "email"]))
    assert declared(sub) == [("serial",), ("id",), ("email",)]


def test_a_diamond_does_not_duplicate_keys() -> None:
    """A key that comes by two ways stands once."""
    top = keyed(["id"])
    left, right = keyed(["left", ("a", "b")], top), keyed(["right", ("b", "a")], top)
    assert declared(type("Bottom", (left, right), {})) == [("left",), ("a", "b"), ("right",), ("id",)]


def test_a_mixin_gives_keys() -> None:
    """``__keys__`` may stand in a class that has nothing else."""
    assert declared(type("Mixed", (keyed(["code"]),), {"code": 1})) == [("code",)]


def test_a_class_without_keys_is_refused() -> None:
    """A class that declares nothing, or nothing in its list, is NotKeyedError naming it and what to write."""
    for cls in (type("Bare", (), {}), keyed([])):
        with pytest.raises(
            NotKeyedError, match=rf'^{re.escape(cls.__module__)}\.{cls.__name__} declares no keys; give it __keys__ = \["id"'
        ):
            keys_of(cls)


@pytest.mark.parametrize("thing", ["User", 1, None, object()])
def test_what_is_no_class_is_refused(thing: Any) -> None:
    """An object in the place of the class is NotKeyedError showing it."""
    with pytest.raises(NotKeyedError, match=re.escape(f"the first argument is the class to look up, not {thing!r}")):
        keys_of(thing)


@pytest.mark.parametrize("keys", ["id", {"id"}, {"id": 1}, None, 1])
def test_keys_that_are_no_list_are_refused(keys: object) -> None:
    """``__keys__`` that is no list or tuple is ConfigurationError showing it, a lone name included."""
    with pytest.raises(
        ConfigurationError, match=re.escape(f"Keyed.__keys__ is a list of attribute names and tuples of names, not {keys!r}")
    ):
        keys_of(keyed(keys))


@pytest.mark.parametrize("key", [1, None, "", (), ("a", 1), ("a", ""), ("a", "a"), (("a",),), {"a"}, "a b", "a.b", ("a", ["b"])])
def test_a_malformed_key_is_refused(key: object) -> None:
    """A key that is neither a name nor a tuple of different names is ConfigurationError showing it."""
    with pytest.raises(
        ConfigurationError, match=re.escape(f"Keyed.__keys__ has {key!r}; a key is an attribute name or a tuple of different names")
    ):
        keys_of(keyed(["id", key]))


def test_malformed_keys_of_a_base_name_the_base() -> None:
    """The message names the class that holds the mistake."""
    base = type("Culprit", (), {"__keys__": [7]})
    with pytest.raises(ConfigurationError, match=r"Culprit\.__keys__ has 7"):
        keys_of(type("Innocent", (base,), {}))


# -- mapped classes -------------------------------------------------------------------------------


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    __keys__ = ["email"]


class Seat(Base):
    __tablename__ = "seats"
    number: Mapped[int] = mapped_column("seat_no", primary_key=True)
    row: Mapped[str] = mapped_column("row_letter", primary_key=True)
    code: Mapped[str] = mapped_column("c")
    __keys__ = [("row", "number"), "code"]


class Undeclared(Base):
    __tablename__ = "undeclared"
    key: Mapped[int] = mapped_column("id", primary_key=True)


class Person(Base):
    __tablename__ = "declared_persons"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    kind: Mapped[str]
    __keys__ = ["id", "email"]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Engineer(Person):
    __tablename__ = "engineers"
    id: Mapped[int] = mapped_column(ForeignKey("declared_persons.id"), primary_key=True)
    badge: Mapped[str]
    __keys__ = ["badge"]
    __mapper_args__ = {"polymorphic_identity": "engineer"}


def test_a_mapped_class_without_keys_has_its_primary_key() -> None:
    """Where ``__keys__`` is missing, the primary key is the canonical key, by the attribute's name."""
    assert declared(Undeclared) == [("key",)]
    assert keys_of(Undeclared).mapped


def test_a_mapped_class_has_its_primary_key_in_any_case() -> None:
    """The first declared key is what a bare value means, and objects are kept by the primary key."""
    keys = keys_of(Account)
    assert declared(Account) == [("email",), ("id",)]
    assert keys.canonical.declared == ("email",)
    assert keys.identity.declared == ("id",)
    assert [plan.declared for plan in keys.alternates] == [("email",)]


def test_names_of_keys_are_names_of_attributes() -> None:
    """Attributes that are called otherwise than their columns are declared and looked up by their own names."""

    class Wrong(Base):
        __tablename__ = "wrong"
        id: Mapped[int] = mapped_column(primary_key=True)
        code: Mapped[str] = mapped_column("c")
        __keys__ = ["c"]

    assert keys_of(Seat).lookup({"code": "x"}).plan.names == ("code",)
    with pytest.raises(ConfigurationError, match=r"__keys__ names 'c', which is no column attribute of the class; it has \['code', 'id'\]"):
        keys_of(Wrong)


def test_a_declared_primary_key_keeps_its_order_for_bare_values() -> None:
    """A primary key declared in another order than the table's stands once, and takes bare tuples as declared."""
    keys = keys_of(Seat)
    assert keys.identity is keys.canonical
    assert keys.describe() == "('row', 'number'), 'code'"
    assert keys.lookup(("A", 7))[:2] == keys.lookup({"number": 7, "row": "A"})[:2]
    assert keys.lookup(("A", 7))[:2] != keys.lookup((7, "A"))[:2]


def test_classes_of_one_hierarchy_share_their_keys() -> None:
    """Keys that a mapped base declares are the base's own in its subclasses, so both find the same entry."""
    base, sub = keys_of(Person), keys_of(Engineer)
    assert declared(Engineer) == [("badge",), ("id",), ("email",)]
    assert sub.identity is base.identity
    assert sub.plan(("email",)) is base.plan(("email",))


def test_a_key_that_is_a_relationship_or_an_expression_is_refused() -> None:
    """Only attributes of columns can be keys: an SQL expression has no value before the row was read."""

    class Odd(Base):
        __tablename__ = "odd"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        __keys__ = ["lowered"]

    Odd.lowered = column_property(func.lower(Odd.__table__.c.name))
    with pytest.raises(
        ConfigurationError, match=r"Odd\.__keys__ names 'lowered', which is no column attribute of the class; it has \['id', 'name'\]"
    ):
        keys_of(Odd)
