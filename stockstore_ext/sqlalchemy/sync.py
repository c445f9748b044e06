"""The hook itself: what an application attaches."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from sqlalchemy import Engine, MetaData, Table
from sqlalchemy.orm import Session, sessionmaker

from stockstore.aio.bridge import greenlet_spawn
from stockstore.coherence.commit import OnUnreachable
from stockstore.coherence.protocol import Writes
from stockstore.errors import ConfigurationError
from stockstore.evidence import Outbox
from stockstore.keys import Key, class_name, mapper_of, other_identities_below
from stockstore.mapped.sessions import Rule, add_rule, remove_rule
from stockstore.mapped.shown import named
from stockstore.stores.arguments import keys_in
from stockstore.stores.base import Store
from stockstore.stores.tiers import join_channels
from stockstore_ext.sqlalchemy.caches import caches_of, divided_stores, find_writes, origin_engine, origin_engines, stores_of
from stockstore_ext.sqlalchemy.collect import Collecting, Policy
from stockstore_ext.sqlalchemy.collect.notes import Notes
from stockstore_ext.sqlalchemy.engine_events import EngineEvents
from stockstore_ext.sqlalchemy.guarantee import Guarantee, guarantee_of
from stockstore_ext.sqlalchemy.read_through import ReadThrough
from stockstore_ext.sqlalchemy.recording import Consistency, Recording, Settings, Write
from stockstore_ext.sqlalchemy.scope import ScopeOf, Scopes, SnapshotRule, checked_scope
from stockstore_ext.sqlalchemy.session_events import SessionEvents, is_origin
from stockstore_ext.sqlalchemy.shards import checked_shards
from stockstore_ext.sqlalchemy.targets import Target, class_of, refuse_blocking, refuse_mixture, session_target

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

Require: TypeAlias = Literal["strict"]
_log: Final = logging.getLogger(__name__)


class SessionSync:
    """Keeps the caches of a store true while the application simply uses its sessions.

    Args:
        store: A cache store, or a chain; its database at the end is left out, and known as the one that the caches are filled from.
        consistency: ``"strict"`` marks what is written before it is committed; ``"fast"`` invalidates it afterwards, which others may
            see for a moment.
        write: ``"through"`` puts the committed rows into the caches, ``"invalidate"`` removes the old ones only.
        on_unreachable: What a cache that cannot be told does to a commit: ``"outbox"`` lets the invalidation commit with the data,
            ``"commit"`` goes on, and this process tells the cache later, ``"abort"`` raises ``CacheUnreachable`` before
            anything is committed. By default the outbox where its table exists, else ``"commit"``.
        on_raw_sql: What becomes of SQL text that does not tell what it writes: all classes are ``"invalidate"``-d, also with a
            ``"warn"``-ing, or it is refused (``"raise"``).
        outbox: Whether every commit writes a row to the outbox table, by which markers that a cache has lost are made good.
        bulk_limit: Up to how many rows of one statement are told to the caches one by one; above that the whole class is.
        require: ``"strict"`` refuses to attach where the guarantee is less.
        snapshot: Whether a session's transaction that reads from one snapshot throughout is given what is newer (``"latest"``)
            or reads the database then (``"respect"``).
        scope: Gives for a session the name of its tenant, where tenants have rows of their own. The name becomes part of the keys: such a
            session reads and fills entries of its tenant alone. ``None`` is for sessions without a tenant.
        read_through: Whether sessions are served from the caches what they load by primary key: ``True``, or a list of mapped classes,
            which stand for their subclasses too.
        shards: The engines of the databases of a ``ShardedSession`` by its shard ids. The id becomes part of the keys: rows of two shards
            with one primary key stand side by side, and what any session writes into a shard is told in its own.

    Raises:
        ConfigurationError: The store has no cache, or an option is none of those that exist.
    """

    def __init__(
        self,
        store: Store,
        *,
        consistency: Consistency = "strict",
        write: Write = "through",
        on_unreachable: OnUnreachable | None = None,
        on_raw_sql: Policy = "invalidate",
        outbox: bool = False,
        bulk_limit: int = 1000,
        require: Require | None = None,
        snapshot: SnapshotRule = "respect",
        scope: ScopeOf | None = None,
        read_through: "bool | Collection[type]" = False,
        shards: "Mapping[Any, Engine] | None" = None,
    ) -> None:
        """Keep the settings; touches neither sessions nor servers."""
        _check("consistency", consistency, get_args(Consistency))
        _check("write", write, get_args(Write))
        _check("on_unreachable", on_unreachable, (*get_args(OnUnreachable), None))
        _check("on_raw_sql", on_raw_sql, get_args(Policy))
        _check("require", require, (*get_args(Require), None))
        _check("snapshot", snapshot, get_args(SnapshotRule))
        _check("outbox", outbox, (True, False))
        if type(bulk_limit) is not int or bulk_limit < 0:
            raise ConfigurationError(f"bulk_limit is a number of rows from 0 on, not {bulk_limit!r}")
        if scope is not None and not callable(scope):
            raise ConfigurationError(f"scope is a callable of a session that gives a text or None, not {scope!r}")
        self._store = store
        self._require = require
        self._outbox = Outbox()
        tiers = caches_of(store)
        join_channels(tiers)
        self._origin = origin_engine(store)
        self._recording = Recording(
            tiers,
            Settings(consistency, write, on_unreachable, outbox),
            Collecting(holds=_held_by(tiers), limit=bulk_limit, policy=on_raw_sql),
            Scopes(self._origin, scope, snapshot, checked_shards(shards), origin_engines(store)),
            self._outbox,
        )
        self._engines = EngineEvents(self._recording)
        self._sessions = SessionEvents(self._recording, self._engines)
        self._read_through = None if read_through is False else ReadThrough(store, self._recording, read_through)
        self._divided = divided_stores(store) if scope is not None else ()
        self._target: Any = None
        self._kind: type[Session] = Session
        self._rule: Rule | None = None

    # -- attaching -------------------------------------------------------------------------------

    def attach(self, target: "Target | None" = None) -> "SessionSync":
        """Listen to the sessions of a Session class, ``sessionmaker`` or ``scoped_session``, or to every session; gives the hook itself.

        An ``async_sessionmaker``, an ``AsyncSession`` class or an ``async_scoped_session`` is given a class of its own for the sync
        sessions below those that it makes from now on. Databases and caches that are asked here are asked on connections of their own;
        in a coroutine the event loop stands still for that long.

        Raises:
            ConfigurationError: It is attached already, or the target is none of these, or ``require`` asks for more than there is; or
                a cache would block the event loop of async sessions, or is for asyncio and the sessions block.
        """
        if self._target is not None:
            raise ConfigurationError(
                f"this SessionSync is attached already, to {named(self._target)}; detach() it first, or make another one"
            )
        refuse_mixture(target, stores_of(self._store))
        target = session_target(target)
        if any(store is self._store and _overlap(cls, class_of(target)) for store, cls in _attached):
            raise ConfigurationError(
                f"another SessionSync of this store is attached to {named(target)} already; one is enough, detach() the other first"
            )
        self._say(self.guarantee)
        self._recording.attach()
        self._sessions.hear(target)
        self._target, self._kind = target, class_of(target)
        _attached.append((self._store, class_of(target)))
        self._rule = _Rule(class_of(target), self._recording)
        add_rule(self._rule)
        if self._read_through is not None:
            self._read_through.attach(class_of(target))
        for store in self._divided:
            store.tenant_rules.append(self._tenant_of)
        return self

    def detach(self) -> None:
        """Listen no more; does nothing where it is not attached. A transaction that is open now is still finished as it was begun."""
        if self._target is None:
            return
        target, self._target = self._target, None
        if not isinstance(target, sessionmaker):
            self._leave(target)
            return
        # The maker may have been given another class since; listeners are looked for at the one that it has.
        given, target.class_ = target.class_, self._kind
        self._leave(target)
        target.class_ = given

    def _leave(self, target: Any) -> None:
        if self._read_through is not None:
            self._read_through.detach(class_of(target))
        if self._rule is not None:
            remove_rule(self._rule)
        for store in self._divided:
            store.tenant_rules[:] = [rule for rule in store.tenant_rules if rule != self._tenant_of]
        if (self._store, class_of(target)) in _attached:
            _attached.remove((self._store, class_of(target)))
        self._sessions.leave(target)
        self._recording.detach(self._engines.leave)

    def _say(self, guarantee: Guarantee) -> None:
        if self._require is not None and not guarantee.is_strict:
            raise ConfigurationError(f"require='strict', but this set-up gives less:\n{guarantee}")
        for line in guarantee.remarks:
            _log.warning("%s", line)

    # -- what others wrote -----------------------------------------------------------------------

    def invalidate(self, cls: type, keys: Iterable[Key] | None = None, *, scope: str | None = None) -> None:
        """Remove objects from the caches that somebody has changed whom nobody here sees: all of a class, or those of some keys.

        Under asyncio: :meth:`async_invalidate`.

        Args:
            cls: The class.
            keys: Keys of any sort that the class declares; for a scope primary keys alone, as nobody can tell here which rows others mean.
                Where the database may have a primary key otherwise, or take it for equal to another, all of the class is removed; all
                of its concrete subclasses is in any case.
            scope: For which sessions: those for which ``scope=`` gives this name, or by default those for which it gives none. One call is
                for one scope; which ones there are is not known here.

        Raises:
            ConfigurationError: The scope is no text, or not to be told apart by a key that is not the primary one, or the class is not
                mapped; or the caches are for asyncio, and this is blocking code.
        """
        refuse_blocking(stores_of(self._store))
        writes = Writes(checked_scope(scope))
        if writes.tenant is not None and mapper_of(cls) is None:
            raise ConfigurationError(f"a {class_name(cls)} is a plain object, which caches keep for all scopes alike; leave out scope=")
        if keys is None:
            writes.add_class(cls)
        else:
            dialects = {engine.dialect for engine in (*origin_engines(self._store), *self._engines.engines())}
            find_writes(self._store, cls, keys_in(keys), Notes(writes, self._recording.collecting), dialects)
        # Nobody can tell here which of them have these keys.
        for below in other_identities_below(cls):
            writes.add_class(below)
        self._recording.through.invalidate(writes)

    async def async_invalidate(self, cls: type, keys: Iterable[Key] | None = None, *, scope: str | None = None) -> None:
        """Do as :meth:`invalidate`, for caches that do not block."""
        await greenlet_spawn(self.invalidate, cls, keys, scope=scope)

    # -- set-up ----------------------------------------------------------------------------------

    def create_outbox(self, engine: "Engine | AsyncEngine") -> None:
        """Create the outbox table, if it is not there.

        Raises:
            OriginError: The database did not answer, or refused.
        """
        engine = getattr(engine, "sync_engine", engine)
        if not isinstance(engine, Engine):
            raise ConfigurationError(f"the outbox table is created by an Engine, not by {named(engine)}")
        self._outbox.create(engine)
        self._recording.forget_means(engine)

    def outbox_table(self, metadata: MetaData) -> Table:
        """Give the outbox table as one of a MetaData's, for migrations."""
        if not isinstance(metadata, MetaData):
            raise ConfigurationError(f"outbox_table takes a MetaData, not {metadata!r}")
        return self._outbox.table(metadata)

    @property
    def guarantee(self) -> Guarantee:
        """What holds in this very set-up, per tier, and why; asks the servers."""
        engines = self._engines.engines()
        if self._origin is not None and self._origin not in engines:
            engines.insert(0, self._origin)
        return guarantee_of(self._recording, engines)

    def _tenant_of(self, session: Session) -> str | None:
        attached = self._target is not None and isinstance(session, class_of(self._target)) and not is_origin(session)
        return self._recording.scopes.named(session) if attached else None

    def __repr__(self) -> str:
        """Name the store and where it is attached."""
        return f"SessionSync({self._store!r}{'' if self._target is None else f', attached to {named(self._target)}'})"


class _Rule:
    """What one hook says of the sessions that it is attached to; see ``stockstore.mapped.sessions.add_rule``."""

    def __init__(self, cls: type[Session], recording: Recording) -> None:
        self._cls, self._recording = cls, recording

    def concerns(self, kind: type[Session]) -> bool:
        """Whether it says anything of sessions of this class."""
        return issubclass(kind, self._cls)

    def __call__(self, session: Session, root: type) -> str:
        """Tell why a session reads all rows of a class from the database."""
        return self._recording.hides(session, root) if isinstance(session, self._cls) and not is_origin(session) else ""


_attached: Final[list[tuple[Store, type[Session]]]] = []


def _overlap(one: type, other: type) -> bool:
    """Whether there may be sessions of both classes."""
    return issubclass(one, other) or issubclass(other, one)


def _check(name: str, value: object, known: Iterable[object]) -> None:
    known = tuple(known)
    if not any(value is one or (type(value) is type(one) and value == one) for one in known):
        raise ConfigurationError(f"{name} is one of {', '.join(map(repr, known))}, not {value!r}")


def _held_by(tiers: Iterable[Any]) -> Callable[[type], bool]:
    tiers = tuple(tiers)
    return lambda root: any(tier.holds(root) for tier in tiers)
