# ruff: noqa: D103 - each write is named by what it does
"""Lists that the caches keep, by every write path that has rows come into them or leave them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, delete, event, func, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typing_extensions import Self

from stockstore.evidence import Outbox
from stockstore.keys import keys_of
from stockstore.mapped import reread
from stockstore.stores.tiers import tier_of
from tests.stores.listed import Animal, Cat, Colour, Dog, Item, Mark, Owner, bare, change_unseen, create_tables, empty, ids, prove_listed
from tests.sync.conftest import CROSSED, ON_REDIS, Attach
from tests.sync.paths import Path

Write = Callable[[Session], object]
LISTS: list[dict[str, Any]] = [
    {"owner_id": 1},
    {"owner_id": 2},
    {"owner_id": 3},
    {"owner_id": None},
    {"tenant": 1, "kind": "book"},
    {"colour": Colour.RED},
]
ITEMS: Any = Item.__table__
OTHERS: dict[str, Any] = {"owner_id": 2}
"""The list of an owner whose items no test touches that has rows told one by one."""


@pytest.fixture(scope="module")
def listed_tables(engine: Engine) -> Engine:
    """The engine of a database that has the tables, with SQLite's cascades switched on."""
    create_tables(engine)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA foreign_keys = ON"))
        engine.dispose()
    return engine


@pytest.fixture
def shop(path: Path, listed_tables: Engine) -> Path:
    """A hooked path above three owners, of whom the first two have two items each."""
    return stocked(path, listed_tables)


def stocked(path: Path, tables: Engine) -> Path:
    """Fill the tables behind a hook's back."""
    empty(tables)
    if tables.dialect.name == "postgresql":
        with tables.begin() as connection:
            connection.execute(text("SELECT setval('listed_items_id_seq', 100)"))
    path.seed(Owner(id=1), Owner(id=2), Owner(id=3))
    path.seed(*(Item(id=n, owner_id=1 + n % 2, code=f"c{n}") for n in (1, 2, 3, 4)))
    path.seed(*(Mark(id=n, owner_id=1 + n % 2, item_id=n) for n in (1, 2, 3, 4)))
    return path


class Asked:
    """Counts the SELECTs of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.number = 0

    def __enter__(self) -> Self:
        event.listen(self.engine, "before_cursor_execute", self._count)
        return self

    def __exit__(self, *_error: object) -> None:
        event.remove(self.engine, "before_cursor_execute", self._count)

    def _count(self, *_arguments: object) -> None:
        self.number += 1


def from_database(path: Path, cls: type[Any], **values: object) -> list[int]:
    """Give the identities that the database lists."""
    with Session(path.other) as session:
        return list(session.scalars(select(cls.id).filter_by(**values).order_by(cls.id)))


def check(path: Path, write: Write, *, exact: bool, end: str = "commit") -> None:
    """Have all lists cached, write, and compare with the database: nobody sees a write before its commit, and everybody after it.

    Args:
        path: The hooked path.
        write: Writes through a session, and flushes.
        exact: Whether the other owner's list is to stay in the caches.
        end: How the transaction ends.
    """
    marks: list[dict[str, Any]] = [{"owner_id": 1}, {"owner_id": 2}, {"item_id": 1}, {"item_id": 2}, {"item_id": None}]
    lists: list[tuple[type[Any], dict[str, Any]]] = [(Item, values) for values in LISTS] + [(Mark, values) for values in marks]
    prove_listed(path.store, path.other, Item, **LISTS[0])
    before = [ids(path.store, cls, **values) for cls, values in lists]
    with path.maker() as session:
        write(session)
        assert [ids(path.store, cls, **values) for cls, values in lists] == before
        if end == "commit":
            session.commit()
        else:
            session.rollback()
    with Asked(path.engine) as asked:
        path.store.get_all(Item, **OTHERS)
        stayed = asked.number == 0
    assert stayed is exact
    expected = [from_database(path, cls, **values) for cls, values in lists]
    for _ in range(2):
        assert [ids(path.store, cls, **values) for cls, values in lists] == expected
    assert end == "commit" or expected == before


def add(session: Session) -> None:
    session.add(Item(id=9, owner_id=1, colour=Colour.RED))
    session.flush()


def add_generated(session: Session) -> None:
    session.add_all([Item(id=None, owner_id=1, code="new"), Owner(id=9, items=[Item(id=10)])])
    session.flush()


def change(session: Session) -> None:
    item = session.get_one(Item, 2)
    item.owner_id, item.colour = 3, Colour.RED
    session.flush()


def change_twice(session: Session) -> None:
    item = session.get_one(Item, 2)
    for owner in (3, None):
        item.owner_id = owner
        session.flush()


def change_by_relationship(session: Session) -> None:
    session.get_one(Item, 2).owner = session.get_one(Owner, 3)
    session.flush()


def append_and_remove(session: Session) -> None:
    owner = session.get_one(Owner, 1)
    owner.items.append(Item(id=9))
    owner.items.remove(session.get_one(Item, 4))
    session.flush()


def change_title(session: Session) -> None:
    session.get_one(Item, 2).title = "new"
    session.flush()


def change_key(session: Session) -> None:
    item = session.get_one(Item, 4)
    session.delete(session.get_one(Mark, 4))
    session.flush()
    item.id = 40
    session.flush()


def change_expired(session: Session) -> None:
    item = session.get_one(Item, 2)
    session.expire(item)
    item.owner_id = 3
    session.flush()


def change_by_expression(session: Session) -> None:
    item = session.get_one(Item, 2)
    item.owner_id = select(func.max(Owner.id)).scalar_subquery()
    session.flush()


def remove(session: Session) -> None:
    session.delete(session.get_one(Item, 2))
    session.flush()


def remove_owner(session: Session) -> None:
    session.delete(session.get_one(Owner, 1))
    session.flush()


def merge(session: Session) -> None:
    session.merge(Item(id=2, owner_id=3, tenant=1, kind="book", title="merged"))
    session.merge(Item(id=9, owner_id=1, tenant=1, kind="book", title="merged"))
    session.flush()


def savepoint_released(session: Session) -> None:
    change(session)
    with session.begin_nested():
        add(session)


def savepoint_rolled_back(session: Session) -> None:
    change_title(session)
    with session.begin_nested() as savepoint:
        add(session)
        savepoint.rollback()


def orm_insert(session: Session) -> None:
    session.execute(
        insert(Item),
        [{"id": 9, "owner_id": 1, "tenant": 1, "kind": "book", "title": "x"}, {"id": 10, "tenant": 2, "kind": "x", "title": "y"}],
    )


def orm_insert_values(session: Session) -> None:
    session.execute(insert(Item).values(owner_id=1, title="x"))


def orm_insert_returning(session: Session) -> None:
    session.scalars(insert(Item).returning(Item), [{"owner_id": 1}, {"owner_id": 3}]).all()


def insert_from_select(session: Session) -> None:
    session.execute(
        insert(Item).from_select(
            ["id", "owner_id", "tenant", "kind", "title"], select(Item.id + 10, Item.owner_id, Item.tenant, Item.kind, Item.title)
        )
    )


def insert_expression(session: Session) -> None:
    session.execute(insert(ITEMS).values(id=9, owner_id=select(func.max(Owner.id)).scalar_subquery()))


def core_insert(session: Session) -> None:
    session.execute(insert(ITEMS), [{"id": 9, "owner_id": 1}, {"id": 10, "owner_id": None}])


def core_insert_many_values(session: Session) -> None:
    session.connection().execute(insert(ITEMS).values([{"id": 9, "owner_id": 1}, {"id": 10, "owner_id": 3}]))


def bare_insert(session: Session) -> None:
    session.connection().execute(insert(bare(Item)).values(id=9, owner_id=1, tenant=1, kind="book", title="x"))


def bulk_save(session: Session) -> None:
    session.bulk_save_objects([Item(id=9, owner_id=1)])


def orm_delete(session: Session) -> None:
    session.execute(delete(Item).where(Item.code == "c2"))


def orm_update(session: Session) -> None:
    session.execute(update(Item).where(Item.code == "c2").values(owner_id=3))


def orm_update_title(session: Session) -> None:
    session.execute(update(Item).where(Item.owner_id == 1).values(title="new"))


def orm_update_by_key(session: Session) -> None:
    session.execute(update(Item), [{"id": 2, "owner_id": 3}])


def orm_update_title_by_key(session: Session) -> None:
    session.execute(update(Item), [{"id": 2, "title": "new"}])


def core_update(session: Session) -> None:
    session.execute(update(ITEMS).where(ITEMS.c.id == 2).values(owner_id=3))


def raw(session: Session) -> None:
    session.execute(text("UPDATE listed_items SET owner_id = 3 WHERE id = 2"))


def raw_insert(session: Session) -> None:
    session.execute(text("INSERT INTO listed_items (id, owner_id, tenant, kind, title) VALUES (9, 1, 1, 'book', 'x')"))


def cascade_in_bulk(session: Session) -> None:
    session.execute(delete(Item).where(Item.owner_id == 1))
    session.execute(delete(Owner).where(Owner.id == 1))


def named(writes: Sequence[Write]) -> list[str]:
    """Give the names of writes."""
    return [write.__name__.replace("_", " ") for write in writes]


EXACT: list[Write] = [
    add,
    add_generated,
    change,
    change_twice,
    change_by_relationship,
    append_and_remove,
    change_title,
    change_key,
    remove,
    remove_owner,
    merge,
    savepoint_released,
    savepoint_rolled_back,
    orm_insert,
    orm_insert_values,
    orm_insert_returning,
    core_insert,
    core_insert_many_values,
    bare_insert,
    orm_delete,
    cascade_in_bulk,
    orm_update_title,
    orm_update_title_by_key,
]
WIDE: list[Write] = [
    change_expired,
    change_by_expression,
    insert_from_select,
    insert_expression,
    bulk_save,
    orm_update_by_key,
    core_update,
    raw,
    raw_insert,
]


@pytest.mark.parametrize("write", EXACT, ids=named(EXACT))
def test_lists_concerned_alone(shop: Path, write: Write) -> None:
    """The lists are as the database's, and that of another owner stays in the caches."""
    check(shop, write, exact=True)


@pytest.mark.parametrize("write", WIDE, ids=named(WIDE))
def test_lists_of_the_class(shop: Path, write: Write) -> None:
    """Where the rows or their former values cannot be told, all lists of the class go."""
    check(shop, write, exact=False)


def test_update_of_an_index_in_bulk(shop: Path) -> None:
    """Where rows can be locked first, their former values are known; on SQLite the class goes."""
    check(shop, orm_update, exact=shop.engine.dialect.name != "sqlite")


@pytest.mark.parametrize("write", [add, change, remove, orm_delete], ids=lambda write: write.__name__.replace("_", " "))
def test_rolled_back(shop: Path, write: Write) -> None:
    """Nothing was changed, and nothing is dropped."""
    check(shop, write, exact=True, end="rollback")


@CROSSED
def test_over_every_cache(shop: Path) -> None:
    """Process memory, Redis and memcached drop the lists concerned alone."""
    check(shop, change, exact=True)


@pytest.mark.parametrize(
    "options", [{"consistency": "fast"}, {"write": "invalidate"}, {"outbox": True}], ids=lambda options: next(iter(options))
)
def test_options(attach: Attach, listed_tables: Engine, options: dict[str, object]) -> None:
    """Whatever the hook was told to do, lists are right after a commit."""
    check(stocked(attach(**options), listed_tables), change, exact=True)


def test_autocommit(attach: Attach, listed_tables: Engine) -> None:
    """Each statement is told as it is executed; the lists of the class go."""
    path = stocked(attach(engine=listed_tables.execution_options(isolation_level="AUTOCOMMIT")), listed_tables)
    prove_listed(path.store, path.other, Item, owner_id=1)
    with path.maker() as session:
        add(session)
        change(session)
        assert ids(path.store, Item, owner_id=1) == [4, 9]
        session.commit()
    assert ids(path.store, Item, owner_id=1) == [4, 9]
    assert ids(path.store, Item, owner_id=3) == [2]


def test_other_engine_of_the_same_database(attach: Attach, listed_tables: Engine, other: Engine) -> None:
    """Sessions of another engine on the same database have the lists dropped too."""
    check(stocked(attach(engine=other), listed_tables), change, exact=True)


def test_joined_to_a_callers_transaction(shop: Path) -> None:
    """The lists go when the caller commits."""
    prove_listed(shop.store, shop.other, Item, owner_id=1)
    with shop.engine.connect() as connection, connection.begin():
        with shop.maker(bind=connection, join_transaction_mode="rollback_only") as session:
            change(session)
            session.commit()
        assert ids(shop.store, Item, owner_id=1) == [2, 4]
    assert ids(shop.store, Item, owner_id=1) == [4]
    assert ids(shop.store, Item, owner_id=3) == [2]


def test_a_hierarchy(shop: Path) -> None:
    """A new row of a subclass comes into the lists of its base, a deleted one leaves them."""
    shop.seed(Dog(id=1, owner_id=1, breed="pug"), Cat(id=2, owner_id=1))
    assert prove_listed(shop.store, shop.other, Animal, owner_id=1) == [1, 2]
    assert ids(shop.store, Dog, breed="pug") == [1]
    with shop.maker.begin() as session:
        session.add(Dog(id=3, owner_id=1, breed="pug"))
        session.delete(session.get_one(Animal, 2))
    assert ids(shop.store, Animal, owner_id=1) == [1, 3]
    assert ids(shop.store, Cat, owner_id=1) == []
    assert ids(shop.store, Dog, breed="pug") == [1, 3]
    with shop.maker.begin() as session:
        session.execute(update(Animal).where(Animal.id == 1).values(owner_id=5))
        session.execute(insert(Animal), [{"id": 4, "owner_id": 1, "kind": "cat"}])
    assert ids(shop.store, Animal, owner_id=1) == [3, 4]
    assert ids(shop.store, Cat, owner_id=1) == [4]
    assert ids(shop.store, Animal, owner_id=5) == [1]


class Whole(DeclarativeBase):
    pass


class Beast(Whole):
    """Selected with its subclasses' tables."""

    __tablename__ = "listed_beasts"
    __indexes__ = ["owner_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int]
    kind: Mapped[str] = mapped_column(server_default="beast")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "beast", "with_polymorphic": "*"}


class Lion(Beast):
    __tablename__ = "listed_lions"
    id: Mapped[int] = mapped_column(ForeignKey("listed_beasts.id"), primary_key=True)
    __mapper_args__ = {"polymorphic_identity": "lion"}


def test_update_of_an_index_of_a_class_selected_by_an_outer_join(path: Path) -> None:
    """The rows are locked in the table of the class, where the others have none to lock."""
    Whole.metadata.drop_all(path.engine)
    Whole.metadata.create_all(path.engine)
    path.seed(Beast(id=1, owner_id=1), Lion(id=2, owner_id=1), Lion(id=3, owner_id=2))
    assert prove_listed(path.store, path.other, Beast, owner_id=1) == [1, 2]
    with path.maker.begin() as session:
        session.execute(update(Beast).where(Beast.id < 3).values(owner_id=2))
    assert ids(path.store, Beast, owner_id=1) == []
    assert ids(path.store, Beast, owner_id=2) == [1, 2, 3]


@pytest.mark.parametrize("keys", [[2, 9], None, [{"code": "c2"}, 9]], ids=["keys", "class", "alternate"])
def test_invalidate(shop: Path, keys: Any) -> None:
    """Rows that somebody has changed, added or deleted unseen are in the right lists afterwards."""
    for owner in (1, 2, 3):
        prove_listed(shop.store, shop.other, Item, owner_id=owner)
    change_unseen(shop.other, Item, 2, owner_id=3)
    with shop.other.begin() as connection:
        connection.execute(insert(bare(Item)).values(id=9, owner_id=1, tenant=1, kind="book", title="x"))
    assert [ids(shop.store, Item, owner_id=owner) for owner in (1, 3)] == [[2, 4], []]
    shop.sync.invalidate(Item, keys)
    assert [ids(shop.store, Item, owner_id=owner) for owner in (1, 2, 3)] == [[4, 9], [1, 3], [2]]


@ON_REDIS
def test_outbox_names_the_lists(attach: Attach, listed_tables: Engine) -> None:
    """What the janitor makes good names the lists concerned, too."""
    path = stocked(attach(outbox=True), listed_tables)
    with path.other.begin() as connection:
        connection.execute(delete(Outbox().definition))
    with path.maker() as session:
        change(session)
        session.commit()
    with path.other.connect() as connection:
        (texts,) = connection.scalars(select(Outbox().definition.c.texts))
    cache: Any = path.store.tiers[0]
    lookups = [keys_of(Item).listed(values) for values in ({"owner_id": 1}, {"owner_id": 3}, {"colour": None}, {"colour": Colour.RED})]
    assert {lookup.plan.record_text(cache.partition, lookup.native) for lookup in lookups} < set(texts.split("\n"))
    assert len(texts.split("\n")) == 5


@ON_REDIS
def test_marker_on_a_list_is_doubted(shop: Path) -> None:
    """A reader that meets a marker on a list has it resolved, as on a row; until then the list comes from the database."""
    tier: Any = tier_of(shop.store.tiers[0])
    lookup = keys_of(Item).listed({"owner_id": 1})
    text_ = lookup.plan.record_text(shop.store.tiers[0].partition, lookup.native)
    prove_listed(shop.store, shop.other, Item, owner_id=1)
    tier._backend.mark_many([], b"dead.1", [text_])
    met: list[str] = []

    class Resolving:
        def met(self, tier: Any, cells: Mapping[str, bytes]) -> None:
            met.extend(cells)
            tier.resolve(list(cells), b"dead.1")

    tier.resolvers.append(Resolving())
    change_unseen(shop.other, Item, 1, owner_id=1)
    assert ids(shop.store, Item, owner_id=1) == [1, 2, 4]
    assert met == [text_]
    prove_listed(shop.store, shop.other, Item, owner_id=1)


@pytest.fixture
def moving(shop: Path) -> Iterator[Path]:
    """The shop whose database gives each written item to the third owner."""
    if shop.engine.dialect.name == "sqlite":
        move = "AFTER {0} ON listed_items WHEN NEW.owner_id <> 3 BEGIN UPDATE listed_items SET owner_id = 3 WHERE id = NEW.id; END"
        make = [f"CREATE TRIGGER listed_{event} {move.format(event)}" for event in ("INSERT", "UPDATE")]
        drop = [f"DROP TRIGGER listed_{event}" for event in ("INSERT", "UPDATE")]
    else:
        body = "LANGUAGE plpgsql AS 'BEGIN NEW.owner_id := 3; RETURN NEW; END'"
        each = "BEFORE INSERT OR UPDATE ON listed_items FOR EACH ROW EXECUTE FUNCTION listed_third()"
        make = [f"CREATE FUNCTION listed_third() RETURNS trigger {body}", f"CREATE TRIGGER listed_third {each}"]
        drop = ["DROP FUNCTION listed_third CASCADE"]
    run_unseen(shop, make)
    reread._checked.clear()
    yield shop
    run_unseen(shop, drop)
    reread._checked.clear()


def run_unseen(shop: Path, statements: Sequence[str]) -> None:
    with shop.other.begin() as connection:
        for each in statements:
            connection.exec_driver_sql(each)


def retitle_in_bulk(session: Session) -> None:
    session.execute(update(Item).where(Item.id == 2).values(title="new"))


def retitle_by_key(session: Session) -> None:
    session.execute(update(Item), [{"id": 2, "title": "new"}])


def add_by_core(session: Session) -> None:
    session.execute(insert(ITEMS), [{"id": 9, "owner_id": 1}])


def add_in_bulk(session: Session) -> None:
    session.execute(insert(Item), [{"id": 9, "owner_id": 1}])


TRIGGERED = [add, add_by_core, add_in_bulk, change_title, change, change_by_relationship, retitle_in_bulk, retitle_by_key]


@pytest.mark.parametrize("write", TRIGGERED, ids=lambda write: write.__name__)
@pytest.mark.parametrize("options", [{}, {"write": "invalidate"}, {"consistency": "fast"}], ids=["through", "invalidate", "fast"])
def test_what_a_trigger_moves(attach: Attach, listed_tables: Engine, moving: Path, write: Write, options: dict[str, Any]) -> None:
    """The list that the database has put a row into is dropped, though the write did not set its column."""
    path = attach(**options)
    prove_listed(path.store, path.other, Item, owner_id=3)
    with path.maker.begin() as session:
        write(session)
    assert len(ids(path.store, Item, owner_id=3)) == 1
    assert ids(path.store, Item, owner_id=3) == from_database(path, Item, owner_id=3)


def test_a_trigger_that_moves_nothing(moving: Path) -> None:
    """A row that stands where it stood has no list dropped."""
    change_unseen(moving.other, Item, 2, title="moved")
    prove_listed(moving.store, moving.other, Item, owner_id=3)
    with moving.maker.begin() as session:
        change_title(session)
    with Asked(moving.engine) as asked:
        assert ids(moving.store, Item, owner_id=3) == [2]
    assert asked.number == 0
