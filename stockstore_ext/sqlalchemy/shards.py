"""SQLAlchemy's own horizontal sharding: the identity token of a shard is part of its rows' keys, as a tenant's name is."""

from collections.abc import Hashable, Mapping
from typing import Any, Final, TypeAlias

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from stockstore.errors import CodecError, ConfigurationError
from stockstore.keys.encoding import canonical, text_of

Token: TypeAlias = Hashable
"""What SQLAlchemy calls a shard id, and stands in the third place of its identity keys."""
Shards: TypeAlias = Mapping[Any, Engine]
NO_SHARDS: Final[Shards] = {}


def is_sharded(session: Session) -> bool:
    """Whether only the application knows which database has a row."""
    return hasattr(session, "shard_chooser")


def checked_shards(shards: object) -> Shards:
    """Give the databases of shards by their tokens.

    Raises:
        ConfigurationError: It is no dict of engines, or a token cannot be part of a key.
    """
    if shards is None:
        return NO_SHARDS
    if not isinstance(shards, Mapping) or not all(isinstance(engine, Engine) for engine in shards.values()):
        raise ConfigurationError(f"shards is a dict of engines by shard ids, as the ShardedSession is given, not {shards!r}")
    for token in shards:
        shard_name(token)
    return shards


def shard_name(token: Token, scope: str | None = None) -> str:
    """Give the name of the scope in which the rows of a shard are kept.

    Raises:
        ConfigurationError: The token cannot be part of a key.

    >>> shard_name("eu"), shard_name(7), shard_name("eu", "ann")
    ('shard:eu', 'shard:i7', 'ann/shard:eu')
    """
    try:
        text = token if type(token) is str else text_of(canonical(token))
    except CodecError as error:
        raise ConfigurationError(f"the shard id {token!r} cannot be part of a key: {error}; give a text") from error
    return f"shard:{text}" if scope is None else f"{scope}/shard:{text}"


def engine_of(session: Session, mapper: Any, token: Token) -> Engine | None:
    """Give the engine that a sharded session has for a shard; ``None`` where it has none, or a connection that somebody else opened."""
    try:
        bind = session.get_bind(mapper, shard_id=token)
    except (KeyError, SQLAlchemyError):
        return None
    return bind if isinstance(bind, Engine) else None
