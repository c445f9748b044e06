"""Statements of SQLAlchemy's ShardedSession: each shard that the application chooses is read from its own part of the caches."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, select, update
from sqlalchemy.ext.horizontal_shard import ShardedSession, set_shard_id
from sqlalchemy.orm import ORMExecuteState, Session, selectinload, sessionmaker
from sqlalchemy.orm.attributes import instance_state

from stockstore import ChainedStore, ConfigurationError, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore_ext.sqlalchemy import SessionSync
from tests.stores.listed import Base, Item, Owner

UNSEEN = "unseen"
Read = Callable[[Session], list[str]]


class Sharded(ShardedSession):
    pass


def choose(execution: ORMExecuteState) -> list[str]:
    """Choose the shard of the parent for a lazy load, as SQLAlchemy's manual does, else all."""
    parent = execution.lazy_loaded_from
    return ["red", "blue"] if parent is None else [str(parent.identity_token)]


class Shards:
    """Two databases with an owner of two items in each, by the same keys, and sessions that read through a cache."""

    def __init__(self, engines: dict[str, Engine], cache: Store) -> None:
        self.engines = engines
        self.maker: sessionmaker[Sharded] = sessionmaker(
            class_=type("Watched", (Sharded,), {}),
            shards=engines,
            shard_chooser=lambda _mapper, instance, clause=None: "red" if instance is None else instance.name,
            identity_chooser=lambda _mapper, _key, *, lazy_loaded_from=None, **_rest: list(engines),
            execute_chooser=choose,
        )
        self.store = ChainedStore([cache, SqlAlchemyStore(engine=engines["red"])])
        self.sync = SessionSync(self.store, read_through=True, shards=engines).attach(self.maker)
        for token, engine in engines.items():
            with Session(engine) as session:
                session.add(Owner(id=1, name=token, items=[Item(id=at, code=f"{token}{at}", title=token) for at in (1, 2)]))
                session.commit()

    def warm(self, read: Read) -> list[str]:
        """Read twice, as a list keeps its keys by the first read and its rows by the second."""
        self.read(read)
        return self.read(read)

    def read(self, read: Read) -> list[str]:
        """Read in a fresh session."""
        with self.maker() as session:
            return read(session)

    def change_unseen(self, value: str = UNSEEN) -> None:
        """Write past every session."""
        for engine in self.engines.values():
            with engine.begin() as connection:
                connection.execute(update(Owner).values(name=value))
                connection.execute(update(Item).values(title=value))


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest, namespace: str) -> Store:
    """Process memory, or Redis."""
    if request.param == "memory":
        return ProcessMemoryStore(max_staleness=None, namespace=namespace)
    return RedisStore(request.getfixturevalue("redis_url"), namespace=namespace)


@pytest.fixture
def shards(tmp_path_factory: pytest.TempPathFactory, cache: Store) -> Iterator[Shards]:
    """Nothing is cached."""
    folder = tmp_path_factory.mktemp("shards")
    engines = {token: create_engine(f"sqlite:///{folder / token}.db") for token in ("red", "blue")}
    for engine in engines.values():
        Base.metadata.create_all(engine)
    shards = Shards(engines, cache)
    yield shards
    shards.sync.detach()
    shards.store.close()
    for engine in engines.values():
        engine.dispose()


ITEMS = select(Item).order_by(Item.id)


def by_bind_arguments(session: Session) -> list[str]:
    """Name the shard beside the statement."""
    return [item.title for item in session.scalars(ITEMS.where(Item.id.in_([1, 2])), bind_arguments={"shard_id": "blue"})]


def by_execution_option(session: Session) -> list[str]:
    """Name it by the identity token."""
    return [item.title for item in session.scalars(ITEMS.where(Item.id == 2), execution_options={"identity_token": "blue"})]


def by_query(session: Any) -> list[str]:
    """Name it to the legacy query."""
    return [item.title for item in session.query(Item).set_shard("blue").filter(Item.id == 2)]


def by_option(session: Session) -> list[str]:
    """Name it to the statement and what is loaded from it."""
    return [item.title for item in session.scalars(ITEMS.where(Item.id == 2).options(set_shard_id("blue")))]


def by_another_key(session: Session) -> list[str]:
    """Ask by a declared key."""
    return [item.title for item in session.scalars(select(Item).where(Item.code == "blue2").options(set_shard_id("blue")))]


def listed(session: Session) -> list[str]:
    """Ask by an index."""
    return [item.title for item in session.scalars(ITEMS.where(Item.owner_id == 1), bind_arguments={"shard_id": "blue"})]


def on_all(session: Session) -> list[str]:
    """Ask all shards."""
    return [item.title for item in session.scalars(ITEMS.where(Item.id == 2))]


def listed_on_all(session: Session) -> list[str]:
    """Ask all shards by an index, each row once."""
    return [item.title for item in session.execute(ITEMS.where(Item.owner_id == 1)).scalars().unique()]


def one_that_may_be_on_either(session: Session) -> list[str]:
    """Get by the primary key alone, which the first shard is asked for that has none in the session."""
    return [session.get_one(Item, 1, execution_options={"_sa_shard_id": "blue"}).title]


def by_parent(session: Session) -> list[str]:
    """Load lazily what is on the shard of the parent."""
    item = session.get_one(Item, 2, identity_token="blue")
    assert item.owner is not None
    assert instance_state(item.owner).identity_token == "blue"
    return [item.owner.name]


def of_parent(session: Session) -> list[str]:
    """Load lazily a collection."""
    return [item.title for item in session.get_one(Owner, 1, identity_token="blue").items]


def beside(session: Session) -> list[str]:
    """Load related objects by a second statement."""
    asked = ITEMS.options(selectinload(Item.owner))
    return [item.owner.name for item in session.scalars(asked, bind_arguments={"shard_id": "blue"}) if item.owner is not None]


ONE = [by_execution_option, by_query, by_option, by_another_key, one_that_may_be_on_either, by_parent]
TWO = [by_bind_arguments, listed, of_parent, beside]
ALL: dict[Read, list[str]] = {
    **{read: ["blue"] for read in ONE},
    **{read: ["blue", "blue"] for read in TWO},
    on_all: ["red", "blue"],
    listed_on_all: ["red", "red", "blue", "blue"],
}


@pytest.mark.parametrize("read", ALL, ids=lambda read: read.__name__)
def test_served(shards: Shards, read: Read) -> None:
    """What was read is read from the cache, of each shard what is its own; what is committed there is seen at once, and cached again."""
    assert shards.warm(read) == ALL[read]
    shards.change_unseen()
    assert shards.read(read) == ALL[read]
    with shards.maker() as session:
        for item in session.scalars(select(Item), bind_arguments={"shard_id": "blue"}):
            item.title = "new"
        session.get_one(Owner, 1, identity_token="blue").name = "new"
        session.commit()
    told = ["new" if name == "blue" else name for name in ALL[read]]
    assert shards.warm(read) == told
    shards.change_unseen("again")
    assert shards.read(read) == told


def test_a_list_changes_on_one_shard(shards: Shards) -> None:
    """A row that comes into a list, and one that leaves it, are heard of on their shard; the other's list stays cached."""
    assert shards.warm(listed_on_all) == ["red", "red", "blue", "blue"]
    with shards.maker() as session:
        session.get_one(Item, 1, identity_token="blue").owner_id = None
        new = Item(id=3, code="new", title="new", owner_id=1)
        instance_state(new).identity_token = "blue"
        session.add(new)
        session.commit()
    shards.change_unseen()
    assert shards.read(listed_on_all) == ["red", "red", UNSEEN, UNSEEN]
    with shards.maker() as session:
        assert [item.id for item in session.get_one(Owner, 1, identity_token="blue").items] == [2, 3]


def test_what_the_session_wrote(shards: Shards) -> None:
    """Within its transaction a session reads what it wrote, from the database, and others what was committed before."""
    assert shards.read(by_bind_arguments) == ["blue", "blue"]
    with shards.maker() as session:
        session.get_one(Item, 2, identity_token="blue").title = "mine"
        session.flush()
        session.expunge_all()
        assert by_bind_arguments(session) == ["blue", "mine"]
        assert listed(session) == ["blue", "mine"]
        assert shards.read(by_bind_arguments) == ["blue", "blue"]


def test_a_refresh(shards: Shards) -> None:
    """What expires at a commit is read again from the cache, in the very object; a refresh that is asked for reads the database."""
    assert shards.read(by_bind_arguments) == ["blue", "blue"]
    with shards.maker() as session:
        item = session.get_one(Item, 1, identity_token="blue")
        session.commit()
        shards.change_unseen()
        assert item.title == "blue"
        session.refresh(item)
        assert item.title == UNSEEN


def test_loads_from_what_was_served_follow_the_shard(shards: Shards) -> None:
    """What ``set_shard_id`` says for loads from an object it says too where that came from the cache."""
    asked = select(Item).where(Item.id == 2)
    for _ in range(2):
        with shards.maker() as session:
            followed = session.scalars(asked.options(set_shard_id("blue"))).one()
            assert [type(option) for option in instance_state(followed).load_options] == [set_shard_id]
            assert followed.owner is not None
            assert instance_state(followed.owner).load_options == instance_state(followed).load_options
            session.expunge_all()
            alone = session.scalars(asked.options(set_shard_id("blue", propagate_to_loaders=False))).one()
            assert instance_state(alone).load_options == ()


def test_an_instance_that_is_there(shards: Shards) -> None:
    """It wins, keeps what it has, and is given what has expired; instances of two shards stand side by side."""
    assert shards.read(on_all) == ["red", "blue"]
    with shards.maker() as session:
        red, blue = session.scalars(ITEMS.where(Item.id == 2))
        assert [instance_state(item).identity_token for item in (red, blue)] == ["red", "blue"]
        session.expire(blue)
        shards.change_unseen()
        assert list(session.scalars(ITEMS.where(Item.id == 2))) == [red, blue]
        assert (red.title, vars(blue)["title"]) == ("red", "blue")
        assert not session.dirty


def test_a_hit_asks_no_database(shards: Shards) -> None:
    """Statements that are all hits send nothing, and check out no connection."""
    for read in (listed_on_all, by_another_key):
        shards.warm(read)
    sent: list[str] = []
    for engine in shards.engines.values():
        event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
        event.listen(engine, "checkout", lambda *_: sent.append("connection"))
    for read in (listed_on_all, by_another_key):
        shards.read(read)
    assert sent == []


@pytest.mark.parametrize("options", [{"stockstore": False}, {"populate_existing": True}], ids=["bypass", "populate"])
def test_options_that_ask_the_database(shards: Shards, options: dict[str, Any]) -> None:
    """They are heeded, whichever shards are asked."""
    assert shards.read(on_all) == ["red", "blue"]
    shards.change_unseen()
    with shards.maker() as session:
        assert [item.title for item in session.scalars(ITEMS.where(Item.id == 2), execution_options=options)] == [UNSEEN, UNSEEN]


def test_a_refresh_of_the_caches(shards: Shards) -> None:
    """``stockstore_refresh`` has each shard's part keep what is there now."""
    for read in (on_all, listed_on_all):
        shards.read(read)
    shards.change_unseen()
    with shards.maker() as session:
        options = {"stockstore_refresh": True}
        assert [item.title for item in session.scalars(ITEMS.where(Item.id == 2), execution_options=options)] == [UNSEEN, UNSEEN]
    shards.change_unseen("again")
    assert shards.read(on_all) == [UNSEEN, UNSEEN]


def test_stores_take_no_such_session(shards: Shards) -> None:
    """An object that a store gave would be of no shard, so that its session could not write it."""
    red = SqlAlchemyStore(engine=shards.engines["red"])
    for store in (shards.store, red, ProcessMemoryStore(), ChainedStore([ProcessMemoryStore(), red])):
        with shards.maker() as session:
            store.get(Item, 1)
            for key in (1, {"code": "red1"}):
                with pytest.raises(ConfigurationError, match="takes no session of horizontal shards"):
                    store.get(Item, key, session=session)
                with pytest.raises(ConfigurationError, match="takes no session of horizontal shards"):
                    store.batch_get(Item, [key, 2], session=session)
            assert not list(session)
    for store in (shards.store, red):
        with shards.maker() as session, pytest.raises(ConfigurationError, match="takes no session of horizontal shards"):
            store.get_all(Item, owner_id=1, session=session)
