"""Stores from URLs."""

import re
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from stockstore import (
    ChainedStore,
    ConfigurationError,
    MemcacheStore,
    NullStore,
    ProcessMemoryStore,
    RedisStore,
    SqlAlchemyStore,
    Store,
    ThreadLocalStore,
    open_store,
)

SCHEMES = "memory, thread, null, redis, rediss, unix, redis+asyncio, rediss+asyncio, unix+asyncio, memcached"
DATABASES = "and the database URLs of SQLAlchemy, such as sqlite:///shop.db"


class User:
    __keys__ = ["id"]

    def __init__(self, id: int, name: str = "") -> None:  # noqa: A002 - the attribute's name
        self.id = id
        self.name = name


class ShelfStore(NullStore):
    """What an entry point gives."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url


def only_tier(url: str) -> Any:
    """Give the one tier of a chain of one URL."""
    (tier,) = open_store(url).tiers
    return tier


def test_urls_give_a_chain_in_their_order(tmp_path: Path) -> None:
    """Each URL is a tier, the first on top."""
    chain = open_store("memory://?maxsize=1000", "redis://h/0?namespace=shop&lifetime=300", f"sqlite:///{tmp_path}/shop.db")
    assert type(chain) is ChainedStore
    assert [type(tier) for tier in chain.tiers] == [ProcessMemoryStore, RedisStore, SqlAlchemyStore]
    assert repr(chain.tiers[0]) == "ProcessMemoryStore(maxsize=1000)"
    assert chain.tiers[1].partition == "shop"
    assert not (tmp_path / "shop.db").exists()


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("memory://", ProcessMemoryStore, "ProcessMemoryStore(maxsize=100000)"),
        ("MEMORY://?maxsize=7", ProcessMemoryStore, "ProcessMemoryStore(maxsize=7)"),
        ("thread://?maxsize=8", ThreadLocalStore, "ThreadLocalStore(maxsize=8)"),
        ("null://", NullStore, "NullStore()"),
        ("redis://", RedisStore, "RedisStore(RedisBackend('localhost:6379'))"),
        ("redis://user:s3cret@cache:6380/2", RedisStore, "RedisStore(RedisBackend('cache:6380'))"),
        ("rediss://:s3cret@cache/2", RedisStore, "RedisStore(RedisBackend('cache:6379'))"),
        ("unix:///run/redis.sock", RedisStore, "RedisStore(RedisBackend('/run/redis.sock'))"),
        ("memcached://one", MemcacheStore, "MemcacheStore(MemcacheBackend(['one:11211']))"),
        ("memcached://one:1,two:2", MemcacheStore, "MemcacheStore(MemcacheBackend(['one:1', 'two:2']))"),
        ("memcached:///run/memcached.sock", MemcacheStore, "MemcacheStore(MemcacheBackend(['/run/memcached.sock']))"),
        ("memcached:///run/my%20cache.sock", MemcacheStore, "MemcacheStore(MemcacheBackend(['/run/my cache.sock']))"),
        ("sqlite:///shop.db", SqlAlchemyStore, "SqlAlchemyStore('sqlite:///shop.db')"),
        ("postgresql+psycopg://user:s3cret@db/shop", SqlAlchemyStore, "SqlAlchemyStore('postgresql+psycopg://user:***@db/shop')"),
    ],
)
def test_every_scheme_gives_its_store(url: str, kind: type[Store], shown: str) -> None:
    """A scheme names the kind of store, and the rest its place; nothing connects and no password shows."""
    tier = only_tier(url)
    assert type(tier) is kind
    assert repr(tier) == shown


@pytest.mark.parametrize("scheme", ["memory", "thread"])
def test_parameters_are_those_of_the_store(scheme: str) -> None:
    """Every option of a local store that a text can give works from a URL."""
    tier = only_tier(f"{scheme}://?maxsize=2&lifetime=0.5&polymorphic=true&namespace=a%20b&jitter=0.25")
    assert (tier._maxsize if scheme == "thread" else tier._spaces.cells.maxsize) == 2
    assert (tier._rule.lifetime, tier._rule.jitter) == (0.5, 0.25)
    assert (tier._polymorphic, tier.partition) == (True, "a b")


@pytest.mark.parametrize("scheme", ["memory", "thread"])
def test_no_lifetime_and_no_bound(scheme: str) -> None:
    """What the constructors take as ``None`` is ``none`` in a URL."""
    tier = only_tier(f"{scheme}://?lifetime=none&max_staleness=none")
    assert (tier._rule.lifetime, tier.max_staleness) == (None, None)


def test_memcacheds_that_join() -> None:
    """A URL can name the list of servers that is used alongside."""
    nodes = only_tier("memcached://one:1,two:2?alongside=one:1,three:3")._backend._nodes.all
    assert [node.pool.server.name for node in nodes] == ["one:1", "two:2", "three:3"]


@pytest.mark.parametrize("server", ["redis://h/0?read_timeout=2.5", "memcached://h?timeout=2.5"])
def test_parameters_of_servers(server: str) -> None:
    """The options of remote stores work from a URL."""
    tier = only_tier(f"{server}&connect_timeout=1.5&on_error=raise&lifetime=60&polymorphic=0&namespace=shop&jitter=0")
    assert (tier._on_error, tier._rule.lifetime, tier._polymorphic, tier.partition) == ("raise", 60.0, False, "shop")


def test_the_database_of_a_redis_by_its_socket() -> None:
    """A socket's URL names the number of the database as a parameter, since its path is the socket's."""
    options = only_tier("unix:///run/redis.sock?db=3&namespace=shop")._backend._client.connection_pool.connection_kwargs
    assert (options["db"], options["path"]) == (3, "/run/redis.sock")


def test_what_is_redis_pys_stays_in_its_url() -> None:
    """The bound of connections, and what TLS needs, are given on to redis-py; a plus stands for itself."""
    url = "rediss://h/2?lifetime=5&max_connections=7&ssl_ca_certs=/etc/my+own ca.pem&ssl_check_hostname=false&namespace=a+b"
    tier = only_tier(url)
    pool = tier._backend._client.connection_pool
    given = {name: pool.connection_kwargs[name] for name in ("db", "ssl_ca_certs", "ssl_check_hostname")}
    assert given == {"db": 2, "ssl_ca_certs": "/etc/my+own ca.pem", "ssl_check_hostname": False}
    assert (pool.max_connections, tier._rule.lifetime, tier.partition) == (7, 5.0, "a+b")


def test_a_channel_on_postgresql_by_its_driver() -> None:
    """The URL of a channel may name the driver, whose plus is no space."""
    (memory,) = open_store("memory://?channel=postgresql+psycopg://ann:s3cret@h/shop").tiers
    assert isinstance(memory, ProcessMemoryStore)
    assert repr(memory.channel) == "PostgresChannel('postgresql+psycopg://ann:***@h/shop')"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", True), ("TRUE", True), ("yes", True), ("on", True), ("0", False), ("False", False), ("no", False), ("off", False)],
)
def test_truth_has_these_words(text: str, expected: bool) -> None:
    """A yes or no may be said in these ways, in either case."""
    store = open_store(f"memory://?copy={text}")
    user = User(1)
    store.put(user)
    assert (store.get(User, 1) is not user) is expected


@pytest.mark.parametrize(
    ("text", "channel", "finds"), [("auto", False, True), ("none", False, False), ("redis%3A%2F%2Fh%2F0", True, False)]
)
def test_channels(text: str, channel: bool, finds: bool) -> None:
    """A memory's channel is part of its URL, and so is its bound."""
    (memory,) = open_store(f"memory://?channel={text}&max_staleness=0.5").tiers
    assert isinstance(memory, ProcessMemoryStore)
    assert (memory.channel is not None, memory.finds_channel, memory.max_staleness) == (channel, finds, 0.5)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "mongo://u:s3cret@h/x?password=s3cret",
            f"no store has the scheme 'mongo' of 'mongo://***@h/x?password=***'; there are {SCHEMES}, {DATABASES}",
        ),
        (
            "postgresql+nope://h/shop",
            f"no store has the scheme 'postgresql+nope' of 'postgresql+nope://h/shop'; there are {SCHEMES}, {DATABASES}",
        ),
        ("memory", f"no store has the scheme '' of 'memory'; there are {SCHEMES}, {DATABASES}"),
        ("", f"no store has the scheme '' of ''; there are {SCHEMES}, {DATABASES}"),
        (
            "memory://?size=3",
            "memory:// has no parameter 'size'; it has maxsize, lifetime, polymorphic, namespace, jitter, max_staleness, copy, channel",
        ),
        ("thread://?copy=1", "thread:// has no parameter 'copy'; it has maxsize, lifetime, polymorphic, namespace, jitter, max_staleness"),
        ("null://?namespace=a", "null:// has no parameter 'namespace'; it has none"),
        (
            "redis://h?db=1",
            "redis:// has no parameter 'db'; it has lifetime, polymorphic, namespace, jitter, on_error, connect_timeout, read_timeout",
        ),
        (
            "memcached://h?maxsize=1",
            "memcached:// has no parameter 'maxsize'; it has lifetime, polymorphic, namespace, jitter, on_error, connect_timeout, timeout, alongside",
        ),
        (
            "sqlite:///shop.db?maxsize=1",
            "sqlite:// has no parameter 'maxsize', which is one of caches; a database URL takes those of its driver",
        ),
        ("postgresql+psycopg://u:s3cret@h/d?password=s3cret&lifetime=1", "postgresql+psycopg:// has no parameter 'lifetime', which is one"),
        ("memory://?maxsize=many", "the parameter maxsize='many' of memory:// does not fit: invalid literal for int()"),
        ("memory://?maxsize", "the parameter maxsize='' of memory:// does not fit: invalid literal for int()"),
        ("memory://?maxsize=1&maxsize=2", "the parameter 'maxsize' of memory:// is given twice"),
        ("memory://?maxsize=0", "maxsize is a number of objects from 1, not 0"),
        ("memory://?jitter=2", "jitter is a fraction from 0 to below 1, not 2.0"),
        ("memory://?namespace=", "a namespace is a text that is not empty, or a callable that gives one, not ''"),
        ("memory://maxsize=5", "memory:// has no host and no path, but 'maxsize=5'; parameters follow a '?'"),
        ("thread:///x", "thread:// has no host and no path, but '/x'; parameters follow a '?'"),
        ("redis://h?lifetime=soon", "the parameter lifetime='soon' of redis:// does not fit: could not convert string to float: 'soon'"),
        (
            "redis://h?polymorphic=maybe",
            "the parameter polymorphic='maybe' of redis:// does not fit: 'maybe' is neither ('1', 'true', 'yes', 'on') nor",
        ),
        ("redis://h?on_error=maybe", "on_error is 'raise' or 'miss', not 'maybe'"),
        ("redis://:s3cret@h:99999/0", "'redis://***@h:99999/0' is no Redis URL that can be used"),
        ("memcached://", "'' is no memcached server; write"),
        ("memcached://h:port", "'h:***' is no memcached server; write"),
        ("memcached://h1,u:s3cret@h2:11211", "'***@h2:11211' is no memcached server; write"),
        ("memory://u:s3cret@h", "memory:// has no host and no path, but '***@h'; parameters follow a '?'"),
        ("memcached://h/run/x.sock", "memcached:// takes servers or the path of a socket, not both 'h' and '/run/x.sock'"),
        ("redis://[::1", "a store URL does not fit: Invalid IPv6 URL"),
        ("postgresql+psycopg://u:s3cret@h:port/shop", "the database URL 'postgresql+psycopg://***@h:***' does not fit; it is like "),
        ("postgresql+psycopg://u:s3cret", "the database URL 'postgresql+psycopg://u:***' does not fit; it is like "),
        ("redis://:s3cret", "'redis://:***' is no Redis URL that can be used"),
        ("redis://u:s3?cret=s3cret@h/0", "the store URL 'redis://***' does not fit; in a password or a value, '?' is written as %3F, "),
        ("redis://u:s3cret/s3cret@h/0", "the store URL 'redis://***@h/0' does not fit; in a password or a value, '?' is written as %3F, "),
        ("redis://s3?s3cret@h/0", "redis:// has no parameter '***@h/0'; it has"),
        ("redis://s3?lifetime=s3cret@h/0", "the parameter lifetime='***@h/0' of redis:// does not fit"),
        ("redis://:1#s3cret@h/0", "the store URL 'redis://***' does not fit; in a password or a value, '?' is written as %3F, '#' as %23"),
        ("memory://?namespace=a#b", "the store URL 'memory://?namespace=a' does not fit; in a password or a value, '?' is written as %3F"),
        ("memcached://u:s3cret/x", "memcached:// takes servers or the path of a socket, not both 'u:***' and '/x'"),
        ("memory://?lifetime=nan", "the parameter lifetime='nan' of memory:// does not fit: it is no number"),
        ("redis://h?ssl_ca_certs=/ca.pem", "redis:// has no parameter 'ssl_ca_certs'; it has lifetime, "),
        ("rediss://:s3cret@h?ssl_cert_reqs=maybe", "'rediss://***@h?ssl_cert_reqs=maybe' is no Redis URL that can be used"),
        ("unix://u:s3cret@run/redis.sock", "'unix://***@run/redis.sock' has a host, and a socket has a path alone; write redis://"),
    ],
)
def test_a_url_that_does_not_fit_is_refused(url: str, message: str) -> None:
    """An unknown scheme or parameter, and a value that does not fit, are ConfigurationError that shows what exists, and no password."""
    with pytest.raises(ConfigurationError, match="^" + re.escape(message)) as caught:
        open_store("memory://", url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("thing", [None, 1, b"memory://", ["memory://"]])
def test_what_is_no_text_is_refused(thing: Any) -> None:
    """An argument that is no text is ConfigurationError showing it."""
    with pytest.raises(ConfigurationError, match=re.escape(f"a store URL is a text like 'redis://localhost/0', not {thing!r}")):
        open_store(thing)


def test_no_url_is_refused() -> None:
    """A chain without tiers is ConfigurationError, which is a ValueError too."""
    with pytest.raises(ValueError, match="a chain needs at least one store") as caught:
        open_store()
    assert type(caught.value) is ConfigurationError


# -- entry points -----------------------------------------------------------------------------------


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function of names and targets that installs entry points."""

    def install(**targets: str) -> None:
        points = [EntryPoint(name, target, "stockstore.stores") for name, target in targets.items()]
        monkeypatch.setattr("stockstore.urls.entry_points", lambda *, group: [point for point in points if point.group == group])

    return install


def gives_no_store(url: str) -> object:
    """Stand for an entry point that is broken."""
    return url


def test_an_entry_point_adds_a_scheme(install: Callable[..., None]) -> None:
    """The callable that an entry point names is given the whole URL, and its store is the tier."""
    install(shelf=f"{__name__}:ShelfStore", other=f"{__name__}:gives_no_store")
    tier = only_tier("shelf://path?x=1")
    assert type(tier).__name__ == "ShelfStore"
    assert tier.url == "shelf://path?x=1"


def test_an_entry_point_with_capitals_adds_a_scheme(install: Callable[..., None]) -> None:
    """Schemes know no capitals, and a URL reaches it however either is written."""
    install(Shelf=f"{__name__}:ShelfStore")
    assert [type(only_tier(url)).__name__ for url in ("shelf://path", "Shelf://path")] == ["ShelfStore"] * 2


def test_an_entry_point_does_not_replace_a_scheme(install: Callable[..., None]) -> None:
    """Our own schemes stay ours."""
    install(memory=f"{__name__}:ShelfStore")
    assert type(only_tier("memory://")) is ProcessMemoryStore


def test_an_entry_point_that_gives_no_store_is_refused(install: Callable[..., None]) -> None:
    """What is no store is ConfigurationError naming the entry point."""
    install(broken=f"{__name__}:gives_no_store")
    message = "the entry point 'broken' of group 'stockstore.stores' gave 'broken://', which is no store"
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        open_store("broken://")


@pytest.mark.parametrize("target", ["nowhere_to_be_found:open_it", f"{__name__}:open_nothing"])
def test_an_entry_point_that_leads_nowhere_is_refused(install: Callable[..., None], target: str) -> None:
    """A module or a name that is not there is ConfigurationError naming the entry point."""
    install(broken=target)
    with pytest.raises(
        ConfigurationError, match=f"^the entry point 'broken' of group 'stockstore.stores' names {target}, which is not there: "
    ):
        open_store("broken://")


def test_an_unknown_scheme_lists_those_of_entry_points(install: Callable[..., None]) -> None:
    """The message of an unknown scheme names the added ones too."""
    install(shelf=f"{__name__}:ShelfStore")
    with pytest.raises(ConfigurationError, match=re.escape(f"'mongo' of 'mongo://'; there are {SCHEMES}, shelf, {DATABASES}")):
        open_store("mongo://")


# -- on servers ---------------------------------------------------------------------------------------


def test_a_chain_from_urls_works_on_servers(redis_url: str, memcached_address: str, namespace: str) -> None:
    """A chain of every sort of cache tier holds an object in each of them."""
    chain = open_store(
        "thread://", "memory://", f"{redis_url}?namespace={namespace}&lifetime=60", f"memcached://{memcached_address}?namespace={namespace}"
    )
    with chain:
        chain.put(User(1, "Ann"))
        assert chain.tiers[0].get(User, 1) is None  # a thread's own write ends what it has read
        assert chain.get(User, 1) == chain.tiers[1].get(User, 1)
        found = [tier.get(User, 1) for tier in chain.tiers]
        assert [user and user.name for user in found] == ["Ann"] * 4
        assert chain.delete(User, 1)
        assert [tier.get(User, 1) for tier in chain.tiers] == [None] * 4
