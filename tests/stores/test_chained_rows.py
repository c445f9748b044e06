"""What the caches of a chain hold of a database's rows: each row as the database has it, and none that it has not."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, ForeignKey, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from stockstore import ConfigurationError, NonUniqueKeyError, OriginError, SqlAlchemyStore
from tests.stores.conftest import Shop
from tests.stores.shop import (
    Animal,
    Car,
    Cat,
    Circle,
    Customer,
    Dog,
    Invoice,
    Note,
    Order,
    Place,
    Shape,
    Square,
    Tag,
    Van,
    Vehicle,
    columns_of,
    count_of,
    row_of,
)

# -- the row as the database has it -----------------------------------------------------------------


def same_everywhere(shop: Shop, cls: type[Any], identity: object) -> dict[str, object]:
    """Give the row that every tier has, and that a session of its own reads."""
    expected = row_of(shop.engine, cls, identity)
    assert expected is not None
    assert shop.readings(cls, identity) == [expected] * 4
    return expected


def test_the_cache_has_what_the_database_made_of_a_new_row(shop: Shop) -> None:
    """Generated key, server default, numeric scale and a trigger's value are in every tier as the database has them."""
    customer = Customer(email="a@b.c", name="ann", balance=Decimal("1.5"))
    shop.chain.put(customer)
    row = same_everywhere(shop, Customer, customer.id)
    assert (row["status"], row["stamp"], row["balance"]) == ("new", "ANN", Decimal("1.50"))
    assert str(row["balance"]) == "1.50"


def test_the_cache_has_what_the_database_made_of_a_changed_row(shop: Shop) -> None:
    """A trigger that rewrites a column at an update is seen in every tier, of a new and of a loaded object."""
    shop.chain.put(Customer(id=1, name="ann"))
    shop.chain.put(Customer(id=1, name="bob", stamp="forged"))
    assert same_everywhere(shop, Customer, 1)["stamp"] == "BOB"
    found = shop.chain.get(Customer, 1)
    assert found is not None
    found.name = "cleo"
    shop.chain.put(found)
    assert same_everywhere(shop, Customer, 1)["stamp"] == "CLEO"
    assert found.stamp == "CLEO"


def test_what_the_database_generated_comes_back(shop: Shop) -> None:
    """Generated keys, defaults and a trigger's value are on the caller's objects after the put."""
    one, two = Customer(email="1", name="ann"), Customer(email="2", name="bob")
    shop.chain.batch_put([one, two])
    assert one.id != two.id
    assert (one.status, one.stamp, one.tenant, one.balance) == ("new", "ANN", 7, Decimal(0))
    assert (two.status, two.stamp) == ("new", "BOB")


def test_what_the_database_generated_comes_back_to_related_objects(shop: Shop) -> None:
    """Objects that were put along with another have their keys and defaults too, and a second put adds no row."""
    customer = Customer(email="a", orders=[Order(number="1"), Order(number="2")], notes=[Note(text="n")])
    shop.chain.put(customer)
    for order in customer.orders:
        assert (order.id is not None, order.state, order.customer_id) == (True, "open", customer.id)
    assert customer.notes[0].customer_id == customer.id
    shop.chain.put(customer)
    assert [count_of(shop.engine, cls) for cls in (Customer, Order, Note)] == [1, 2, 1]


def test_a_put_object_can_be_changed_and_put_again(shop: Shop) -> None:
    """A second put of the same object changes its row."""
    customer = Customer(email="a", name="ann", orders=[])
    shop.chain.put(customer)
    customer.name = "bob"
    customer.orders.append(Order(number="1"))
    shop.chain.put(customer)
    assert count_of(shop.engine, Customer) == 1
    assert same_everywhere(shop, Customer, customer.id)["name"] == "bob"
    shop.chain.put(customer)
    assert count_of(shop.engine, Order) == 1


def test_an_object_put_by_the_other_side_of_a_relationship(shop: Shop) -> None:
    """A child that brings its new parent along is written once, and so is the parent."""
    order = Order(number="1", customer=Customer(email="a"))
    shop.chain.put(order)
    shop.chain.put(order)
    assert [count_of(shop.engine, cls) for cls in (Customer, Order)] == [1, 1]
    assert order.customer.id == order.customer_id
    assert same_everywhere(shop, Customer, order.customer_id)["email"] == "a"


def test_an_object_twice_in_a_batch_is_one_row(shop: Shop) -> None:
    """The same new object put twice in one batch is written once."""
    customer = Customer(email="a")
    shop.chain.batch_put([customer, customer])
    assert count_of(shop.engine, Customer) == 1


def test_a_changed_primary_key_leaves_no_old_row(shop: Shop) -> None:
    """A loaded object put under another primary key is found by the new one only, in every tier."""
    shop.chain.put(Place(row="A", number=1, label="x"))
    place = shop.chain.get(Place, ("A", 1))
    assert place is not None
    place.number = 2
    shop.chain.put(place)
    assert shop.readings(Place, ("A", 1)) == [None] * 4
    assert same_everywhere(shop, Place, ("A", 2))["label"] == "x"
    assert shop.readings(Place, {"label": "x"}) == [{"row": "A", "number": 2, "label": "x"}] * 4
    place.number = 3
    shop.chain.put(place)
    assert shop.readings(Place, ("A", 2)) == [None] * 4
    assert count_of(shop.engine, Place) == 1


# -- relationships and cascades ---------------------------------------------------------------------


def test_related_rows_are_right_after_a_put(shop: Shop) -> None:
    """A put that changes related objects leaves none of their old values in any tier."""
    with Session(shop.engine) as session:
        session.add(Customer(id=1, email="a", orders=[Order(id=5, number="old")]))
        session.commit()
    assert shop.chain.get(Order, 5) is not None
    with Session(shop.engine) as session:
        customer = session.get_one(Customer, 1)
        customer.orders[0].number = "new"
        customer.orders.append(Order(id=6, number="six"))
        session.expunge_all()
    shop.chain.put(customer)
    assert same_everywhere(shop, Order, 5)["number"] == "new"
    assert same_everywhere(shop, Order, 6)["number"] == "six"
    assert shop.chain.get(Order, number="old") is None


def test_a_cascade_of_the_orm_leaves_no_child(shop: Shop) -> None:
    """Children that the ORM deletes with their parent are in no tier."""
    shop.chain.put(Customer(id=1, email="a", orders=[Order(id=5, number="5"), Order(id=6, number="6")]))
    assert shop.chain.batch_get(Order, [5, 6])[0] is not None
    assert shop.chain.delete(Customer, 1) is True
    for key in (5, 6, {"number": "5"}):
        assert shop.readings(Order, key) == [None] * 4


def test_an_orphan_is_in_no_tier(shop: Shop) -> None:
    """A child taken out of its parent's collection is deleted, and in no tier."""
    customer = Customer(id=1, orders=[Order(id=5, number="5"), Order(id=6, number="6")])
    shop.chain.put(customer)
    assert shop.chain.get(Order, 5) is not None
    customer.orders.pop(0)
    shop.chain.put(customer)
    assert shop.readings(Order, 5) == [None] * 4
    assert same_everywhere(shop, Order, 6)["number"] == "6"


def test_a_cascade_of_the_database_leaves_no_child(shop: Shop) -> None:
    """Children that the database itself deletes are in no tier, though the ORM never saw them go."""
    shop.chain.put(Customer(id=1, notes=[Note(id=5, text="n")]))
    shop.chain.put(Customer(id=2, notes=[Note(id=6, text="m")]))
    assert [note is None for note in shop.chain.batch_get(Note, [5, 6])] == [False, False]
    shop.chain.delete(Customer, 1)
    assert shop.readings(Note, 5) == [None] * 4
    assert shop.chain.get(Note, 6) is not None


def test_a_child_whose_parent_changed_its_key_is_right(shop: Shop) -> None:
    """A foreign key that the database rewrites when the parent's key changes is seen."""
    shop.chain.put(Customer(id=1, notes=[Note(id=5, text="n")]))
    assert shop.chain.get(Note, 5) is not None
    customer = shop.chain.get(Customer, 1)
    assert customer is not None
    customer.id = 9
    shop.chain.put(customer)
    note = shop.chain.get(Note, 5)
    assert note is not None
    assert note.customer_id == 9


# -- refusals ---------------------------------------------------------------------------------------


def test_a_refused_delete_deletes_nothing(shop: Shop) -> None:
    """A delete that the database refuses is raised, and every tier still has the row."""
    shop.chain.batch_put([Customer(id=1, email="a"), Customer(id=2, email="b")])
    shop.chain.put(Invoice(id=1, customer_id=1))
    refusals: list[Callable[[], object]] = [
        lambda: shop.chain.delete(Customer, 1),
        lambda: shop.chain.delete(Customer, email="a"),
        lambda: shop.chain.batch_delete(Customer, [2, 1]),
        lambda: shop.chain.delete(Customer(id=1)),
    ]
    for refused in refusals:
        with pytest.raises(OriginError, match=r"SqlAlchemyStore\(.*\) refused: .*(?i:foreign key)") as caught:
            refused()
        assert isinstance(caught.value.__cause__, IntegrityError)
        same_everywhere(shop, Customer, 1)
        same_everywhere(shop, Customer, 2)


def test_a_refused_put_writes_nothing(shop: Shop) -> None:
    """One row of a batch that the database refuses keeps the whole batch out, and every tier has the old values."""
    shop.chain.put(Customer(id=1, email="a", name="old"))
    with pytest.raises(OriginError, match=r"refused: .*(?i:unique)") as caught:
        shop.chain.batch_put([Customer(id=1, email="a", name="new"), Customer(id=2, email="b"), Customer(id=3, email="b")])
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert same_everywhere(shop, Customer, 1)["name"] == "old"
    assert shop.readings(Customer, 2) == [None] * 4
    assert count_of(shop.engine, Customer) == 1


def test_a_refused_put_leaves_the_object_as_it_was(shop: Shop) -> None:
    """After a refused put the object is new still, and a corrected one is added."""
    shop.chain.put(Customer(email="a"))
    customer = Customer(email="a")
    with pytest.raises(OriginError):
        shop.chain.put(customer)
    assert columns_of(customer).get("id") is None
    customer.email = "b"
    shop.chain.put(customer)
    assert count_of(shop.engine, Customer) == 2


class Deferred(DeclarativeBase):
    pass


class Part(Deferred):
    """Belongs to another, of which the database asks at COMMIT."""

    __tablename__ = "deferred_shop_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    of_id: Mapped[int | None] = mapped_column(ForeignKey("deferred_shop_parts.id", deferrable=True, initially="DEFERRED"))


def test_a_refused_commit_leaves_nothing_open(shop: Shop) -> None:
    """The transaction is over, also where SQLite would keep it open: the store reads and writes on, and so do others."""
    Deferred.metadata.create_all(shop.engine)
    shop.chain.put(Part(id=1))
    with pytest.raises(OriginError, match=r"refused: .*(?i:foreign key)"):
        shop.chain.put(Part(id=1, of_id=404))
    with shop.engine.begin() as connection:
        connection.execute(insert(Part).values(id=2, of_id=1))
    shop.chain.put(Part(id=1, of_id=2))
    assert same_everywhere(shop, Part, 1)["of_id"] == 2
    Deferred.metadata.drop_all(shop.engine)


@pytest.mark.parametrize("prefs", [{"a": {1}}, {"a": object()}])
def test_a_value_that_the_driver_cannot_encode(shop: Shop, prefs: dict[str, Any]) -> None:
    """It is refused like what the database refuses, also where the driver encodes it itself and raises an error of its own."""
    with pytest.raises(OriginError, match=r"refused: .*not JSON serializable"):
        shop.chain.put(Customer(id=1, email="a", prefs=prefs))
    assert count_of(shop.engine, Customer) == 0


@pytest.mark.parametrize(
    "url", ["//user:s3cret@127.0.0.1:1/none?connect_timeout=1", "//127.0.0.1:1/none?connect_timeout=1&password=s3cret"]
)
def test_an_error_never_shows_the_password(url: str) -> None:
    """A database that does not answer is an OriginError whose text has no password, wherever the URL has it."""
    store = SqlAlchemyStore(f"postgresql+psycopg:{url}")
    with pytest.raises(OriginError, match="refused") as caught:
        store.get(Customer, 1)
    assert "s3cret" not in str(caught.value) + repr(store)


# -- keys -------------------------------------------------------------------------------------------


def test_two_rows_of_one_key_are_refused(shop: Shop) -> None:
    """A declared key that two rows carry is an error that says which, singly and in a batch; other keys still find them."""
    shop.chain.batch_put([Place(row="A", number=1, label="x"), Place(row="A", number=2, label="x"), Place(row="A", number=3, label="y")])
    shop.memory.clear()
    shop.redis.clear()
    for read in (lambda: shop.chain.get(Place, label="x"), lambda: shop.chain.batch_get(Place, [{"label": "y"}, {"label": "x"}])):
        with pytest.raises(NonUniqueKeyError, match=r"two rows of .*Place carry the key 'label' = 'x'; a declared key is unique"):
            read()
    found = shop.chain.batch_get(Place, [("A", 1), {"label": "y"}])
    assert [place.number for place in found if place is not None] == [1, 3]


def test_thousands_of_composite_keys_are_few_statements(shop: Shop, statements: list[str]) -> None:
    """A batch of 3,000 keys is one statement of the database, and one more by another key, whatever the number."""
    with shop.engine.begin() as connection:
        connection.execute(insert(Place), [{"row": "A", "number": n, "label": str(n)} for n in range(3000)])
    counts = []
    for number in (10, 3000):
        statements.clear()
        shop.memory.clear()
        shop.redis.clear()
        found = shop.chain.batch_get(Place, [("A", n) for n in range(number)])
        assert [place.number for place in found if place is not None] == list(range(number))
        counts.append(len(statements))
    assert counts == [1, 1]
    statements.clear()
    shop.memory.clear()
    shop.redis.clear()
    found = shop.chain.batch_get(Place, [{"label": str(n)} for n in range(3000)])
    assert [place.number for place in found if place is not None] == list(range(3000))
    # One by the key, and one by the identities, which the caches can keep.
    assert len(statements) == 2
    found = shop.chain.batch_get(Place, [{"label": str(n)} for n in range(3000)])
    assert [place.number for place in found if place is not None] == list(range(3000))
    assert len(statements) == 2


def test_more_composite_keys_than_a_statement_takes(shop: Shop) -> None:
    """PostgreSQL has no stack for a list of 8,000 of them; they are asked for in parts."""
    shop.chain.put(Place(row="A", number=7_999))
    found = shop.chain.batch_get(Place, [("A", number) for number in range(8_000)])
    assert [at for at, place in enumerate(found) if place is not None] == [7_999]


def test_more_keys_with_none_than_a_statement_takes(db: Engine) -> None:
    """SQLite takes no condition of 1,100 parts, of which one is for each key with a None in it; they are asked for in parts."""

    class Base(DeclarativeBase):
        pass

    class Pair(Base):
        __tablename__ = "pairs"
        __keys__: ClassVar = ["id", ("left", "right")]
        id: Mapped[int] = mapped_column(primary_key=True)
        left: Mapped[int]
        right: Mapped[int | None]

    Base.metadata.create_all(db)
    with SqlAlchemyStore(engine=db) as store:
        store.put(Pair(id=1, left=1_099))
        found = store.batch_get(Pair, [{"left": number, "right": None} for number in range(1_100)])
    assert [at for at, pair in enumerate(found) if pair is not None] == [1_099]
    Base.metadata.drop_all(db)


def test_thousands_of_puts_and_deletes_are_few_statements(shop: Shop, statements: list[str]) -> None:
    """A batch of puts, of changes and of deletes needs no statement per row beyond the driver's own batches."""
    shop.chain.batch_put([Place(row="A", number=n, label="old") for n in range(300)])
    first = len(statements)
    shop.chain.batch_put([Place(row="A", number=n, label="new") for n in range(300)])
    second = len(statements) - first
    assert shop.chain.batch_delete(Place, [("A", n) for n in range(300)]) == 300
    assert max(first, second, len(statements) - first - second) <= 6
    assert count_of(shop.engine, Place) == 0


def test_keys_equal_by_the_databases_rules_are_found(shop: Shop) -> None:
    """A key that the database compares without case finds its row singly and in batches, and a delete by it leaves nothing."""
    shop.chain.batch_put([Tag(name="Red", code="R1"), Tag(name="Blue", code="B1"), Tag(name="Green", code="G1")])
    for _ in range(2):
        assert [columns_of(tag) for tag in shop.chain.batch_get(Tag, ["RED", "Blue", "none", "green", "Red"]) if tag is not None] == [
            {"name": name, "code": name[0] + "1", "uses": 0} for name in ("Red", "Blue", "Green", "Red")
        ]
        found = shop.chain.get(Tag, code="r1")
        assert found is not None
        assert found.name == "Red"
    shop.chain.put(Tag(name="Red", code="R1", uses=5))
    for key in ("RED", "Red", {"code": "r1"}):
        found = shop.chain.get(Tag, key)
        assert found is not None
        assert found.uses == 5
    assert shop.chain.delete(Tag, "RED") is True
    for key in ("RED", "Red", {"code": "R1"}, {"code": "r1"}):
        assert shop.readings(Tag, key) == [None] * 4


def test_a_put_under_a_key_equal_by_the_databases_rules_changes_the_row(shop: Shop) -> None:
    """A put of a primary key that differs by case alone is the same row, and no tier keeps the older value."""
    shop.chain.put(Tag(name="Red", code="R1", uses=1))
    shop.chain.put(Tag(name="RED", code="R1", uses=2))
    assert count_of(shop.engine, Tag) == 1
    for key in ("Red", "RED", {"code": "R1"}):
        found = shop.chain.get(Tag, key)
        assert found is not None
        assert found.uses == 2


# -- inheritance ------------------------------------------------------------------------------------

FAMILIES = [
    (Vehicle, Car(id=1, plate="c", doors=3), Van(id=2, plate="v", load=9), {"plate": "c"}),
    (Animal, Dog(id=1, name="d", bark="wuff"), Cat(id=2, name="c", purr="rrr"), {"name": "d"}),
    (Shape, Circle(id=1, colour="c", radius=4), Square(id=2, colour="s", side=5), {"colour": "c"}),
]


@pytest.mark.parametrize(("base", "one", "two", "key"), FAMILIES, ids=["joined", "single", "concrete"])
def test_a_base_class_finds_subclasses_in_every_tier(shop: Shop, base: type, one: object, two: object, key: dict[str, str]) -> None:
    """Each tier gives the subclass instance for the base, with the subclass's columns, and nothing for a sibling."""
    expected = columns_of(one)
    with Session(shop.engine) as session:
        session.add_all([type(one)(**_given(one)), type(two)(**_given(two))])
        session.commit()
    for tier in range(3):
        for asked in (1, key):
            found = shop.chain.get(base, asked)
            assert type(found) is type(one)
            assert {name: columns_of(found)[name] for name in expected} == expected
            assert shop.chain.get(type(two), asked) is None
            assert type(shop.chain.get(type(one), asked)) is type(one)
        assert [type(obj) for obj in shop.chain.batch_get(base, [2, 404, 1])] == [type(two), type(None), type(one)]
        (shop.memory, shop.redis, shop.memory)[tier].clear()


@pytest.mark.parametrize(("base", "one", "two", "key"), FAMILIES, ids=["joined", "single", "concrete"])
def test_a_subclass_put_and_deleted_by_its_base(shop: Shop, base: type, one: object, two: object, key: dict[str, str]) -> None:
    """What is put as a subclass is changed and deleted for its base too, in every tier."""
    shop.chain.batch_put([type(one)(**_given(one)), type(two)(**_given(two))])
    for cls in (base, type(one)):
        assert type(shop.chain.get(cls, key)) is type(one)
    assert shop.chain.delete(base, key) is True
    for cls in (base, type(one)):
        for asked in (1, key):
            assert shop.readings(cls, asked) == [None] * 4
    assert type(shop.chain.get(base, 2)) is type(two)


def _given(obj: object) -> dict[str, object]:
    return {name: value for name, value in columns_of(obj).items() if name not in ("kind", "type")}


def test_concrete_tables_may_share_a_key_value(shop: Shop) -> None:
    """Two concrete subclasses with one key value are each found by their own class."""
    shop.chain.batch_put([Circle(id=1, colour="c", radius=4), Square(id=1, colour="s", side=5)])
    for store in (shop.memory, shop.redis, shop.database, shop.chain):
        circle, square = store.get(Circle, 1), store.get(Square, 1)
        assert circle is not None
        assert square is not None
        assert (circle.radius, square.side) == (4, 5)


# -- values -----------------------------------------------------------------------------------------


def test_mutable_values_are_never_shared(shop: Shop) -> None:
    """What one reader does to a JSON value no other reader sees, from whatever tier, within one batch too, nor after a put."""
    customer = Customer(id=1, email="a", prefs={"tags": ["x"]})
    shop.chain.put(customer)
    assert customer.prefs is not None
    customer.prefs["tags"].append("put")
    for cleared in ((), (shop.memory,), (shop.memory, shop.redis)):
        for tier in cleared:
            tier.clear()
        for found in (*shop.chain.batch_get(Customer, [1, 1, {"email": "a"}]), shop.chain.get(Customer, 1)):
            assert found is not None
            assert found.prefs in ({"tags": ["x"]}, {"tags": ["x", "same object"]})
        one, two, three = shop.chain.batch_get(Customer, [1, {"email": "a"}, {"id": 1}])
        assert one is not None
        assert two is not None
        assert one.prefs is not None
        one.prefs["tags"].append("mine")
        assert two is one or two.prefs == {"tags": ["x"]}
        assert three is one or (three is not None and three.prefs == {"tags": ["x"]})


def test_objects_of_any_tier_are_usable_after_close(shop: Shop, statements: list[str]) -> None:
    """Every column of an object is readable without a statement, from whatever tier it came."""
    shop.chain.put(Customer(id=1, email="a"))
    expected = row_of(shop.engine, Customer, 1)
    for cleared in (shop.memory, shop.redis):
        found = shop.chain.get(Customer, 1)
        cleared.clear()
        statements.clear()
        assert {name: getattr(found, name) for name in expected or ()} == expected
        assert statements == []


@pytest.mark.parametrize(("cls", "loaded"), [(Vehicle, Car(id=1, plate="a", doors=2)), (Shape, Circle(id=1, colour="a", radius=2))])
def test_get_or_load_of_a_base_class_puts_the_row_of_the_subclass(shop: Shop, cls: type[Any], loaded: Any) -> None:
    """Look-ups of a mapped base find it."""
    assert shop.chain.get_or_load(cls, 1, lambda: loaded) is loaded
    assert type(shop.chain.get_or_load(cls, 1, lambda: None)) is type(loaded)


def test_get_or_load_of_a_base_that_does_not_load_its_concrete_subclass(shop: Shop) -> None:
    """Its look-ups never find the row, so that it is refused before it is written."""

    class Base(DeclarativeBase):
        pass

    class Paper(Base):
        __tablename__ = "papers"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Memo(Paper):
        __tablename__ = "memos"
        __mapper_args__ = {"concrete": True}
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(shop.engine)
    with pytest.raises(ConfigurationError, match=r"gave a .*\.Memo, which look-ups of that class do not find.*; ask for the Memo$"):
        shop.chain.get_or_load(Paper, 1, lambda: Memo(id=1))
    assert shop.chain.get(Memo, 1) is None
    Base.metadata.drop_all(shop.engine)


def test_get_or_load_of_a_mapped_class_puts_the_row(shop: Shop) -> None:
    """What a loader gives is put: it is a row, in every tier, and has the values that the database generated."""
    loaded = shop.chain.get_or_load(Customer, {"email": "x"}, lambda: Customer(email="x", name="x"))
    assert loaded is not None
    assert (loaded.id is not None, loaded.stamp) == (True, "X")
    assert same_everywhere(shop, Customer, loaded.id)["email"] == "x"
    with Session(shop.engine) as session:
        found = shop.chain.get_or_load(Customer, {"email": "y"}, lambda: Customer(email="y"), session=session)
        assert found in session
