"""SQLAlchemy's ShardedSession: the identity token is part of the key, so that rows of two shards with one primary key never mix."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, delete, event, insert, select, text, update
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.attributes import instance_state

from stockstore import ChainedStore, ConfigurationError, ProcessMemoryStore, SqlAlchemyStore, Store
from stockstore.evidence import Outbox
from stockstore_ext.sqlalchemy import SessionSync
from tests.stores.shop import Customer, Note, Order, create_tables
from tests.sync.conftest import ON_MEMORY, ON_SQLITE

UNSEEN = "unseen"


class Sharded(ShardedSession):
    pass


class Plain(Session):
    pass


class Shards:
    """Two databases with the same primary keys, sessions on them, and a hook."""

    def __init__(self, engines: dict[str, Engine], cache: Store, homes: Callable[[Any], list[str]]) -> None:
        self.engines = engines
        self.store = ChainedStore([cache, SqlAlchemyStore(engine=engines["red"])])
        self.maker: sessionmaker[Sharded] = sessionmaker(
            class_=type("Watched", (Sharded,), {}),
            shards=engines,
            shard_chooser=lambda _mapper, instance, clause=None: instance.status if instance is not None else "red",
            identity_chooser=lambda _mapper, key, **_rest: homes(key),
            execute_chooser=lambda _execution: list(engines),
        )
        self.plain: sessionmaker[Session] = sessionmaker(class_=type("Watched", (Plain,), {}))
        self.syncs = [SessionSync(self.store, read_through=True, shards=engines).attach(maker) for maker in (self.maker, self.plain)]

    def name(self, token: str, key: int = 1) -> str | None:
        """Give the name that a fresh session gets of a shard."""
        with self.maker() as session:
            found = session.get(Customer, key, identity_token=token)
            return None if found is None else found.name

    def names(self) -> list[str | None]:
        """Give the names on each shard."""
        return [self.name(token) for token in self.engines]

    def change_unseen(self, value: str = UNSEEN) -> None:
        """Write past every session."""
        for engine in self.engines.values():
            with engine.begin() as connection:
                connection.execute(update(Customer).values(name=value))

    def seed(self) -> "Shards":
        """Insert customer 1 on each shard, and prove that both are read from the caches."""
        for token, engine in self.engines.items():
            with engine.begin() as connection:
                for table in (Note, Order, Customer):
                    connection.execute(delete(table))
                connection.execute(insert(Customer).values(id=1, email=token, name=token, status=token))
        assert self.names() == ["red", "blue"]
        self.change_unseen()
        assert self.names() == ["red", "blue"]
        return self


@pytest.fixture(scope="module")
def second_engine(shop_tables: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A second database: a file, or a schema."""
    if shop_tables.dialect.name == "sqlite":
        engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('shard') / 'blue.db'}")
    else:
        with shop_tables.begin() as connection:
            connection.execute(text("DROP SCHEMA IF EXISTS blue_shard CASCADE"))
            connection.execute(text("CREATE SCHEMA blue_shard"))
        engine = create_engine(shop_tables.url.update_query_dict({"options": "-csearch_path=blue_shard"}))
    create_tables(engine)
    Outbox().create(engine)
    yield engine
    engine.dispose()
    if shop_tables.dialect.name != "sqlite":
        with shop_tables.begin() as connection:
            connection.execute(text("DROP SCHEMA blue_shard CASCADE"))


def any_shard(_key: Any) -> list[str]:
    """Tell that a row may be on either."""
    return ["red", "blue"]


@pytest.fixture
def made(db: Engine, second_engine: Engine, cache: Store) -> Iterator[Callable[..., Shards]]:
    """A function of an identity chooser that gives the shards."""
    shards: list[Shards] = []

    def make(homes: Callable[[Any], list[str]] = any_shard) -> Shards:
        shards.append(Shards({"red": db, "blue": second_engine}, cache, homes))
        return shards[-1]

    yield make
    for each in shards:
        for sync in each.syncs:
            sync.detach()
        each.store.close()


@pytest.fixture
def shards(made: Callable[..., Shards]) -> Shards:
    """Each shard's customer 1 is cached."""
    return made().seed()


def test_rows_of_one_key_stand_side_by_side(shards: Shards) -> None:
    """Each is read from its own part of the caches, as a persistent instance of its shard, which one transaction may have beside the other's."""
    with shards.maker() as session:
        red, blue = (session.get(Customer, 1, identity_token=token) for token in ("red", "blue"))
        assert red is not None
        assert blue is not None
        assert (red.name, blue.name) == ("red", "blue")
        assert [instance_state(obj).identity_token for obj in (red, blue)] == ["red", "blue"]
        assert session.get(Customer, 1, identity_token="blue") is blue
        assert red in session
        assert not session.dirty
    own = shards.store.get(Customer, 1)  # of the chain's own database, in the part of those who know of no shards
    assert own is not None
    assert own.name == UNSEEN


def write_by_flush(shards: Shards) -> None:
    """Change the object."""
    with shards.maker() as session:
        session.get_one(Customer, 1, identity_token="blue").name = "changed"
        session.commit()


def write_by_statement(shards: Shards) -> None:
    """Update by the session."""
    with shards.maker() as session:
        session.execute(update(Customer).values(name="changed"), bind_arguments={"shard_id": "blue"})
        session.commit()


def write_on_the_connection(shards: Shards) -> None:
    """Update on the connection of the shard."""
    with shards.maker() as session:
        session.connection(bind_arguments={"shard_id": "blue"}).execute(update(Customer).values(name="changed"))
        session.commit()


def write_by_another_session(shards: Shards) -> None:
    """Change it in a session that knows of no shards."""
    with shards.plain(bind=shards.engines["blue"]) as session:
        session.get_one(Customer, 1).name = "changed"
        session.commit()


@pytest.mark.parametrize("write", [write_by_flush, write_by_statement, write_on_the_connection, write_by_another_session])
def test_a_write_is_told_in_its_own_shard(shards: Shards, write: Callable[[Shards], None]) -> None:
    """What is committed on one shard is read there at once, and cached again; the other shard's entry stays."""
    write(shards)
    assert shards.names() == ["red", "changed"]
    shards.change_unseen("again")
    assert shards.names() == ["red", "changed"]


def test_a_write_that_is_rolled_back(shards: Shards) -> None:
    """Until its end it is seen by its own session alone, and afterwards by nobody."""
    with shards.maker() as session:
        session.get_one(Customer, 1, identity_token="blue").name = "mine"
        session.flush()
        session.expunge_all()
        assert session.get_one(Customer, 1, identity_token="blue").name == "mine"
        assert shards.name("red") == "red"
        session.rollback()
    assert shards.name("blue") in ("blue", UNSEEN)
    assert shards.name("red") == "red"


def test_a_write_on_both(shards: Shards) -> None:
    """One session's commit of two shards is told in both."""
    with shards.maker() as session:
        for token in shards.engines:
            session.get_one(Customer, 1, identity_token=token).name = f"new {token}"
        session.commit()
    assert shards.names() == ["new red", "new blue"]


def test_an_insert_and_a_delete(shards: Shards) -> None:
    """A new row goes where the application's chooser sends it, a deleted one is gone from its own shard alone."""
    with shards.maker() as session:
        session.add(Customer(id=2, email="two", name="two", status="blue"))
        session.commit()
    assert [shards.name(token, 2) for token in shards.engines] == [None, "two"]
    with shards.maker() as session:
        session.delete(session.get_one(Customer, 1, identity_token="blue"))
        session.commit()
    assert shards.names() == ["red", None]


def test_the_one_shard_of_the_identity_chooser(made: Callable[..., Shards]) -> None:
    """Where it names one shard, a get without a token is served; where it names several, it asks them."""
    shards = made(lambda key: ["blue"] if key[0] == 1 else ["red", "blue"]).seed()
    with shards.maker() as session:
        found = session.get(Customer, 1)
        assert found is not None
        assert found.name == "blue"
        found.name = "changed"
        session.commit()
    assert shards.names() == ["red", "changed"]


def test_what_asks_several_shards(shards: Shards) -> None:
    """A statement without a key is the databases' business; of a get of a row that may be on either each shard is asked by itself."""
    with shards.maker() as session:
        assert {row.name for row in session.scalars(select(Customer))} == {UNSEEN}
    with shards.plain(bind=shards.engines["blue"]) as plain:
        plain.add(Customer(id=3, email="three", name="three", status="blue"))
        plain.commit()
    with shards.maker() as session:
        assert session.get_one(Customer, 3).name == "three"
    shards.change_unseen("again")
    with shards.maker() as session:
        assert session.get_one(Customer, 3).name == "three"
    with shards.plain(bind=shards.engines["red"]) as plain:
        plain.delete(plain.get_one(Customer, 1))
        plain.add(Customer(id=4, email="four", name="four", status="red"))
        plain.commit()
    with shards.maker() as session:
        assert [session.get_one(Customer, key).name for key in (1, 4)] == ["blue", "four"]


@ON_SQLITE
@ON_MEMORY
def test_a_hit_asks_no_database(shards: Shards) -> None:
    """Two gets of cached rows emit nothing."""
    sent: list[str] = []
    for engine in shards.engines.values():
        event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    assert shards.names() == ["red", "blue"]
    assert sent == []


@ON_SQLITE
@ON_MEMORY
def test_what_was_written_past_the_hook(shards: Shards) -> None:
    """``sync.invalidate`` names the shard as a scope."""
    shards.syncs[0].invalidate(Customer, [1], scope="shard:blue")
    assert shards.names() == ["red", UNSEEN]


@ON_SQLITE
@ON_MEMORY
def test_shards_that_were_not_named(db: Engine, second_engine: Engine, cache: Store) -> None:
    """Without ``shards=`` its sessions read the database; so does one that calls a database by another name."""
    shards = Shards({"red": db, "blue": second_engine}, cache, any_shard)
    shards.syncs[0].detach()
    for options in ({}, {"shards": {"red": db, "azure": second_engine}}):
        sync = SessionSync(shards.store, read_through=True, **options).attach(shards.maker)  # type: ignore[arg-type]
        shards.change_unseen("one")
        assert shards.names()[1:] == [None if shards.names()[1] is None else "one"]
        shards.change_unseen("two")
        assert shards.names()[1:] == [None if shards.names()[1] is None else "two"]
        sync.detach()


@pytest.mark.sa_agnostic
@pytest.mark.parametrize("named", [["red"], {"red": "sqlite://"}, {object(): create_engine("sqlite://")}], ids=["list", "url", "object"])
def test_shards_that_do_not_fit(named: Any) -> None:
    """Shards are engines under names that can be part of keys."""
    with pytest.raises(ConfigurationError, match=r"shards is a dict of engines|the shard id .* cannot be part of a key"):
        SessionSync(ProcessMemoryStore(), shards=named)
