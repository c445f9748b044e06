"""Stores from URLs, for settings files and command lines."""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from math import isnan
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from stockstore.errors import ConfigurationError
from stockstore.redacting import redacted
from stockstore.stores.base import Store
from stockstore.stores.chained import ChainedStore

GROUP: Final = "stockstore.stores"
"""The entry-point group that adds schemes: each names a callable that takes the URL and gives a store."""

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def open_store(*urls: str) -> ChainedStore:
    """Give the chain of the stores that URLs name, the fastest first; opens no connection.

    ``memory://?maxsize=1000&channel=none``, ``thread://``, ``null://``, ``redis://host/0?namespace=shop&lifetime=300``,
    ``rediss://``, ``unix:///path/to/redis.sock?db=1``, each of these three also for asyncio, as ``redis+asyncio://``, ``memcached://host1:11211,host2:11211``,
    ``memcached:///path/to/memcached.sock``, and every database URL of SQLAlchemy. The parameters of a cache
    are those of its store's constructor, for Redis also redis-py's ``max_connections`` and, with ``rediss``, the names of TLS
    such as ``ssl_ca_certs``; a database URL's belong to its driver.

    Raises:
        ConfigurationError: There is no URL, or one has an unknown scheme or parameter; the message lists what exists.

    >>> open_store("memory://?maxsize=1000", "null://")
    ChainedStore([ProcessMemoryStore(maxsize=1000), NullStore()])
    """
    return ChainedStore([_open(url) for url in urls])


def _open(url: str) -> Store:
    if not isinstance(url, str):
        raise ConfigurationError(f"a store URL is a text like 'redis://localhost/0', not {url!r}")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(f"a store URL does not fit: {error}") from None
    if parts.scheme in _SCHEMES:
        _refuse_cut(url, parts)
        return _SCHEMES[parts.scheme](parts)
    for point in entry_points(group=GROUP):
        if point.name.lower() == parts.scheme:
            return _checked(_loaded(point)(url), parts.scheme)
    return _database(url, parts.scheme)


def _refuse_cut(url: str, parts: SplitResult) -> None:
    """Refuse a URL that a password, or a value, parts elsewhere than its author has thought."""
    if parts.fragment or ("@" in parts.path + parts.query and redacted(parts.netloc) != parts.netloc):
        raise ConfigurationError(
            f"the store URL {redacted(url)!r} does not fit; in a password or a value, '?' is written as %3F, '#' as %23, '/' as %2F, '@' as %40"
        )


def _loaded(point: EntryPoint) -> Callable[[str], object]:
    try:
        opener: Callable[[str], object] = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"the entry point {point.name!r} of group {GROUP!r} names {point.value}, which is not there: {error}"
        ) from error
    return opener


def _checked(store: object, scheme: str) -> Store:
    if not isinstance(store, Store):
        raise ConfigurationError(f"the entry point {scheme!r} of group {GROUP!r} gave {store!r}, which is no store")
    return store


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise ValueError(f"{text!r} is neither {_TRUE} nor {_FALSE}")
    return text.lower() in _TRUE


def _number(text: str) -> float | None:
    if text == "none":
        return None
    if isnan(number := float(text)):
        raise ValueError("it is no number")
    return number


_COMMON: Final[Mapping[str, Callable[[str], object]]] = {"lifetime": _number, "polymorphic": _boolean, "namespace": str, "jitter": float}
_LOCAL: Final[Mapping[str, Callable[[str], object]]] = {"maxsize": int, **_COMMON, "max_staleness": _number}
_REMOTE: Final[Mapping[str, Callable[[str], object]]] = {**_COMMON, "on_error": str, "connect_timeout": float}
_TLS: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")


# Option values go to constructors that check them, so their types are known there.
def _options(parts: SplitResult, known: Mapping[str, Callable[[str], object]]) -> dict[str, Any]:
    options: dict[str, object] = {}
    # A plus stands for itself, as in the URL of a channel.
    for name, text in parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True):
        if name not in known:
            raise ConfigurationError(f"{parts.scheme}:// has no parameter {redacted(name)!r}; it has {', '.join(known) or 'none'}")
        if name in options:
            raise ConfigurationError(f"the parameter {name!r} of {parts.scheme}:// is given twice")
        try:
            options[name] = known[name](text)
        except ValueError as error:
            shown = redacted(text)
            why = f": {error}" if shown == text else ""
            raise ConfigurationError(f"the parameter {name}={shown!r} of {parts.scheme}:// does not fit{why}") from None
    return options


def _store(module: str, name: str) -> Callable[..., Store]:
    """Import a store, and so its driver, at its first use."""
    store: Callable[..., Store] = getattr(import_module(f"stockstore.stores.{module}"), name)
    return store


def _local_options(parts: SplitResult, known: Mapping[str, Callable[[str], object]]) -> dict[str, Any]:
    if parts.netloc or parts.path:
        given = redacted(parts.netloc + parts.path)
        raise ConfigurationError(f"{parts.scheme}:// has no host and no path, but {given!r}; parameters follow a '?'")
    return _options(parts, known)


def _memory(parts: SplitResult) -> Store:
    return _store("memory", "ProcessMemoryStore")(**_local_options(parts, {**_LOCAL, "copy": _boolean, "channel": _channel}))


def _channel(text: str) -> str | None:
    return None if text == "none" else text


def _thread(parts: SplitResult) -> Store:
    return _store("threadlocal", "ThreadLocalStore")(**_local_options(parts, _LOCAL))


def _null(parts: SplitResult) -> Store:
    return _store("null", "NullStore")(**_local_options(parts, {}))


def _redis(parts: SplitResult) -> Store:
    kinds = _of_redis_py(parts.scheme)
    options = _options(parts, {**_REMOTE, "read_timeout": float, **kinds})
    driver = {name: options.pop(name) for name in kinds if name in options}
    query = f"?{urlencode(driver)}" if driver else ""
    return _store("redis", "RedisStore")(f"{parts.scheme}://{parts.netloc}{parts.path}{query}", **options)


def _of_redis_py(scheme: str) -> Mapping[str, Callable[[str], object]]:
    """Give the parameters that stay in the URL."""
    if scheme.startswith("unix"):  # whose path leaves no place for the number of the database
        return {"max_connections": int, "db": int}
    return {"max_connections": int, **(dict.fromkeys(_TLS, str) if scheme.startswith("rediss") else {})}


def _memcached(parts: SplitResult) -> Store:
    if parts.netloc and parts.path:
        raise ConfigurationError(
            f"memcached:// takes servers or the path of a socket, not both {redacted(parts.netloc)!r} and {parts.path!r}"
        )
    servers = _servers(parts.netloc) or [unquote(parts.path)]
    return _store("memcache", "MemcacheStore")(servers, **_options(parts, {**_REMOTE, "timeout": float, "alongside": _servers}))


def _servers(text: str) -> list[str]:
    return [server for server in text.split(",") if server]


def _database(url: str, scheme: str) -> Store:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(url).get_backend_name()
        make_url(url).get_dialect()
    except (ArgumentError, NoSuchModuleError):
        known = [*_SCHEMES, *(point.name for point in entry_points(group=GROUP)), "and the database URLs of SQLAlchemy"]
        raise ConfigurationError(
            f"no store has the scheme {scheme!r} of {redacted(url)!r}; there are {', '.join(known)}, such as sqlite:///shop.db"
        ) from None
    except (ModuleNotFoundError, ValueError):
        pass  # the store's own message tells what to install, or what does not fit
    _refuse_of_caches(url, scheme)
    return _store("sqlalchemy", "SqlAlchemyStore")(url)


def _refuse_of_caches(url: str, scheme: str) -> None:
    """Refuse what only caches have: some drivers pass over options that they do not know."""
    for name, _ in parse_qsl(url.partition("?")[2]):
        if name in _LOCAL or name in ("copy", "channel", "on_error"):
            raise ConfigurationError(
                f"{scheme}:// has no parameter {name!r}, which is one of caches; a database URL takes those of its driver"
            )


_SCHEMES: Final[Mapping[str, Callable[[SplitResult], Store]]] = {
    "memory": _memory,
    "thread": _thread,
    "null": _null,
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "redis+asyncio": _redis,
    "rediss+asyncio": _redis,
    "unix+asyncio": _redis,
    "memcached": _memcached,
}
