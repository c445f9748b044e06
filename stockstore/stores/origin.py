"""One tier of a chain as an origin: what stands above it, and what its database tells of writers."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from stockstore.coherence.commit import Commit
from stockstore.coherence.protocol import Tier
from stockstore.coherence.reader import Reader
from stockstore.coherence.resolver import Resolvable, Resolver
from stockstore.coherence.writer import Located, WriteThrough
from stockstore.errors import StockstoreError
from stockstore.stores.base import Store
from stockstore.stores.lists import ListReading
from stockstore.stores.local import LocalStore
from stockstore.stores.mapping import MappingStore
from stockstore.stores.null import NullStore
from stockstore.stores.snapshots import Snapshot
from stockstore.stores.tiers import carrier_of, join_channels, shards_of, tiers_of
from stockstore.stores.tiers.local import LocalTier

if TYPE_CHECKING:
    from sqlalchemy import Engine

ChainCommit: TypeAlias = Commit[Located[Snapshot], Snapshot]
_log: Final = logging.getLogger(__name__)


class Origin:
    """The bottom-most tier that holds some classes, with the cache tiers above it.

    Attributes:
        store: The tier.
        tiers: The cache tiers above it, from the top down, those left out that keep nothing.
        reader: Reads through the tiers.
        through: Takes writes through them.
        lists: Reads lists through the tiers.
        parts: Where the store is sharded, each shard as an origin: it has transactions, and evidence of them, of its own.
    """

    def __init__(self, store: Store, above: Sequence[Store]) -> None:
        """Join a store and those above it, given from the top down."""
        self.store = store
        self.tiers: tuple[Tier[Snapshot], ...] = tuple(tier for cache in above if type(cache) is not NullStore for tier in tiers_of(cache))
        self._carrier = carrier_of(store)
        self.reader: Reader[Snapshot] = Reader(self.tiers, store.batch_fetch, self._carrier)
        self.through: WriteThrough[Snapshot] = WriteThrough(self.tiers, self._carrier)
        self.lists = ListReading(self.tiers, store, self.through)
        self._fast: ChainCommit = Commit(self.through, None, None, on_unreachable="commit")
        self._engine = _engine_of(store)
        remote = [tier for tier in self.tiers if tier.remote] if self._engine is not None else []
        self._commit = None if remote else self._fast
        self._resolver: Resolver | None = None
        self.parts = {shard: Origin(shard, above) for shard in shards_of(store)}
        self._join(remote)

    def _join(self, remote: "Sequence[Any]") -> None:
        for tier in self.tiers:
            inner = getattr(tier, "inner", tier)
            if isinstance(inner, LocalTier):
                inner.bound_to(_has_other_writers(self.store))
        join_channels(self.tiers, self._carrier)
        for tier in remote:
            # One for each store is enough: an application may make a chain over the same ones for each request.
            if not any(isinstance(known, Origin) and known.store is self.store for known in tier.resolvers):
                tier.resolvers.append(self)

    def below(self, tier: Tier[Snapshot]) -> Reader[Snapshot]:
        """Give a reader that starts at one of the tiers."""
        return Reader(self.tiers[self.tiers.index(tier) :], self.store.batch_fetch, self._carrier)

    def writes_in_parts(self) -> bool:
        """Whether a write that was refused may be done in part."""
        if self._engine is None:
            return False
        from stockstore.evidence.aside import commits_each_statement

        return commits_each_statement(self._engine)

    # -- writers' transactions ------------------------------------------------------------------

    def commit(self) -> ChainCommit:
        """Give what takes a write through; before the first one the database is asked how it tells of its transactions."""
        if self._commit is None:
            self._learn()
        return self._commit or self._fast

    def met(self, tier: Resolvable, cells: Mapping[str, bytes]) -> None:
        """Resolve the markers of writers that have died, which a reader has met."""
        self.commit()
        if self._resolver is not None:
            self._resolver.met(tier, cells)

    def _learn(self) -> None:
        from stockstore.evidence import Outbox, PostgresEvidence, evidence_of
        from stockstore.evidence.aside import asking
        from stockstore.mapped.shown import first_line

        assert self._engine is not None
        outbox = Outbox()
        try:
            evidence = asking(self._engine, partial(evidence_of, self._engine, outbox=outbox))
        except StockstoreError as error:  # whether the write can be done it will tell itself
            _log.warning(
                "%r does not tell how its transactions end; its caches are invalidated after them: %s", self.store, first_line(error)
            )
            return
        if evidence is not None:
            self._resolver = Resolver(evidence)
        used = None if evidence is None or isinstance(evidence, PostgresEvidence) else outbox
        self._commit = Commit(self.through, evidence, used, on_unreachable="commit")


def _engine_of(store: Any) -> "Engine | None":
    """Give the engine of a database, also of one that is the end of a chain."""
    while tiers := getattr(store, "tiers", None):
        store = tiers[-1]
    return getattr(store, "engine", None) if isinstance(store, Store) and store.is_origin else None


def _has_other_writers(store: Store) -> bool:
    """Whether another process can write what a store holds."""
    if shards := shards_of(store):
        return any(map(_has_other_writers, shards))
    engine = _engine_of(store)
    if engine is None:
        return not isinstance(store, (LocalStore, MappingStore, NullStore))
    from stockstore.evidence.aside import is_private

    return not is_private(engine)
