"""The database that a session reads a row from: its own, or a shard's."""

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import Connection, Dialect, Engine, inspect
from sqlalchemy.orm import Session

from stockstore.mapped import ELSEWHERE, TENANT, hides
from stockstore.stores.cache import CacheStore
from stockstore.stores.tenants import has_own_verbs
from stockstore_ext.sqlalchemy.recording import Recording
from stockstore_ext.sqlalchemy.shards import Token, engine_of, shard_name


class Database(Protocol):
    """Where what the caches do not have is read, and in which part of the caches it is kept."""

    def hides(self, session: Session, cls: type) -> str:
        """Tell why a session has to read all rows of a class from the database; ``""``: it need not."""

    def tenant(self, session: Session, reason: str) -> str | None:
        """Give the name of the part of every cache that is a session's, for which there may be a reason to read from the database else."""

    def reader(self, session: Session, tenant: str | None) -> Session | str | None:
        """Give in whose name the caches are asked."""

    def connect(self, session: Session, cls: type) -> Connection:
        """Give the session's connection."""

    def dialect(self, session: Session, cls: type) -> Dialect:
        """Give its dialect, without a connection."""

    def may_fill(self, session: Session, connection: Connection) -> bool:
        """Whether what a session reads on a connection now may be kept."""


class OwnDatabase:
    """The one that a session has for a class.

    Args:
        tiers: The caches.
        recording: What the hook knows of transactions.
        origin: The database that the caches are filled from; ``None`` where the store has none.
    """

    def __init__(self, tiers: Sequence[Any], recording: Recording, origin: Engine | None) -> None:
        """Read nothing yet."""
        self._stores = [getattr(tier, "_store", None) for tier in tiers]
        self._recording = recording
        self._origin = origin

    def hides(self, session: Session, cls: type) -> str:
        """Tell what all hooks and stores tell of a session."""
        return hides(session, cls)

    def tenant(self, session: Session, reason: str) -> str | None:
        """Give the tenant in whose own part of every cache a session's rows are kept."""
        if reason != TENANT:
            return None
        names = {store.tenant_of(session) if isinstance(store, CacheStore) else None for store in self._stores}
        return names.pop() if len(names) == 1 else None

    def reader(self, session: Session, tenant: str | None) -> Session | str | None:
        """Give a tenant's session."""
        return None if tenant is None else session

    def connect(self, session: Session, cls: type) -> Connection:
        """Give the connection for a class."""
        return session.connection(bind_arguments={"mapper": inspect(cls)})

    def dialect(self, session: Session, cls: type) -> Dialect:
        """Give that of the caches' database."""
        return (self._origin or session.get_bind(cls)).dialect

    def may_fill(self, session: Session, connection: Connection) -> bool:
        """Whether the transaction shows what others may see by now."""
        return self._recording.may_fill(session, connection)


class ShardDatabase:
    """A shard of SQLAlchemy's ``ShardedSession``, whose rows are kept in a part of every cache of its own.

    Caches of anybody's own verbs know of no such parts: with one nothing is served.
    """

    def __init__(self, token: Token, tiers: Sequence[Any], recording: Recording) -> None:
        """Read nothing yet."""
        self._token = token
        stores = [getattr(getattr(tier, "inner", tier), "_store", None) for tier in tiers]
        self._is_divided = all(isinstance(store, CacheStore) and has_own_verbs(type(store)) for store in stores)
        self._recording = recording

    def hides(self, session: Session, cls: type) -> str:
        """Tell why a session has to read from the shard itself, such as that it was not named, or is named otherwise."""
        engine = engine_of(session, inspect(cls), self._token)
        if engine is None or not self._is_divided or self._recording.scopes.shard_on(engine) != self._token:
            return ELSEWHERE
        return self._recording.hides_shard(session, engine)

    def tenant(self, session: Session, reason: str) -> str | None:
        """Give the shard's name, within that of the session's tenant."""
        return None if reason else shard_name(self._token, self._recording.scopes.named(session))

    def reader(self, session: Session, tenant: str | None) -> Session | str | None:
        """Give the shard's name."""
        del session
        return tenant

    def connect(self, session: Session, cls: type) -> Connection:
        """Give the connection to the shard."""
        return session.connection(bind_arguments={"mapper": inspect(cls), "shard_id": self._token})

    def dialect(self, session: Session, cls: type) -> Dialect:
        """Give that of the shard."""
        return session.get_bind(inspect(cls), shard_id=self._token).dialect

    def may_fill(self, session: Session, connection: Connection) -> bool:
        """Whether the transaction on the shard shows what others may see by now."""
        return self._recording.may_fill_shard(session, connection)
