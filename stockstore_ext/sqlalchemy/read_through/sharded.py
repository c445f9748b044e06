"""Rows of one shard by primary key, for SQLAlchemy's ``ShardedSession``."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from stockstore.coherence.reader import Reader
from stockstore.keys import Lookup, keys_of
from stockstore.mapped import has_written, plan_of
from stockstore.stores.cache import CacheStore, identity_in
from stockstore.stores.snapshots import RowSnapshot
from stockstore.stores.tenants import current, has_own_verbs, reading_for_nobody
from stockstore_ext.sqlalchemy.read_through.classes import Classes
from stockstore_ext.sqlalchemy.read_through.exact import are_exact
from stockstore_ext.sqlalchemy.read_through.loading import InexactError, load
from stockstore_ext.sqlalchemy.recording import Recording
from stockstore_ext.sqlalchemy.shards import Token, attach, engine_of, shard_name


class ShardReading:
    """Reads rows of one shard through the caches, in the part of each that is the shard's own.

    What holds for other sessions holds here, see ``Serving``. Caches of anybody's own verbs know of no such parts: with one nothing is served.
    """

    def __init__(self, tiers: Sequence[Any], classes: Classes, recording: Recording) -> None:
        """Read nothing yet."""
        self._tiers = tuple(tiers)
        stores = [getattr(getattr(tier, "inner", tier), "_store", None) for tier in self._tiers]
        self._is_divided = all(isinstance(store, CacheStore) and has_own_verbs(type(store)) for store in stores)
        self._classes = classes
        self._recording = recording

    def find(self, session: Session, cls: type, lookup: Lookup, token: Token) -> object | None:
        """Give the session's persistent instance of a row of a shard; ``None``: SQLAlchemy is to look itself."""
        engine = engine_of(session, inspect(cls), token)
        if engine is None or not self._may_serve(session, cls, lookup) or self._recording.scopes.shard_on(engine) != token:
            return None
        if self._recording.hides_shard(session, engine):
            return None
        row = self._read(session, cls, lookup, token)
        return None if row is None or self._classes.refuses(row.cls) or row.plan.deferred else attach(session, row, token)

    def _may_serve(self, session: Session, cls: type, lookup: Lookup) -> bool:
        if not self._is_divided or self._classes.refuses(cls) or not are_exact(cls, [lookup]):
            return False
        return not has_written(session, plan_of(cls).root, identity_in(cls, lookup))

    def _read(self, session: Session, cls: type, lookup: Lookup, token: Token) -> RowSnapshot | None:
        reader = Reader(self._tiers, partial(self._fetch, session, token))
        name = current.set(shard_name(token, self._recording.scopes.named(session)))
        try:
            found = reader.read(cls, {lookup[:2]: lookup}).get(lookup[:2])
        except InexactError:
            return None
        finally:
            current.reset(name)
        return found if isinstance(found, RowSnapshot) else None

    def _fetch(
        self, owner: Session, token: Token, cls: type, keys: Sequence[Any], *, session: Session | None = None
    ) -> list[RowSnapshot | None]:
        del session  # the tiers were not given it
        with reading_for_nobody():  # the application may listen to what comes now
            asked: Mapping[str, Any] = {"mapper": inspect(cls), "shard_id": token}
            connection = owner.connection(bind_arguments=dict(asked))
            reason = self._recording.hides_shard(owner, connection.engine)
            if reason and reason != "snapshot":
                raise InexactError
            shared = not reason and self._recording.may_fill_shard(owner, connection)
            return load(connection, cls, list(map(keys_of(cls).lookup, keys)), shared=shared)
