"""A cache store over a backend of text keys: Redis, memcached, any mapping, or your own."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args

from stockstore.backends.base import IO, Backend, PartlyUnreachable
from stockstore.backends.coherent import CoherentBackend, Item
from stockstore.cells import ALIAS, LEASE, MARKER, NO_GENERATION, UNCOMPARED, generation_of
from stockstore.codecs import Codec, MsgpackCodec
from stockstore.codecs.base import checked_codec
from stockstore.codecs.passes import passes_of
from stockstore.errors import CacheUnreachable, CodecError, ConfigurationError
from stockstore.keys import ClassKeys, Key, KeyPlan, Lookup, keys_of, namespace_text
from stockstore.lifetimes import Lifetime
from stockstore.stores.alike import cells_of, objects_in, only_class, rows_in, values_of
from stockstore.stores.arguments import keys_in, objects_of
from stockstore.stores.cache import Alias, CacheStore, Entry, Namespace
from stockstore.stores.cell_reader import CellReader, Generations, Unusable
from stockstore.stores.cell_writer import CellBatch
from stockstore.stores.generations import current_generations, generation_texts, tokens_in
from stockstore.stores.hiding import written_by
from stockstore.stores.snapshots import Snapshot

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")
OnError: TypeAlias = Literal["raise", "miss"]
DEFAULT_CODEC = MsgpackCodec()

_Ask: TypeAlias = Callable[[Callable[[Sequence[str]], dict[str, bytes]], Sequence[str]], dict[str, bytes]]

_log = logging.getLogger(__name__)


class _Alike(NamedTuple):
    """A batch of keys of one sort, as the server is asked for it."""

    plan: KeyPlan
    values: list[Any]
    texts: list[str]
    rows: dict[KeyPlan, str]
    direct: bool

    @property
    def asked(self) -> list[str]:
        """The keys of all cells that are needed."""
        return [*self.texts, *self.rows.values()]


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
        self._coherent = backend if isinstance(backend, CoherentBackend) else None
        # What compares and sets puts tag and server id before a value's body itself.
        self._tag = UNCOMPARED if self._coherent is None else b""
        self._codec = DEFAULT_CODEC if codec is None else checked_codec(codec)
        self._passes = passes_of(self._codec)
        self._on_error = on_error
        self._logged: set[type] = set()
        self._is_closed = False

    @property
    def backend(self) -> Backend:
        """Where the bytes are."""
        return self._backend

    # -- reading --------------------------------------------------------------------------------

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: "Session | None" = None) -> list[T | None]:
        """Give the objects of these keys, in their positions, ``None`` where there is none."""
        keys = keys_in(keys)
        alike = self._alike(cls, keys, session)
        if alike is None:
            return super().batch_get(cls, keys, session=session)
        return self._found_alike(cls, alike, self._looked(alike), session)

    async def batch_get_awaited(self, cls: type[T], keys: Iterable[Key]) -> list[T | None] | None:
        """As ``batch_get``, in no greenlet, where one look at the server tells all; ``None``: it takes more."""
        alike = self._alike(cls, keys_in(keys), None)
        if alike is None or not alike.direct:
            return None
        try:
            found = await self._backend.get_many_awaited(alike.asked)
        except CacheUnreachable as error:
            found = self._unread(error)
        return self._found_alike(cls, alike, list(map(found.get, alike.asked)), None)

    def _alike(self, cls: type, keys: list[Key], session: "Session | None") -> "_Alike | None":
        """Give what to ask the server for, where all keys are of one sort, and what stands there tells all."""
        compiled = keys_of(cls)
        if self._watched or self._may_be_pointed_at(cls) or (session is not None and compiled.mapped and written_by(session, cls, None)):
            return None
        found = values_of(compiled, keys)
        if found is None:
            return None
        plan, values = found
        namespace, direct = self._namespace(), plan is compiled.identity
        texts = plan.texts(namespace, values, alias=not direct)
        return None if texts is None else _Alike(plan, values, texts, self._generation_texts(namespace, cls), direct)

    def _looked(self, alike: "_Alike") -> list[bytes | None]:
        try:
            return self._backend.look(alike.asked, follow=not alike.direct)
        except CacheUnreachable as error:
            return list(map(self._unread(error).get, alike.asked))

    def _found_alike(self, cls: type[T], alike: "_Alike", cells: list[bytes | None], session: "Session | None") -> list[T | None]:
        plan, values, texts, rows, _ = alike
        keys, count = keys_of(cls), len(texts)
        tokens = {row: generation_of(cell) for row, cell in zip(rows, cells[count:], strict=True)}
        cells = cells[:count] if rows else cells
        if keys.mapped:
            generation = tokens.get(keys.identity) if rows else NO_GENERATION
            found = [None] * len(cells) if generation is None else rows_in(cls, cells, generation, plan, values, session)
        else:
            found = objects_in(cls, cells, self._passes, plan, values)
        missing = self._get_others(cls, plan, values, cells, found, tokens, session)
        self._note_reads(cls, len(found) - missing, missing)
        return found

    def _get_others(
        self,
        cls: type,
        plan: KeyPlan,
        values: list[Any],
        cells: list[bytes | None],
        found: list[Any],
        tokens: Generations,
        session: "Session | None",
    ) -> int:
        """Fill in, one by one, what is there but expired, of another shape or class, damaged, or not what the key asks for.

        Returns:
            How many are missing still.
        """
        absent = [at for at, obj in enumerate(found) if obj is None]
        others = [at for at in absent if cells[at] is not None]
        reader = self._reader(cls, tokens) if others else None
        for at in others:
            lookup = Lookup(plan, values[at], (values[at],))
            snapshot = self._read_cell(reader, cells[at] or b"") if reader else None
            if snapshot is not None and self._fits(cls, lookup, snapshot):
                found[at] = snapshot.restore(session)
        return sum(found[at] is None for at in absent)

    batch_fetch = CacheStore.batch_fetch

    def _read(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        return self._look(cls, lookups, self._cells)

    def _peek(self, cls: type, lookups: Sequence[Lookup]) -> list[Snapshot | None]:
        # A delete that does not know what stands there has deleted nothing: no answer is no miss here.
        return self._twice(lambda: self._look(cls, lookups, lambda read, texts: read(texts)))

    def _look(self, cls: type, lookups: Sequence[Lookup], ask: _Ask) -> list[Snapshot | None]:
        keys, namespace = keys_of(cls), self._namespace()
        direct = not self._may_be_pointed_at(cls) and all(lookup.plan is keys.identity for lookup in lookups)
        places = [list(self._places(namespace, keys, lookup, direct=direct)) for lookup in lookups]
        rows = self._generation_texts(namespace, cls)
        texts = list(dict.fromkeys([*(text for texts in places for text in texts), *rows.values()]))
        cells = ask(self._backend.get_many if direct else self._backend.follow_many, texts)
        reader = self._reader(cls, tokens_in(rows, cells))
        return [
            self._first_fit(cls, lookup, [cells[text] for text in texts if text in cells], reader)
            for lookup, texts in zip(lookups, places, strict=True)
        ]

    @staticmethod
    def _places(namespace: str, keys: ClassKeys, lookup: Lookup, *, direct: bool) -> Iterator[str]:
        if lookup.plan is keys.identity:
            yield lookup.plan.record_text(namespace, lookup.native)
        if not direct and not lookup.plan.has_none(lookup.native):
            yield lookup.plan.alias_text(namespace, lookup.native)

    def _cells(self, read: Callable[[Sequence[str]], dict[str, bytes]], texts: Sequence[str]) -> dict[str, bytes]:
        try:
            return read(texts)
        except CacheUnreachable as error:
            return self._unread(error)

    def _unread(self, error: CacheUnreachable) -> dict[str, bytes]:
        """Count a read that failed, and give what was found in spite of that."""
        self._counters.add(errors=1)
        if self._on_error == "raise":
            raise error
        self._outages.warn(_log, "%r did not answer a read; it counts as a miss: %s", self, error)
        return error.found if isinstance(error, PartlyUnreachable) else {}

    def raises(self, error: Exception) -> bool:
        """Whether an error is one that the store was told to raise, by ``on_error="raise"``."""
        return self._on_error == "raise" and isinstance(error, CacheUnreachable)

    def _first_fit(self, cls: type, lookup: Lookup, cells: Sequence[bytes], reader: CellReader) -> Snapshot | None:
        for cell in cells:
            snapshot = self._read_cell(reader, cell)
            if snapshot is not None and self._fits(cls, lookup, snapshot):
                return snapshot
        return None

    def _generation_texts(self, namespace: str, cls: type) -> dict[KeyPlan, str]:
        """Give the keys of the generations that rows of a class carry; none where nothing compares and sets."""
        mapped = self._coherent is not None and keys_of(cls).mapped
        return generation_texts(namespace, cls, below=self._may_be_pointed_at(cls)) if mapped else {}

    def _reader(self, cls: type, generations: Generations) -> CellReader:
        return CellReader(
            cls,
            self._codec,
            polymorphic=self._polymorphic,
            generations=None if self._coherent is None else generations,
            report=lambda error: self._report(cls, error),
        )

    def _read_cell(self, reader: CellReader, cell: bytes) -> Snapshot | None:
        if cell.startswith((LEASE, MARKER, ALIAS)):
            return None
        found = reader.read(cell)
        if found is Unusable.EXPIRED:
            self._counters.add(expirations=1)
        return None if isinstance(found, Unusable) else found

    def _report(self, cls: type, error: CodecError) -> None:
        self._counters.add(errors=1)
        level = logging.DEBUG if cls in self._logged else logging.WARNING
        _log.log(level, "%r holds what cannot be decoded as %s; it counts as a miss: %s", self, cls, error)
        self._logged.add(cls)

    # -- writing --------------------------------------------------------------------------------

    def batch_put(self, objects: Iterable[object]) -> None:
        """Store objects under all of their keys."""
        objects = objects_of(objects)
        cells = None if self._watched or self._rule.varies else self._cells_alike(objects)
        if cells is None:
            super().batch_put(objects)
        else:
            self._twice(lambda: self._put(*cells))
            self._counters.add(puts=len(objects))

    def _put(self, items: Sequence[Item], aliases: Sequence[Item]) -> None:
        if self._coherent is None:
            self._backend.set_many([*items, *aliases])
        else:
            self._coherent.put_many(items, aliases)

    batch_store = CacheStore.batch_store
    batch_fill = CacheStore.batch_fill

    def _cells_alike(self, objects: Sequence[object]) -> tuple[Sequence[Item], Sequence[Item]] | None:
        cls = only_class(objects)
        if cls is None:
            return None
        keys, aliases = self._shape(cls)
        return cells_of(objects, keys, aliases, self._namespace(), self._passes, self._rule.seconds(None), self._tag)

    def check(self, snapshots: Sequence[Snapshot]) -> None:
        """Raise what encoding these snapshots, or their lifetimes, would raise."""
        super().check(snapshots)
        for snapshot in snapshots:
            snapshot.payload(self._codec)

    def _write(self, entries: Sequence[Entry]) -> None:
        batch = CellBatch(self._namespace(), self._codec, self._tag)
        for entry in entries:
            batch.add(entry)
        self._twice(lambda: self._apply(batch))

    def _apply(self, batch: CellBatch) -> None:
        if batch.gone:
            self._backend.delete_many(batch.gone)
        if batch.records:
            tokens: Mapping[KeyPlan, bytes | None] = {}
            if self._coherent is not None:
                tokens = current_generations(self._coherent, batch.namespace, batch.mapped_records())
            self._put(batch.items(tokens), batch.aliases())

    def _remove(self, records: Sequence[Alias]) -> int:
        namespace = self._namespace()
        texts = [plan.record_text(namespace, native) for plan, native in records]
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

    def clear(self, cls: type | None = None) -> None:
        """Drop everything of this namespace, or all of one class; of a mapped class, of its whole hierarchy."""
        prefix = namespace_text(self._namespace()) + ":"
        labels = [""] if cls is None else [f"{plan.label}:" for plan in self._cleared_with(cls)]
        for label in dict.fromkeys(labels):
            self._twice(lambda label=label: self._backend.clear(prefix + label))  # type: ignore[misc]

    @property
    def io(self) -> IO:
        """How the backend's driver waits for its server."""
        return self._backend.io

    def close(self) -> None:
        """Close the backend; a client that was given stays open."""
        self._is_closed = True
        self._backend.close()

    def _close_again(self) -> None:
        """Leave no connection behind that was made after the end, to tell the server what was owed."""
        if self._is_closed and self.io != "awaited":
            self._backend.close()

    def __repr__(self) -> str:
        """Name the backend, without passwords."""
        return f"{type(self).__name__}({self._backend!r})"
