"""Lists through a chain: what caches keep of them, and which of them a write of the chain has them drop."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, update
from sqlalchemy.orm import Session

from stockstore import (
    ChainedStore,
    ConfigurationError,
    MemcacheStore,
    NotKeyedError,
    NullStore,
    OriginError,
    ProcessMemoryStore,
    RedisStore,
    SqlAlchemyStore,
    Store,
    ThreadLocalStore,
    UnknownKeyError,
)
from stockstore_ext.sqlalchemy import SessionSync
from tests.statements import recorded
from tests.stores.listed import Animal, Cat, Colour, Dog, Item, Mark, Odd, Owner, change_unseen, create_tables, empty, ids, prove_listed


@pytest.fixture(scope="module")
def tables(engine: Engine) -> Engine:
    """The engine of a database that has the tables, SQLite and PostgreSQL in turn."""
    create_tables(engine)
    return engine


@pytest.fixture(scope="module")
def unseen(engine: Engine) -> Iterator[Engine]:
    """Another engine on the same database, which nobody watches."""
    other = create_engine(engine.url)
    yield other
    other.dispose()


@pytest.fixture
def db(tables: Engine) -> Engine:
    """The engine of a database with two owners, who have two items each."""
    empty(tables)
    with Session(tables) as session:
        session.add_all([Owner(id=1), Owner(id=2)])
        session.flush()
        session.add_all([Item(id=n, owner_id=1 + n % 2, code=f"c{n}") for n in (4, 3, 2, 1)])
        session.commit()
    return tables


ALL = pytest.mark.parametrize("caches", ["memory", "redis", "memcached", "memory redis", "thread memory memcached"], indirect=True)


@pytest.fixture
def caches(request: pytest.FixtureRequest, db: Engine) -> Iterator[Sequence[Store]]:
    """Process memory above SQLite, memcached above PostgreSQL, or those that a test names."""
    made: dict[str, Callable[[], Store]] = {
        "thread": lambda: ThreadLocalStore(max_staleness=None),
        "memory": lambda: ProcessMemoryStore(max_staleness=None),
        "redis": lambda: RedisStore(request.getfixturevalue("redis_url"), namespace=uuid.uuid4().hex),
        "memcached": lambda: MemcacheStore(request.getfixturevalue("memcached_address"), namespace=uuid.uuid4().hex),
    }
    names = getattr(request, "param", "memory" if db.dialect.name == "sqlite" else "memory memcached")
    stores = [made[name]() for name in str(names).split()]
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
def chain(caches: Sequence[Store], db: Engine) -> ChainedStore:
    """The caches over the database."""
    return ChainedStore([*caches, SqlAlchemyStore(engine=db)])


MEMORY = pytest.mark.parametrize("caches", ["memory"], indirect=True)
ONLY_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
REMOTE = pytest.mark.parametrize("caches", ["redis", "memcached"], indirect=True)


# -- reading ----------------------------------------------------------------------------------------


def test_a_list_has_all_rows_with_the_values_in_the_order_of_their_keys(db: Engine, chain: ChainedStore) -> None:
    """The database alone and a chain give the same, detached and whole, at the first read and from caches."""
    for store in (SqlAlchemyStore(engine=db), chain, chain):
        assert [(item.id, item.owner_id, item.title) for item in store.get_all(Item, owner_id=2)] == [(1, 2, "old"), (3, 2, "old")]
        assert ids(store, Item, kind="book", tenant=1) == [1, 2, 3, 4]
        assert [item.id for item in store.get_all(Item, {"owner_id": 1})] == [2, 4]
        assert [item.id for item in store.get_all(Item, colour=None)] == [1, 2, 3, 4]
        assert store.get_all(Item, owner_id=3) == []
        assert store.get_all(Item, colour=Colour.RED) == []


@ALL
def test_a_list_that_was_read_comes_from_the_caches(chain: ChainedStore, unseen: Engine, statements: list[str]) -> None:
    """Neither the list nor its rows are read from the database again, and the first read asks for the keys and for the rows, once each."""
    assert ids(chain, Item, owner_id=1) == [2, 4]
    assert len(statements) == 2
    statements.clear()
    assert prove_listed(chain, unseen, Item, owner_id=1) == [2, 4]
    assert statements == []
    change_unseen(unseen, Item, 2, title="unseen")
    assert [item.title for item in chain.get_all(Item, owner_id=1)] == ["old", "old"]


def test_an_empty_list_is_kept_too(chain: ChainedStore, unseen: Engine) -> None:
    """That there is nothing is remembered, until a row comes."""
    assert prove_listed(chain, unseen, Item, colour=Colour.BLUE) == []
    chain.put(Item(id=9, colour=Colour.BLUE))
    assert ids(chain, Item, colour=Colour.BLUE) == [9]


def test_rows_that_are_cached_are_not_read_again_for_a_list(chain: ChainedStore, statements: list[str]) -> None:
    """The database gives the keys of the list, and those rows alone that no cache has."""
    chain.get(Item, 2), chain.get(Item, 4)
    statements.clear()
    assert ids(chain, Item, owner_id=1) == [2, 4]
    assert len(statements) == 1


@REMOTE
def test_a_hit_takes_one_round_trip_for_the_list_and_one_for_its_rows(chain: ChainedStore, caches: Sequence[Any]) -> None:
    """A shared cache is asked twice, however many rows there are."""
    ids(chain, Item, tenant=1, kind="book")
    asked: list[int] = []
    backend = caches[0]._backend
    for name in ("get_many", "follow_many", "follow_list", "lease_many"):
        verb = getattr(backend, name)

        def counted(keys: Any, *rest: Any, verb: Callable[..., Any] = verb) -> Any:
            asked.append(2 if isinstance(keys, str) else len(keys))
            return verb(keys, *rest)

        setattr(backend, name, counted)
    assert ids(chain, Item, tenant=1, kind="book") == [1, 2, 3, 4]
    assert asked == [2, 5]


def test_many_lists_at_once_take_as_many_steps_as_one(chain: ChainedStore, db: Engine, statements: list[str]) -> None:
    """A batch asks the database twice, and finds each list afterwards."""
    from stockstore.keys import keys_of

    lookups = [keys_of(Item).listed({"owner_id": owner}) for owner in (2, 3, 1, 2, None)]
    for count in (3, 0):  # that of rows that are None goes by another condition
        statements.clear()
        rows = chain.batch_list(Item, lookups)
        assert [[row.key()["id"] for row in each] for each in rows] == [[1, 3], [], [2, 4], [1, 3], []]
        assert len(statements) == count
    rows = SqlAlchemyStore(engine=db).batch_list(Item, lookups)
    assert [[row.key()["id"] for row in each] for each in rows] == [[1, 3], [], [2, 4], [1, 3], []]


@MEMORY
def test_with_a_session_the_objects_are_its_own(chain: ChainedStore, db: Engine, unseen: Engine) -> None:
    """They are persistent in it, each once, and a session that has written any row of the class reads its own rows."""
    prove_listed(chain, unseen, Item, owner_id=1)
    with Session(db) as session:
        first = session.get(Item, 2)
        found = chain.get_all(Item, owner_id=1, session=session)
        assert found[0] is first
        assert all(item in session for item in found)
        session.add(Item(id=8, owner_id=1))
        session.flush()
        assert [item.id for item in chain.get_all(Item, owner_id=1, session=session)] == [2, 4, 8]
        assert ids(chain, Item, owner_id=1) == [2, 4]
        session.rollback()
    assert prove_listed(chain, unseen, Item, owner_id=1) == [2, 4]


@MEMORY
def test_a_hierarchy_shares_the_lists_of_the_class_that_declares_them(chain: ChainedStore, unseen: Engine) -> None:
    """Rows of all subclasses are in the list of the base; asked for by a subclass, only its own are given."""
    chain.batch_put(
        [Dog(id=1, owner_id=1, breed="pug"), Cat(id=2, owner_id=1), Animal(id=3, owner_id=1), Dog(id=4, owner_id=2, breed="pug")]
    )
    for _ in range(2):
        assert [type(one) for one in chain.get_all(Animal, owner_id=1)] == [Dog, Cat, Animal]
        assert ids(chain, Dog, owner_id=1) == [1]
        assert ids(chain, Cat, owner_id=1) == [2]
        assert ids(chain, Dog, breed="pug") == [1, 4]
    assert prove_listed(chain, unseen, Animal, owner_id=1) == [1, 2, 3]
    chain.put(Cat(id=5, owner_id=1))
    assert ids(chain, Animal, owner_id=1) == [1, 2, 3, 5]
    assert ids(chain, Cat, owner_id=1) == [2, 5]


@pytest.mark.filterwarnings("ignore:Flushing object .* with incompatible polymorphic identity")
def test_an_object_of_the_base_put_over_a_row_of_a_subclass(chain: ChainedStore) -> None:
    """In one table it makes the row one of the base, which leaves the lists of the subclass."""
    chain.put(Cat(id=1, owner_id=1, lives=9))
    assert ids(chain, Cat, lives=9) == ids(chain, Animal, owner_id=1) == [1]
    chain.put(Animal(id=1, owner_id=2))
    assert [type(one) for one in chain.get_all(Animal, owner_id=2)] == [Animal]
    assert ids(chain, Cat, lives=9) == ids(chain, Animal, owner_id=1) == []


def test_a_row_of_a_class_that_is_not_mapped_here(chain: ChainedStore, db: Engine, unseen: Engine) -> None:
    """As another release's may be: it is the database's error, not SQLAlchemy's own, and hides no row beside it; what is told of it by hand is told."""
    chain.batch_put([Cat(id=1, owner_id=1, lives=9), Animal(id=2, owner_id=2)])
    with unseen.begin() as connection:
        connection.exec_driver_sql("INSERT INTO listed_animals (id, owner_id, kind, name) VALUES (3, 2, 'newt', 'new')")
    reads: list[Callable[[], object]] = [
        lambda: chain.get(Animal, 3),
        lambda: chain.batch_get(Animal, [1, 3]),
        lambda: chain.delete(Animal, 3),
        lambda: chain.put(Animal(id=3, owner_id=1)),
        lambda: chain.get_all(Animal, owner_id=2),
    ]
    chain.clear()
    for read in reads:
        with pytest.raises(OriginError, match=r"refused: .*No such polymorphic_identity 'newt'"):
            read()
    assert (chain.get(Cat, 3), ids(chain, Animal, owner_id=1)) == (None, [1])
    with unseen.begin() as connection:
        connection.execute(update(Animal).values(name="unseen"))
    SessionSync(chain).invalidate(Animal, [1, 3])
    assert [one.name for one in chain.get_all(Animal, owner_id=1)] == ["unseen"]


@pytest.mark.parametrize("caches", ["memory", "redis"], indirect=True)
def test_what_a_database_takes_for_equal_is_read_from_it(chain: ChainedStore, db: Engine, unseen: Engine) -> None:
    """Padded text, rounded numbers, loose collations and values of another type give what the database gives, always."""
    with Session(unseen) as session:
        session.add_all(
            Odd(first=n, second=uuid.UUID(int=n), padded="ab", price=Decimal("1.50"), loose=text, token=uuid.UUID(int=7))
            for n, text in ((1, "Bob"), (2, "bob"))
        )
        session.commit()
    plain = SqlAlchemyStore(engine=db)
    asked: list[dict[str, Any]] = [
        {"padded": "ab"},
        {"padded": "ab  "},
        {"price": Decimal("1.5")},
        {"price": 1.5},
        {"loose": "BOB"},
        {"loose": "bob"},
        {"token": uuid.UUID(int=7)},
        {"twice": 2},
        {"first": True},
    ]
    for one in asked:
        for _ in range(2):
            assert ids(chain, Odd, **one) == ids(plain, Odd, **one)
    assert ids(chain, Odd, loose="BOB") == [1, 2]
    chain.put(Odd(first=3, second=uuid.UUID(int=3), padded="ab", price=Decimal("1.50"), loose="BOB", token=uuid.UUID(int=7)))
    for one in asked:
        assert ids(chain, Odd, **one) == ids(plain, Odd, **one)
    assert ids(chain, Odd, loose="Bob") == [1, 2, 3]
    assert ids(chain, Odd, token=uuid.UUID(int=7)) == [1, 2, 3]


def test_a_cache_alone_cannot_list() -> None:
    """The error says what to do about it, for rows and for plain objects; so does that of a class without the index."""

    class Plain:
        __keys__ = ["id"]
        __indexes__ = ["colour"]

    for store in (ProcessMemoryStore(), NullStore(), ChainedStore([ProcessMemoryStore(), NullStore()])):
        for cls, names in ((Item, {"owner_id": 1}), (Plain, {"colour": 1})):
            with pytest.raises(
                ConfigurationError, match=r"cannot know all the objects of .*ChainedStore\(\[ProcessMemoryStore\(\), SqlAlchemy"
            ):
                store.get_all(cls, **names)  # type: ignore[arg-type]
    with pytest.raises(NotKeyedError, match="is not mapped by SQLAlchemy"):
        SqlAlchemyStore("sqlite://").get_all(Plain, colour=1)
    with pytest.raises(UnknownKeyError, match="no index 'title'; it declares 'owner_id'"):
        ProcessMemoryStore().get_all(Item, title="x")


# -- writing ----------------------------------------------------------------------------------------


def prove_all(chain: ChainedStore, unseen: Engine) -> None:
    """Have each list of the tests kept by the caches."""
    for owner in (1, 2, None):
        prove_listed(chain, unseen, Item, owner_id=owner)
    prove_listed(chain, unseen, Item, tenant=1, kind="book")


def test_a_new_row_comes_into_its_lists_alone(chain: ChainedStore, unseen: Engine) -> None:
    """The lists of its values have it; another owner's list stays in the caches."""
    prove_all(chain, unseen)
    chain.put(Item(id=9, owner_id=1))
    assert ids(chain, Item, owner_id=1) == [2, 4, 9]
    assert ids(chain, Item, tenant=1, kind="book") == [1, 2, 3, 4, 9]
    assert _stays(chain, unseen, owner_id=2) == [1, 3]
    assert _stays(chain, unseen, owner_id=None) == []


@ALL
def test_a_changed_row_leaves_one_list_for_another(chain: ChainedStore, unseen: Engine) -> None:
    """Both lists are right, and those of columns that were not changed stay in the caches."""
    prove_all(chain, unseen)
    item = chain.get(Item, 2)
    assert item is not None
    item.owner_id = None
    chain.put(item)
    assert ids(chain, Item, owner_id=1) == [4]
    assert ids(chain, Item, owner_id=None) == [2]
    assert _stays(chain, unseen, owner_id=2) == [1, 3]
    assert _stays(chain, unseen, tenant=1, kind="book") == [1, 2, 3, 4]


def test_a_change_of_other_columns_leaves_all_lists(chain: ChainedStore, unseen: Engine) -> None:
    """A new title is seen in the list, which stays in the caches."""
    prove_all(chain, unseen)
    item = chain.get(Item, 2)
    assert item is not None
    item.title = "new"
    chain.put(item)
    assert _stays(chain, unseen, owner_id=1) == [2, 4]
    assert [item.title for item in chain.get_all(Item, owner_id=1)] == ["new", "old"]


@pytest.mark.parametrize("by", ["key", "object", "alternate"])
def test_a_deleted_row_leaves_its_lists(chain: ChainedStore, unseen: Engine, by: str) -> None:
    """Deleted in whatever way, it is in no list, and another owner's list stays in the caches."""
    prove_all(chain, unseen)
    if by == "object":
        chain.delete(chain.get(Item, 2))
    else:
        chain.delete(Item, {"code": "c2"} if by == "alternate" else 2)
    assert ids(chain, Item, owner_id=1) == [4]
    assert ids(chain, Item, tenant=1, kind="book") == [1, 3, 4]
    assert _stays(chain, unseen, owner_id=2) == [1, 3]


def test_rows_that_a_cascade_takes_along_leave_their_lists(chain: ChainedStore, unseen: Engine) -> None:
    """By the ORM's cascade and by the database's, those of the deleted owner are gone."""
    chain.batch_put([Mark(id=1, owner_id=1), Mark(id=2, owner_id=2)])
    prove_all(chain, unseen)
    for owner in (1, 2):
        prove_listed(chain, unseen, Mark, owner_id=owner)
    chain.delete(Owner, 1)
    assert ids(chain, Item, owner_id=1) == []
    # SQLite's own cascades are switched off by default.
    assert ids(chain, Mark, owner_id=1) == ids(chain.tiers[-1], Mark, owner_id=1)
    assert ids(chain, Mark, owner_id=2) == [2]
    assert _stays(chain, unseen, owner_id=2) == [1, 3]


def test_clear_drops_lists(chain: ChainedStore, unseen: Engine) -> None:
    """A class's lists go with its rows, and those of another class stay."""
    chain.put(Mark(id=1, owner_id=1))
    prove_all(chain, unseen)
    prove_listed(chain, unseen, Mark, owner_id=1)
    change_unseen(unseen, Item, 2, owner_id=2)
    chain.clear(Item)
    assert ids(chain, Item, owner_id=2) == [1, 2, 3]
    assert prove_listed(chain, unseen, Mark, owner_id=1) == [1]


def test_a_list_that_was_overtaken_unseen_gives_way(chain: ChainedStore, unseen: Engine) -> None:
    """A row that is known to carry other values, or to be gone, is not given, and the list is read anew."""
    prove_all(chain, unseen)
    change_unseen(unseen, Item, 2, owner_id=2)
    chain.clear(Owner)
    for tier in chain.tiers[:-1]:
        tier.delete(Item, 2)
    assert ids(chain, Item, owner_id=1) == [4]
    assert prove_listed(chain, unseen, Item, owner_id=1) == [4]


@ONLY_SQLITE
def test_a_row_that_a_trigger_moves_comes_into_its_list(chain: ChainedStore, db: Engine, unseen: Engine) -> None:
    """A put that does not set the index column has the list dropped that the database has put the row into."""
    prove_listed(chain, unseen, Item, owner_id=2)
    move = "AFTER UPDATE ON listed_items WHEN NEW.title = 'new' BEGIN UPDATE listed_items SET owner_id = 2 WHERE id = NEW.id; END"
    with db.begin() as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER listed_put {move}")
    try:
        item = chain.get(Item, 2)
        assert item is not None
        item.title = "new"
        chain.put(item)
    finally:
        with db.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER listed_put")
    assert ids(chain, Item, owner_id=2) == [1, 2, 3]


def _stays(chain: ChainedStore, unseen: Engine, **values: Any) -> list[Any]:
    """Show that a list was not dropped: the database is not asked even the first time."""
    with recorded(chain.tiers[-1].engine) as asked:  # type: ignore[attr-defined]
        chain.get_all(Item, **values)
    thread_only = isinstance(chain.tiers[0], ThreadLocalStore)
    assert thread_only or not any("listed_items" in sql and "code" not in sql for sql in asked)
    return prove_listed(chain, unseen, Item, **values)
