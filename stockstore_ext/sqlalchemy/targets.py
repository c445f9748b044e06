"""What a hook may be attached to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import ref

from sqlalchemy.orm import Session, scoped_session, sessionmaker

from stockstore.aio.bridge import in_greenlet
from stockstore.errors import ConfigurationError
from stockstore.mapped.shown import named
from stockstore.stores.base import Store

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker

Target: TypeAlias = (
    "type[Session | AsyncSession] | sessionmaker[Any] | scoped_session[Any] | async_sessionmaker[Any] | async_scoped_session[Any]"
)
_OWNER: Final = "_stockstore_owner"
"""The attribute of a class of sync sessions that was made here: for whom."""


def session_target(target: object) -> Any:
    """Give what has the events of a target's sessions: a Session class or a sessionmaker.

    Raises:
        ConfigurationError: It makes no sessions.
    """
    if target is None:
        return Session
    if is_awaited(target):
        return _sync_class(getattr(target, "session_factory", target))
    if isinstance(target, sessionmaker) or (isinstance(target, type) and issubclass(target, Session)):
        return target
    if isinstance(target, scoped_session) and isinstance(target.session_factory, sessionmaker):
        return target.session_factory
    raise ConfigurationError(
        "attach takes a Session class, a sessionmaker, a scoped_session of one, each of these also for AsyncSessions, or nothing "
        f"for every session, not {named(target)}"
    )


def class_of(target: Any) -> type[Session]:
    """Give the class of the sessions of what :func:`session_target` gave."""
    found: type[Session] = target.class_ if isinstance(target, sessionmaker) else target
    return found


def is_awaited(target: object) -> bool:
    """Whether a target makes AsyncSessions."""
    maker: Any = getattr(target, "session_factory", target)
    kind = maker if isinstance(maker, type) else getattr(maker, "class_", None)
    return isinstance(kind, type) and isinstance(getattr(kind, "sync_session_class", None), type)


def refuse_mixture(target: object, stores: Sequence[Store]) -> None:
    """Refuse sessions that cannot wait for caches as these have to be waited for.

    Raises:
        ConfigurationError: A cache would block the sessions' event loop, or needs one that the sessions have not.
    """
    for store in stores:
        if is_awaited(target) and store.io == "blocking" and not store.is_origin:
            raise ConfigurationError(
                f"{store!r} would block the event loop of {named(target)}; give the chain a RedisStore on a redis.asyncio client or a "
                "redis+asyncio:// URL"
            )
        if not is_awaited(target) and not isinstance(target, type) and store.io == "awaited":
            raise ConfigurationError(
                f"{store!r} is for asyncio, and {named(target)} makes sessions that block; attach to an async_sessionmaker"
            )


def refuse_blocking(stores: Sequence[Store]) -> None:
    """Refuse blocking code where a store is for asyncio.

    Raises:
        ConfigurationError: One is, and this is no greenlet.
    """
    awaited = next((store for store in stores if store.io == "awaited"), None)
    if awaited is not None and not in_greenlet():
        raise ConfigurationError(f"{awaited!r} is for asyncio, and was called by blocking code; await sync.async_invalidate(...) instead")


def _sync_class(owner: Any) -> type[Session]:
    """Give the class of the sync sessions of an async_sessionmaker, or of an AsyncSession class, alone; it is made at first."""
    made_by_maker = not isinstance(owner, type)
    known: Any = (made_by_maker and owner.kw.get("sync_session_class")) or (owner.class_ if made_by_maker else owner).sync_session_class
    mine = vars(known).get(_OWNER)
    if mine is not None and mine() is owner:
        return known  # type: ignore[no-any-return]
    own = type(known.__name__, (known,), {_OWNER: ref(owner), "__module__": known.__module__})
    if made_by_maker:
        owner.configure(sync_session_class=own)
    else:
        owner.sync_session_class = own
    return own
