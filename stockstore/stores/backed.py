"""A cache store over a backend of text keys: Redis, memcached, any mapping, or your own."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias, TypeVar, get_args

from stockstore.backends.base import Backend
from stockstore.codecs import Codec, MsgpackCodec
from stockstore.entries import pack_alias, pack_value, unpack_value
from stockstore.errors import CacheUnreachable, CodecError, ConfigurationError
from stockstore.keys import KeyPlan, Lookup, Native, key_text, keys_of, namespace_text
from stockstore.lifetimes import Lifetime, expiry, remaining, server_seconds
from stockstore.stores.cache import Alias, CacheStore, Entry, Namespace, subclasses_of
from stockstore.stores.snapshots import ObjectSnapshot, RowSnapshot, Snapshot

T = TypeVar("T")
OnError: TypeAlias = Literal["raise", "miss"]
FINGERPRINT_SIZE = 8
DEFAULT_CODEC = MsgpackCodec()

_log = logging.getLogger(__name__)


class BackendStore(CacheStore):
    """Objects as bytes in a backend.

    Args:
        backend: Where the bytes are; closed with the store.
        lifetime: How long an entry lives: ``None`` (a server's own cap of 7 days), seconds, a timedelta, an
            aware datetime, or a callable of the object.
        polymorphic: Whether plain objects are also found by their keyed base classes.
        namespace: The first part of every key, or a callable that gives it (a tenant).
        jitter: The fraction by which lifetimes are shortened at random, against mass expiry.
        codec: How plain objects become bytes; msgpack by default.
        on_error: Whether a read that the server does not answer is a miss (counted as an error) or raises.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        lifetime: Lifetime = None,
        polymorphic: bool = False,
        namespace: Namespace = "stockstore",
        jitter: float = 0.0,
        codec: Codec | None = None,
        on_error: OnError = "miss",
    ) -> None:
        """Keep the settings; opens no connection."""
        super().__init__(lifetime=lifetime, polymorphic=polymorphic, namespace=namespace, jitter=jitter)
        if on_error not in get_args(OnError):
            raise ConfigurationError(f"on_error is 'raise' or 'miss', not {on_error!r}")
        self._backend = backend
        self._codec = DEFAULT_CODEC if codec is None else codec
        self._on_error = on_error
        self._logged: set[type] = set()

    # -- reading --------------------------------------------------------------------------------

    def _read(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        namespace = self._namespace()
        places = [list(self._places(namespace, cls, lookup)) for lookup in lookups]
        wanted = list(dict.fromkeys(text for texts in places for text in texts))
        direct = all(lookup.plan is keys_of(cls).identity for lookup in lookups) and len(wanted) <= len(lookups)
        cells = self._cells(self._backend.get_many if direct else self._backend.follow_many, wanted)
        return [self._first_fit(cls, lookup, texts, cells) for lookup, texts in zip(lookups, places, strict=True)]

    def _places(self, namespace: str, cls: type, lookup: Lookup) -> Iterator[str]:
        keys = keys_of(cls)
        if lookup.plan is keys.identity:
            yield self._record_text(namespace, lookup.plan, lookup.native)
            if not self._polymorphic or keys.mapped:
                return
        if not lookup.plan.has_none(lookup.native):
            yield self._alias_text(namespace, lookup.plan, lookup.native)

    def _cells(self, read: Callable[[Sequence[str]], dict[str, bytes]], texts: Sequence[str]) -> dict[str, bytes]:
        try:
            return read(texts)
        except CacheUnreachable:
            self._counters.add(errors=1)
            if self._on_error == "raise":
                raise
            _log.warning("%r did not answer a read; it counts as a miss", self, exc_info=True)
            return {}

    def _first_fit(self, cls: type, lookup: Lookup, texts: Sequence[str], cells: dict[str, bytes]) -> Snapshot | None:
        for text in texts:
            cell = cells.get(text)
            snapshot = None if cell is None else self._decode_or_miss(cls, cell)
            if snapshot is not None and self._fits(cls, lookup, snapshot):
                return snapshot
        return None

    def _decode_or_miss(self, cls: type, cell: bytes) -> Snapshot | None:
        try:
            return self._decode(cls, cell)
        except CodecError as error:
            self._counters.add(errors=1)
            _log.log(
                logging.DEBUG if cls in self._logged else logging.WARNING,
                "%r holds what cannot be decoded as %s; it counts as a miss: %s",
                self,
                cls,
                error,
            )
            self._logged.add(cls)
            return None

    def _decode(self, cls: type, cell: bytes) -> Snapshot | None:
        payload, expires = unpack_value(cell)
        lifetime = remaining(expires)
        if lifetime is not None and lifetime <= 0:
            self._counters.add(expirations=1)
            return None
        if keys_of(cls).mapped:
            return self._row(cls, payload, lifetime)
        kind = self._kind(cls, payload[:FINGERPRINT_SIZE])
        return None if kind is None else ObjectSnapshot(self._codec.decode(kind, payload[FINGERPRINT_SIZE:]), lifetime)

    def _row(self, cls: type, payload: bytes, lifetime: float | None) -> RowSnapshot | None:
        from stockstore.mapped import OtherShapeError, plan_of

        try:
            return RowSnapshot(*plan_of(cls).unpack(payload), lifetime=lifetime)
        except OtherShapeError:
            return None

    def _kind(self, cls: type, fingerprint: bytes) -> type | None:
        """Give the class of this fingerprint among a class and its subclasses; another shape is a miss."""
        if self._codec.fingerprint(cls) == fingerprint:
            return cls
        return (
            next((kind for kind in subclasses_of(cls) if self._codec.fingerprint(kind) == fingerprint), None) if self._polymorphic else None
        )

    # -- writing --------------------------------------------------------------------------------

    def check(self, snapshots: Sequence[Snapshot]) -> None:
        """Raise what encoding these snapshots, or their lifetimes, would raise."""
        super().check(snapshots)
        for snapshot in snapshots:
            snapshot.payload(self._codec)

    def _write(self, entries: Sequence[Entry]) -> None:
        namespace = self._namespace()
        cells: dict[str, tuple[bytes, int] | None] = {}
        for entry in entries:
            cells.update(self._cells_of(namespace, entry))
        self._twice(lambda: self._apply(cells))

    def _cells_of(self, namespace: str, entry: Entry) -> Iterator[tuple[str, tuple[bytes, int] | None]]:
        record = self._record_text(namespace, entry.plan, entry.native)
        if not entry.stored:
            yield record, None
            return
        keep = server_seconds(entry.seconds)
        yield record, (pack_value(entry.snapshot.payload(self._codec), expiry(entry.seconds)), keep)
        pointer = pack_alias(record)
        for plan, native in entry.aliases:
            yield self._alias_text(namespace, plan, native), (pointer, keep)

    def _apply(self, cells: dict[str, tuple[bytes, int] | None]) -> None:
        gone = [text for text, cell in cells.items() if cell is None]
        if gone:
            self._backend.delete_many(gone)
        kept = [(text, *cell) for text, cell in cells.items() if cell is not None]
        if kept:
            self._backend.set_many(kept)

    def _remove(self, records: Sequence[Alias]) -> int:
        namespace = self._namespace()
        texts = [self._record_text(namespace, plan, native) for plan, native in records]
        return self._twice(lambda: self._backend.delete_many(texts))

    def _twice(self, operation: Callable[[], T]) -> T:
        """Try a write again once, so that one lost connection loses no write."""
        try:
            return operation()
        except CacheUnreachable:
            self._counters.add(errors=1)
        try:
            return operation()
        except CacheUnreachable:
            self._counters.add(errors=1)
            raise

    # -- names and housekeeping -----------------------------------------------------------------

    @staticmethod
    def _record_text(namespace: str, plan: KeyPlan, native: Native) -> str:
        return key_text(namespace, plan.record_space, plan.parts(native))

    @staticmethod
    def _alias_text(namespace: str, plan: KeyPlan, native: Native) -> str:
        return key_text(namespace, plan.alias_space, plan.parts(native))

    def clear(self, cls: type | None = None) -> None:
        """Drop everything of this namespace, or all of one class; of a mapped class, of its whole hierarchy."""
        prefix = namespace_text(self._namespace()) + ":"
        labels = [""] if cls is None else [f"{plan.label}:" for plan in self._cleared_with(cls)]
        for label in dict.fromkeys(labels):
            self._twice(lambda label=label: self._backend.clear(prefix + label))  # type: ignore[misc]

    def close(self) -> None:
        """Close the backend; a client that was given stays open."""
        self._backend.close()
