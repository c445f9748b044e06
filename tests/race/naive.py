"""The ways that are in use elsewhere: a cache that is written after the commit, and filled by whoever has missed."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from tests.race.failpoints import Failpoints
from tests.race.log import Log
from tests.race.models import Seen

_SECONDS = 3600
T = TypeVar("T")


class Driver(Protocol):
    """A cache server's own verbs."""

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give what is there."""

    def set_many(self, values: Mapping[str, bytes]) -> None:
        """SET, each."""

    def delete_many(self, keys: Sequence[str]) -> None:
        """DEL."""


class RedisDriver:
    """By redis-py."""

    def __init__(self, url: str) -> None:
        """Connect at the first use."""
        from redis import Redis

        self._client: Any = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """MGET."""
        return {key: value for key, value in zip(keys, self._client.mget(keys), strict=True) if value is not None}

    def set_many(self, values: Mapping[str, bytes]) -> None:
        """SET, each, in one pipeline."""
        with self._client.pipeline(transaction=False) as pipeline:
            for key, value in values.items():
                pipeline.set(key, value, ex=_SECONDS)
            pipeline.execute()

    def delete_many(self, keys: Sequence[str]) -> None:
        """DEL."""
        self._client.delete(*keys)


class MemcachedDriver:
    """By pymemcache."""

    def __init__(self, url: str) -> None:
        """Connect at the first use."""
        from pymemcache import HashClient

        servers = urlsplit(url).netloc.split(",")
        self._client: Any = HashClient(servers, timeout=5, connect_timeout=5, use_pooling=True)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Get."""
        found: dict[str, bytes] = self._client.get_many(keys)
        return found

    def set_many(self, values: Mapping[str, bytes]) -> None:
        """Set, acknowledged."""
        for key, value in values.items():
            self._client.set(key, value, expire=_SECONDS, noreply=False)

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete, acknowledged."""
        for key in keys:
            self._client.delete(key, noreply=False)


class NaiveAccess:
    """Reads through a cache, and after a commit puts what was committed, or deletes what may be old."""

    memory = None

    def __init__(
        self,
        driver: Driver,
        engine: Engine,
        item: Any,
        sessions: Callable[[], Session],
        namespace: str,
        points: Failpoints,
        log: Log,
        *,
        puts: bool,
    ) -> None:
        """Work on one engine and one server."""
        self._driver, self._engine, self.item, self.sessions = driver, engine, item, sessions
        self._namespace, self._points, self._log, self._puts = namespace, points, log, puts

    def read(self, by: str, values: Sequence[Any], *, strict: bool = False) -> list[Seen | None]:
        """Give the rows of ids or slugs."""
        keys = [self._key(by, value) for value in values]
        found = self._found(keys)
        missing = [value for key, value in zip(keys, values, strict=True) if key not in found]
        self._log.count("hits", len(found))
        if missing:
            self._log.count("misses", len(missing))
            found.update(self._loaded(by, missing))
        return [found.get(key) for key in keys]

    def _loaded(self, by: str, values: Sequence[Any]) -> dict[str, Seen]:
        column = getattr(self.item, by)
        with Session(self._engine) as session:
            rows = [seen_of(row) for row in session.scalars(select(self.item).where(column.in_(values)))]
        found = {self._key(by, getattr(row, by)): row for row in rows}
        self._points.reach("before fill")
        quietly(lambda: self._driver.set_many({key: json.dumps(row).encode() for key, row in found.items()}))
        self._log.count("fills", len(found))
        return found

    def run(self, step: Callable[[], None]) -> None:
        """Do a step of a reader or writer."""
        step()

    def committed(self, rows: Sequence[Seen], gone: Sequence[tuple[int, str]]) -> None:
        """Tell the cache of a commit."""
        cells = {key: json.dumps(row).encode() for row in rows for key in (self._key("id", row.id), self._key("slug", row.slug))}
        old = [key for number, slug in gone for key in (self._key("id", number), self._key("slug", slug))]
        if self._puts and cells:
            quietly(lambda: self._driver.set_many(cells))
        if stale := old if self._puts else [*old, *cells]:
            quietly(lambda: self._driver.delete_many(stale))

    def put(self, row: Any) -> None:
        """There is no such verb."""
        raise NotImplementedError

    def delete(self, number: int) -> None:
        """There is no such verb."""
        raise NotImplementedError

    def cached(self, by: str, values: Sequence[Any]) -> list[Seen | None]:
        """Give what the cache alone holds."""
        keys = [self._key(by, value) for value in values]
        found = self._found(keys)
        return [found.get(key) for key in keys]

    def _found(self, keys: Sequence[str]) -> dict[str, Seen]:
        cells = quietly(lambda: self._driver.get_many(keys)) or {}
        return {key: Seen(*json.loads(cell)) for key, cell in cells.items()}

    def markers(self, numbers: Sequence[int]) -> int:
        """Count the markers left: it has none."""
        return 0

    def guarantee(self) -> str:
        """Tell what is promised."""
        return "nothing"

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _key(self, by: str, value: object) -> str:
        return f"{self._namespace}:{by}:{value}"


def quietly(call: Callable[[], T]) -> T | None:
    """Do what may fail as those do who take a cache's failure for a miss."""
    try:
        return call()
    except Exception:  # noqa: BLE001 - each driver has errors of its own
        return None


def seen_of(row: Any) -> Seen:
    """Give what is seen in an object."""
    return Seen(row.id, row.slug, row.version, row.slug_version, row.double)
