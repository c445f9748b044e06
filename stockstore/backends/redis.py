"""Redis as a backend."""

import hashlib
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, Union, cast

from stockstore.backends.base import Backend, checked_timeouts
from stockstore.errors import CacheUnreachable, ConfigurationError

try:
    import redis
    from redis.cluster import RedisCluster
except ModuleNotFoundError as exc:
    raise ConfigurationError('Redis needs its driver, which is missing: pip install "redis[hiredis]>=5"') from exc

from stockstore.backends.redis_clients import address_of, drop_idle_connections, open_client, refuse_text

_T = TypeVar("_T")
_CHUNK = 1000  # bounds how long one script holds the server, and stays far below Lua's limit for unpack

_VALUES = frozenset({bytes, type(None)})

_LONGEST = 2**32 - 1  # seconds, 136 years: what fits into four bytes

_SET_ALIKE = """
local call, seconds = redis.call, ARGV[1]
for i, key in ipairs(KEYS) do
    call('SETEX', key, seconds, ARGV[i + 1])
end
"""

# All lifetimes are one argument: an argument costs redis-py more than it costs Redis to keep the value. And a
# lifetime is made text once for all values that share it, since Redis would do so for each.
_SET = """
local call, sub, unpack, lifetimes = redis.call, string.sub, struct.unpack, ARGV[1]
local last, seconds
for i, key in ipairs(KEYS) do
    local packed = sub(lifetimes, 4 * i - 3, 4 * i)
    if packed ~= last then
        last, seconds = packed, string.format('%.0f', unpack('>I4', packed))
    end
    call('SETEX', key, seconds, ARGV[i + 1])
end
"""

_FOLLOW = """
local values = redis.call('MGET', unpack(KEYS))
local targets, places = {}, {}
for i, value in ipairs(values) do
    if value and string.sub(value, 1, 1) == 'A' then
        targets[#targets + 1] = string.sub(value, 2)
        places[#places + 1] = i
    end
end
if #targets > 0 then
    local records = redis.call('MGET', unpack(targets))
    for i, place in ipairs(places) do
        values[place] = records[i]
    end
end
return values
"""

_DIGESTS = {script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (_SET_ALIKE, _SET, _FOLLOW)}


class RedisBackend(Backend):
    """Keeps bytes on one Redis server, a Sentinel's primary, or a cluster.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with the options of redis-py in its query.
        client: instead of a URL: a ready client (``redis.Redis``, also one from
            ``Sentinel.master_for``, or ``redis.cluster.RedisCluster``). It keeps its own time-outs and
            retries, and ``close`` leaves it alone.
        connect_timeout: seconds to wait for a connection.
        read_timeout: seconds to wait for each answer.

    Raises:
        ConfigurationError: not exactly one of url and client, a URL that does not fit, or a client that
            decodes answers to text.

    No connection is opened before the first operation. Threads and forked processes may share a backend.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Union["redis.Redis", RedisCluster, None] = None,
        connect_timeout: float = 1.0,
        read_timeout: float = 1.0,
    ) -> None:
        if (url is None) == (client is None):
            raise ConfigurationError("RedisBackend takes either a url or a client, exactly one of them")
        checked_timeouts(connect_timeout=connect_timeout, read_timeout=read_timeout)
        self._owned = url is not None
        # A cluster client shares the methods used here.
        ready = open_client(url, connect_timeout, read_timeout) if url is not None else client
        self._client = cast("redis.Redis", ready)
        refuse_text(self._client)
        self._cluster = isinstance(client, RedisCluster)
        self._mget = self._mget_by_slot if self._cluster else self._client.mget

    def __repr__(self) -> str:
        return f"RedisBackend({address_of(self._client)!r})"

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the values of those keys that are present: one MGET, on a cluster one per slot."""
        if not keys:
            return {}
        with self._errors():
            return _present(keys, self._mget(keys))

    def set_many(self, items: Sequence[tuple[str, bytes, int]]) -> None:
        """Keep values by one script for each thousand, on a cluster by one pipeline."""
        with self._errors():
            for chunk in _chunks(items):
                (self._set_by_pipeline if self._cluster else self._set_by_script)(chunk)

    def delete_many(self, keys: Sequence[str]) -> int:
        """Drop keys and tell how many of them were there: one UNLINK, on a cluster one per slot."""
        if not keys:
            return 0
        with self._errors():
            return _counted(self._client.unlink(*keys))

    def follow_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give values and follow aliases in one round trip for each thousand; on a cluster in two."""
        if self._cluster:
            return super().follow_many(keys)
        found: dict[str, bytes] = {}
        with self._errors():
            for chunk in _chunks(keys):
                found |= _present(chunk, self._call(_FOLLOW, chunk))
        return found

    def clear(self, prefix: str) -> None:
        """Drop every key that starts with a prefix; scans all keys of every primary node.

        What is written while this runs may survive or not.
        """
        with self._errors():
            batch: list[bytes] = []
            for key in self._client.scan_iter(match=_literally(prefix) + "*", count=_CHUNK):
                batch.append(key)
                if len(batch) == _CHUNK:
                    self._client.unlink(*batch)
                    batch = []
            if batch:
                self._client.unlink(*batch)

    def close(self) -> None:
        """Close the connections, unless the client was given."""
        if self._owned:
            self._client.close()

    def _set_by_script(self, items: Sequence[tuple[str, bytes, int]]) -> None:
        keys, values = [key for key, _, _ in items], [value for _, value, _ in items]
        lifetimes = [min(lifetime, _LONGEST) for _, _, lifetime in items]
        if lifetimes.count(lifetimes[0]) == len(lifetimes):
            self._call(_SET_ALIKE, keys, b"%d" % lifetimes[0], *values)
        else:
            self._call(_SET, keys, struct.pack(f">{len(items)}I", *lifetimes), *values)

    def _call(self, script: str, keys: Sequence[str], *arguments: bytes) -> object:
        # The count is text: hiredis crashes where a signal's handler raises while it turns a number into text.
        digest, count = _DIGESTS[script], cast("int", str(len(keys)))
        try:
            return self._client.evalsha(digest, count, *keys, *arguments)
        except redis.exceptions.NoScriptError:
            self._client.script_load(script)
            return self._client.evalsha(digest, count, *keys, *arguments)

    def _set_by_pipeline(self, items: Sequence[tuple[str, bytes, int]]) -> None:
        pipeline = self._client.pipeline()
        for key, value, lifetime in items:
            pipeline.set(key, value, ex=lifetime)
        pipeline.execute()

    def _mget_by_slot(self, keys: Sequence[str]) -> list[bytes | None]:
        return cast("RedisCluster", self._client).mget_nonatomic(list(keys))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        # RedisClusterException stands beside RedisError, not below it.
        try:
            yield
        except (redis.RedisError, redis.exceptions.RedisClusterException, OSError) as exc:
            raise self._unreachable(exc) from exc
        except (TypeError, ValueError) as exc:  # an answer of another kind, on which redis-py or the checks below fail
            drop_idle_connections(self._client)
            raise self._unreachable(exc) from exc
        except BaseException:
            # A signal's exception. The pool of a client that we were given may have a connection back whose answer
            # is still to come: it would be given to the next command.
            drop_idle_connections(self._client)
            raise

    def _unreachable(self, error: Exception) -> CacheUnreachable:
        return CacheUnreachable(f"Redis at {address_of(self._client)} did not do what was asked: {error}; check the server and its log")


def _present(keys: Sequence[str], values: object) -> dict[str, bytes]:
    if type(values) is not list or not _VALUES.issuperset(map(type, values)):
        raise ValueError(f"it answered {str(values)[:80]!r} to a read")
    return {key: value for key, value in zip(keys, values, strict=True) if value is not None}


def _counted(count: object) -> int:
    if type(count) is not int:
        raise ValueError(f"it answered {str(count)[:80]!r} to a delete")
    return count


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]


def _literally(prefix: str) -> str:
    r"""Escape what a MATCH pattern takes for wildcards.

    >>> print(_literally("shop*:"))
    shop\*:
    """
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", prefix)
