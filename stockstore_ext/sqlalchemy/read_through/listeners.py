"""Who else hears of a session's statements."""

from typing import Final

from sqlalchemy.orm import Session

_KNOWN: Final = ("stockstore.", "stockstore_ext.", "sqlalchemy.ext.horizontal_shard")
"""Where listeners are from that add no criteria: ours, and the one by which a sharded session asks its shards."""


def has_others(session: Session) -> bool:
    """Whether the application listens to the statements of a session, and so may add criteria that a look into a cache would not heed."""
    for listener in session.dispatch.do_orm_execute:  # noqa: SIM110 - each load by primary key asks, and any() takes three times as long
        if not str(getattr(listener, "__module__", "")).startswith(_KNOWN):
            return True
    return False
