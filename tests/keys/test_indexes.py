"""What classes declare to be listed by."""

import re
from typing import Any

import pytest
from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column

from stockstore import ConfigurationError, UnknownKeyError
from stockstore.keys import keys_of


class Base(DeclarativeBase):
    __indexes__: list[Any] = []


class Animal(Base):
    __tablename__ = "animals"
    __indexes__ = ["owner_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int]
    tenant: Mapped[str]
    kind: Mapped[str]
    loud = column_property(func.upper("kind"))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Dog(Animal):
    __tablename__ = "dogs"
    __indexes__ = ["breed", ("tenant", "owner_id")]
    id: Mapped[int] = mapped_column(ForeignKey("animals.id"), primary_key=True)
    breed: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Cat(Animal):
    __indexes__ = [("owner_id", "tenant")]
    __mapper_args__ = {"polymorphic_identity": "cat"}


def plain(indexes: object, *bases: type) -> type:
    """Make a keyed class with these ``__indexes__``."""
    return type("Plain", bases, {"__keys__": ["id"], "__indexes__": indexes})


def declared(cls: type) -> list[tuple[str, ...]]:
    """Give the indexes of a class as it declares them."""
    return [plan.declared for plan in keys_of(cls).indexes]


def test_a_class_has_its_own_indexes_and_those_of_its_bases() -> None:
    """Own indexes come first, and one that is declared twice, in whatever order of its names, stands once."""
    assert declared(plain(["a", ("c", "b"), ("b", "c")], plain(["d", "a"]))) == [("a",), ("c", "b"), ("d",)]
    assert declared(Animal) == [("owner_id",)]
    assert declared(Dog) == [("breed",), ("tenant", "owner_id"), ("owner_id",)]


def test_a_class_without_indexes_has_none() -> None:
    """Keys alone declare no index."""
    assert declared(type("Keyed", (), {"__keys__": ["id"]})) == []


def test_a_hierarchy_shares_the_lists_of_the_topmost_class_that_declares_an_index() -> None:
    """A row of a subclass is in the list of its base, and lists of two sibling classes are different ones."""
    assert keys_of(Dog).indexes[-1] is keys_of(Animal).indexes[0] is keys_of(Cat).indexes[-1]
    assert keys_of(Animal).indexes[0].owner is Animal
    dogs, cats = keys_of(Dog).indexes[1], keys_of(Cat).indexes[0]
    assert dogs.names == cats.names == ("owner_id", "tenant")
    assert dogs.place((1, "x")) != cats.place((1, "x"))
    assert dogs.record_text("shop", (1, "x")) != cats.record_text("shop", (1, "x"))


def test_the_text_of_a_list_begins_as_those_of_its_hierarchys_records_do() -> None:
    """What drops all that begins with the label of a hierarchy drops its lists; no list has the text of a record or of an alias."""
    keys = keys_of(Dog)
    texts = [plan.record_text("shop", plan.native(["x"] * len(plan.names))) for plan in keys.indexes]
    assert all(text.startswith(f"shop:{keys.identity.label}:*") for text in texts)
    assert len(set(texts)) == len(texts)
    assert keys_of(Animal).indexes[0].record_text("shop", 3) == f"shop:{keys.identity.label}:*owner_id:i3"


@pytest.mark.parametrize("wrong", ["owner_id", {"owner_id"}, [1], [()], [("a", "a")], ["a b"], [["a", 1]]])
def test_a_malformed_declaration_is_refused(wrong: object) -> None:
    """The error names the class, ``__indexes__`` and what stands there."""
    with pytest.raises(
        ConfigurationError, match=r"Plain\.__indexes__ .*" + re.escape(repr(wrong if not isinstance(wrong, list) else wrong[0]))
    ):
        keys_of(plain(wrong))


@pytest.mark.parametrize("name", ["colour", "loud"])
def test_an_index_of_a_mapped_class_names_columns(name: str) -> None:
    """A name that is no column of a table is refused, with those that there are."""
    namespace: dict[str, Any] = {
        "__tablename__": f"wrong_{name}",
        "__indexes__": [name],
        "__annotations__": {"id": Mapped[int]},
        "id": mapped_column(primary_key=True),
        "loud": column_property(func.upper("x")),
    }
    with pytest.raises(
        ConfigurationError, match=rf"__indexes__ names '{name}', which is no column attribute of the class; it has \['id'\]"
    ):
        keys_of(type(f"Wrong{name}", (Base,), namespace))


def test_a_list_is_asked_for_by_names_or_by_the_one_index_there_is() -> None:
    """Names may be given in any order; a bare value means the only index."""
    lookup = keys_of(Dog).listed({"tenant": "x", "owner_id": 1})
    assert (lookup.plan.declared, lookup.native, lookup.values) == (("tenant", "owner_id"), (1, "x"), (1, "x"))
    assert keys_of(Animal).listed(3).native == 3
    assert keys_of(plain([("b", "a")])).listed((1, 2)).values == (2, 1)


@pytest.mark.parametrize(
    ("cls", "key", "words"),
    [
        (Dog, {"colour": 1}, r"no index 'colour'; it declares 'breed', \('tenant', 'owner_id'\), 'owner_id'"),
        (Dog, {"tenant": 1}, "no index 'tenant'"),
        (Dog, {"id": 1}, "no index 'id'"),
        (Dog, 3, r"3 does not tell an index of .*Dog; it declares 'breed'"),
        (plain([]), {"a": 1}, r"no index 'a'; it declares none; give it __indexes__"),
        (plain([("a", "b")]), (1, 2, 3), r"needs 2 values in this order, not \(1, 2, 3\)"),
    ],
)
def test_what_is_no_index_is_refused(cls: type, key: object, words: str) -> None:
    """The error names the class and the indexes that it has."""
    with pytest.raises(UnknownKeyError, match=words):
        keys_of(cls).listed(key)
