"""What execution options say about a read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy.orm import Session

BYPASS: Final = "stockstore"
"""``False``, or any value but ``True`` and ``None``: the database is read, and nothing is filled from it."""

REFRESH: Final = "stockstore_refresh"
"""``True``: the database is read, and the caches keep what is there."""

STRICT: Final = "stockstore_strict"
"""``True``: memory of this process that may be old for a moment is passed by."""

ASIDE: Final = "stockstore_aside"
"""Set where a look into the identity map is not to be answered from the caches, as it is not told of the load's other options."""

_HEEDED: Final = frozenset((BYPASS, REFRESH, STRICT, "logging_token", "populate_existing", "prebuffer_rows"))

_bypassed: Final[WeakSet[Session]] = WeakSet()
_strict: Final[WeakSet[Session]] = WeakSet()


def is_served(session: Session, options: Mapping[str, Any]) -> bool:
    """Whether the execution options of a session and of a read by primary key leave it to the caches."""
    # Sessions have options of their own from SQLAlchemy 2.1 on.
    own: Mapping[str, Any] = getattr(session, "execution_options", options)
    return all(_HEEDED.issuperset(each) and each.get(BYPASS) in (None, True) for each in (options, own))


@contextmanager
def within(session: Session, options: Mapping[str, Any]) -> Iterator[None]:
    """Have an expired instance that a read finds refreshed as its options say: SQLAlchemy does not pass them on."""
    entered = [
        sessions for sessions, asked in ((_bypassed, options.get(BYPASS) not in (None, True)), (_strict, options.get(STRICT))) if asked
    ]
    for sessions in entered:
        sessions.add(session)
    try:
        yield
    finally:
        for sessions in entered:
            sessions.discard(session)


def is_bypassed(session: Session) -> bool:
    """Whether a session is within a read that is past the caches."""
    return session in _bypassed


def is_refresh(session: Session, options: Mapping[str, Any]) -> bool:
    """Whether the caches are to keep what the database has now."""
    return _is_set(session, options, REFRESH)


def is_strict(session: Session, options: Mapping[str, Any]) -> bool:
    """Whether a read is to pass by memory that may be old for a moment, or a session is within one that is."""
    return _is_set(session, options, STRICT) or session in _strict


def is_any_strict() -> bool:
    """Whether any session is within such a read."""
    return bool(_strict.data)  # type: ignore[attr-defined]


def _is_set(session: Session, options: Mapping[str, Any], name: str) -> bool:
    own: Mapping[str, Any] = getattr(session, "execution_options", options)
    return bool(options.get(name, own.get(name)))
