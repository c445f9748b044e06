"""What execution options say about a read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy.orm import Session

BYPASS: Final = "stockstore"
"""``False``: the database is read, and nothing is filled from it."""

REFRESH: Final = "stockstore_refresh"
"""``True``: the database is read, and the caches keep what is there."""

ASIDE: Final = "stockstore_aside"
"""Set where a look into the identity map is not to be answered from the caches, as it is not told of the load's other options."""

_HEEDED: Final = frozenset((BYPASS, REFRESH, "logging_token", "populate_existing", "prebuffer_rows"))

_bypassed: Final[WeakSet[Session]] = WeakSet()


def is_served(session: Session, options: Mapping[str, Any]) -> bool:
    """Whether the execution options of a session and of a read by primary key leave it to the caches."""
    # Sessions have options of their own from SQLAlchemy 2.1 on.
    own: Mapping[str, Any] = getattr(session, "execution_options", options)
    return all(_HEEDED.issuperset(each) and each.get(BYPASS) is not False for each in (options, own))


@contextmanager
def bypassed(session: Session) -> Iterator[None]:
    """Have an expired instance that a read finds refreshed from the database: SQLAlchemy does not pass the read's options on."""
    _bypassed.add(session)
    try:
        yield
    finally:
        _bypassed.discard(session)


def is_bypassed(session: Session) -> bool:
    """Whether a session is within such a read."""
    return session in _bypassed


def is_refresh(session: Session, options: Mapping[str, Any]) -> bool:
    """Whether the caches are to keep what the database has now."""
    own: Mapping[str, Any] = getattr(session, "execution_options", options)
    return bool(options.get(REFRESH, own.get(REFRESH)))
