"""Several memcacheds below a chain: a node that is down or comes back, and lists of them that change while others go by the old one."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import Engine, create_engine, update
from sqlalchemy.orm import Session, sessionmaker

from stockstore import CacheUnreachable, ChainedStore, MemcacheStore, SqlAlchemyStore, Store
from stockstore.backends import MemcacheBackend
from stockstore.errors import ConfigurationError
from stockstore.evidence import Outbox
from stockstore_ext.sqlalchemy import SessionSync
from tests.backends.memcache_relay import cut, relay_to
from tests.patience import SHORT
from tests.servers.memcached import MemcachedServer
from tests.servers.server import wait_until
from tests.stores.owed import be_told
from tests.stores.shop import Customer, create_tables

pytestmark = pytest.mark.sa_agnostic

IDS = list(range(1, 61))
"""So many that none of three servers, whose ports differ from run to run, is without any."""


@pytest.fixture(autouse=True)
def _retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is owed to a node is tried at every read, not once a second."""
    monkeypatch.setattr("stockstore.coherence.recovery.RETRY_SECONDS", 0.0)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    """A database with the outbox, so that markers have evidence."""
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    create_tables(engine)
    Outbox().create(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def servers(memcached_cluster: Callable[[int], list[MemcachedServer]]) -> list[MemcachedServer]:
    """Three servers to hurt."""
    return memcached_cluster(3)


def cache_on(servers: list[MemcachedServer], others: list[MemcachedServer] | None = None) -> MemcacheStore:
    """Give a store on servers, impatient."""
    alongside = None if others is None else [server.address for server in others]
    return MemcacheStore([server.address for server in servers], alongside=alongside, connect_timeout=SHORT, timeout=SHORT)


def homes(cache: MemcacheStore) -> dict[int, str]:
    """Give the servers of the customers."""
    backend = cache.backend
    assert isinstance(backend, MemcacheBackend)
    texts = [f"stockstore:tests.stores.shop.Customer:id:i{key}" for key in IDS]
    return {key: backend._nodes.listed[at].pool.server.name for key, at in zip(IDS, backend._nodes.route(texts), strict=True)}


def generation_home(cache: MemcacheStore) -> str:
    """Give the server of the class's generation."""
    backend = cache.backend
    assert isinstance(backend, MemcacheBackend)
    return backend._nodes.listed[backend._nodes.route(["stockstore:tests.stores.shop.Customer:"])[0]].pool.server.name


def names(store: Store, keys: list[int]) -> list[str | None]:
    """Give the names of customers."""
    return [None if row is None else row.name for row in store.batch_get(Customer, keys)]


def change_unseen(engine: Engine, name: str) -> None:
    """Write past every cache."""
    with engine.begin() as connection:
        connection.execute(update(Customer).values(name=name))


def comes_to_be_cached(chain: ChainedStore, engine: Engine, key: int) -> bool:
    """Whether what is read stays as it is when it is written past every cache; the old value is not read in any case."""
    known = names(chain, [key])
    assert known != ["old"]
    change_unseen(engine, f"past {known[0]}")
    return names(chain, [key]) == known


class Nodes(NamedTuple):
    """A chain on three servers, and the customers' keys: of one server that may be hurt, and of the two others."""

    chain: ChainedStore
    cache: MemcacheStore
    hurt: MemcachedServer
    lost: list[int]
    kept: list[int]


@pytest.fixture
def nodes(servers: list[MemcachedServer], database: Engine) -> Iterator[Nodes]:
    """Every customer is cached, and read from there; the generation of the class is on a server that stays up."""
    cache = cache_on(servers)
    hurt = next(server for server in servers if server.address != generation_home(cache))
    lost = [key for key, home in homes(cache).items() if home == hurt.address]
    with ChainedStore([cache, SqlAlchemyStore(engine=database)]) as chain:
        chain.batch_put([Customer(id=key, email=str(key), name="old") for key in IDS])
        change_unseen(database, "unseen")
        assert names(chain, IDS) == ["old"] * len(IDS)
        yield Nodes(chain, cache, hurt, lost, [key for key in IDS if key not in lost])


def test_a_node_that_is_down_is_a_miss(nodes: Nodes) -> None:
    """Its keys are read from the database, in one batch with those that the other nodes have, and move to no other node."""
    nodes.hurt.stop()
    for _ in range(3):
        found = dict(zip(IDS, names(nodes.chain, IDS), strict=True))
        assert {found[key] for key in nodes.lost} == {"unseen"}
        assert {found[key] for key in nodes.kept} == {"old"}
    assert {name is None for name in names(nodes.cache, nodes.lost)} == {True}
    assert set(names(nodes.cache, nodes.kept)) == {"old"}
    bypasses = nodes.cache.stats().bypasses
    assert bypasses["unreachable"] == 3 * len(nodes.lost)
    nodes.hurt.start()
    names(nodes.chain, IDS)
    assert set(names(nodes.cache, nodes.lost)) == {"unseen"}


@pytest.mark.parametrize("how", ["freeze", "restart"])
def test_a_node_that_comes_back_with_old_data(nodes: Nodes, database: Engine, how: str) -> None:
    """A write that it was not told of goes on; its old value is not read when it is back, and what others keep is untouched."""
    key = nodes.lost[0]
    (nodes.hurt.freeze if how == "freeze" else nodes.hurt.stop)()
    nodes.chain.put(Customer(id=key, email=str(key), name="new"))
    assert names(nodes.chain, [key]) == ["new"]
    (nodes.hurt.thaw if how == "freeze" else nodes.hurt.start)()
    assert names(nodes.chain, [key]) == ["new"]
    # A node that froze may find there still what it was sent meanwhile: marks, and what takes values away.
    wait_until(lambda: comes_to_be_cached(nodes.chain, database, key), "a value that stays")
    change_unseen(database, "again")
    assert names(nodes.chain, nodes.kept) == ["old"] * len(nodes.kept)
    assert names(nodes.chain, nodes.lost[1:]) == (["old"] if how == "freeze" else ["again"]) * len(nodes.lost[1:])


def test_a_network_that_was_cut(servers: list[MemcachedServer], database: Engine) -> None:
    """As a node that froze: it kept its values, and the one that was written meanwhile is gone before it is read."""
    with relay_to(servers[0].address) as relay, contextlib.ExitStack() as stack:
        cache = MemcacheStore([relay.address, servers[1].address])
        chain = stack.enter_context(ChainedStore([cache, SqlAlchemyStore(engine=database)]))
        chain.batch_put([Customer(id=key, email=str(key), name="old") for key in IDS])
        key = next(key for key, home in homes(cache).items() if home == relay.address)
        change_unseen(database, "unseen")
        assert names(chain, IDS) == ["old"] * len(IDS)
        relay.before = Cut()
        chain.put(Customer(id=key, email=str(key), name="new"))
        assert names(chain, [key]) == ["new"]
        relay.before = {}
        be_told(cache)
        assert names(chain, [key]) == ["new"]
        change_unseen(database, "again")
        assert names(chain, [key]) == ["new"]


class Cut(dict[int, Callable[[], object]]):
    """Has every request cut its connection."""

    def pop(self, *_args: object) -> Callable[[], object]:
        """Give what cuts."""
        return cut


def test_a_commit_that_cannot_be_marked_is_aborted_where_that_was_chosen(
    nodes: Nodes, servers: list[MemcachedServer], database: Engine
) -> None:
    """``on_unreachable="abort"`` raises before the commit where a key is on the node, and says nothing where it is on another."""
    maker: sessionmaker[Session] = sessionmaker(database, class_=type("Watched", (Session,), {}))
    sync = SessionSync(nodes.chain, on_unreachable="abort").attach(maker)
    try:
        nodes.hurt.stop()
        with maker() as session:
            session.get_one(Customer, nodes.lost[0]).name = "refused"
            with pytest.raises(CacheUnreachable, match=nodes.hurt.address):
                session.commit()
        with maker() as session:
            session.get_one(Customer, nodes.kept[0]).name = "new"
            session.commit()
        # This process is owed the class until the node is back; another one reads what the other nodes have.
        assert names(nodes.chain, [nodes.lost[0], nodes.kept[0]]) == ["unseen", "new"]
        with ChainedStore([cache_on(servers), SqlAlchemyStore(engine=database)]) as other:
            assert names(other, [nodes.lost[0], nodes.kept[0], nodes.kept[1]]) == ["unseen", "new", "old"]
    finally:
        sync.detach()


# -- lists that change --------------------------------------------------------------------------


def test_a_new_node_takes_its_share(memcached_cluster: Callable[[int], list[MemcachedServer]]) -> None:
    """Of a thousand keys a fourth node takes a quarter, and the others stay where they were."""
    four = memcached_cluster(4)
    backends = [MemcacheBackend([server.address for server in part]) for part in (four[:3], four)]
    texts = [f"n:C:id:i{number}" for number in range(1000)]
    old, new = ([backend._nodes.listed[at].pool.server.name for at in backend._nodes.route(texts)] for backend in backends)
    moved = [after for before, after in zip(old, new, strict=True) if before != after]
    assert set(moved) == {four[3].address}
    assert 180 < len(moved) < 320
    for backend in backends:
        backend.close()


def steps(old: list[MemcachedServer], new: list[MemcachedServer]) -> list[MemcacheStore]:
    """Give the stores of the releases by which a list is changed."""
    return [cache_on(old), cache_on(old, new), cache_on(new, old), cache_on(new)]


@pytest.mark.parametrize("change", ["one joins", "one leaves", "another one"])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_two_releases_at_once(servers: list[MemcachedServer], database: Engine, change: str, step: int) -> None:
    """Processes before a step and after it write in turn: each reads at once what the other has written, from its caches."""
    old, new = {
        "one joins": (servers[:2], servers),
        "one leaves": (servers, servers[:2]),
        "another one": (servers[:2], servers[1:]),
    }[change]
    caches = steps(old, new)[step : step + 2]
    with contextlib.ExitStack() as stack:
        before, after = (stack.enter_context(ChainedStore([cache, SqlAlchemyStore(engine=database)])) for cache in caches)
        before.batch_put([Customer(id=key, email=str(key), name="first") for key in IDS])
        for number, (writer, reader) in enumerate([(before, after), (after, before)] * 2):
            for chain in (before, after):
                known = names(chain, IDS)
                change_unseen(database, "unseen")
                # One after the other: a class whose generation moves is read anew where the other release has read it.
                assert names(chain, IDS) == known != ["unseen"] * len(IDS)
                change_unseen(database, "seen")
            writer.batch_put([Customer(id=key, email=str(key), name=f"name {number}") for key in IDS])
            assert names(reader, IDS) == [f"name {number}"] * len(IDS)
            assert names(writer, IDS) == [f"name {number}"] * len(IDS)
        assert before.batch_delete(Customer, IDS[:12]) == 12
        assert names(after, IDS) == [None] * 12 + ["name 3"] * (len(IDS) - 12)
        after.clear()
        change_unseen(database, "cleared")
        assert names(before, IDS) == [None] * 12 + ["cleared"] * (len(IDS) - 12)


def test_two_lists_at_once_are_seen_to_be_stale(servers: list[MemcachedServer], database: Engine) -> None:
    """Without the steps between, one process does not hear of the other's writes: so the test above can see it."""
    with contextlib.ExitStack() as stack:
        caches = (cache_on(servers[:2]), cache_on(servers))
        before, after = (stack.enter_context(ChainedStore([cache, SqlAlchemyStore(engine=database)])) for cache in caches)
        before.batch_put([Customer(id=key, email=str(key), name="first") for key in IDS])
        names(after, IDS)
        before.batch_put([Customer(id=key, email=str(key), name="second") for key in IDS])
        assert "first" in names(after, IDS)


def test_the_other_list_is_told_where_one_of_our_own_is_down(servers: list[MemcachedServer], database: Engine) -> None:
    """A node of the new list is marked and invalidated although the key's node of the old list does not answer, and the other way round."""
    for down, up in ((0, 2), (2, 0)):
        caches = [cache_on([servers[down]], [servers[up]]), cache_on([servers[up]])]
        with contextlib.ExitStack() as stack:
            writer, reader = (stack.enter_context(ChainedStore([cache, SqlAlchemyStore(engine=database)])) for cache in caches)
            writer.put(Customer(id=1, email="1", name="old"))
            assert names(reader, [1]) == ["old"]
            change_unseen(database, "unseen")
            assert names(reader, [1]) == ["old"]
            servers[down].freeze()
            writer.put(Customer(id=1, email="1", name="new"))
            assert names(reader, [1]) == ["new"]
            servers[down].thaw()
            wait_until(lambda: names(writer, [1]) == names(caches[0], [1]) == ["new"], "the node to be told")  # noqa: B023 - at once


def test_objects_without_a_database(servers: list[MemcachedServer]) -> None:
    """What one release puts the other does not read in an older form: it may have to do without."""
    before, after = steps(servers[:2], servers)[1:3]
    with before, after:
        for writer, reader in ((before, after), (after, before)):
            for name in ("one", "two"):
                writer.batch_put([Customer(id=key, email=str(key), name=name) for key in IDS])
                assert set(names(writer, IDS)) == {name}
                assert set(names(reader, IDS)) <= {name, None}
        assert after.batch_delete(Customer, IDS) == len(IDS)
        assert set(names(before, IDS)) == {None}


def test_a_list_that_does_not_fit(servers: list[MemcachedServer]) -> None:
    """The other list is read as the first one is."""
    with pytest.raises(ConfigurationError, match="is listed twice"):
        MemcacheStore(servers[0].address, alongside=[servers[1].address] * 2)
