"""What execution options say about a read."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.orm import Session

BYPASS: Final = "stockstore"
"""``False``: the database is read, and nothing is filled from it."""

REFRESH: Final = "stockstore_refresh"
"""``True``: the database is read, and the caches keep what is there."""

ASIDE: Final = "stockstore_aside"
"""Set where a look into the identity map is not to be answered from the caches, as it is not told of the load's other options."""

_HEEDED: Final = frozenset((BYPASS, REFRESH, "logging_token", "populate_existing"))


def is_served(session: Session, options: Mapping[str, Any]) -> bool:
    """Whether the execution options of a session and of a read by primary key leave it to the caches."""
    # Sessions have options of their own from SQLAlchemy 2.1 on.
    own: Mapping[str, Any] = getattr(session, "execution_options", options)
    return all(_HEEDED.issuperset(each) and each.get(BYPASS) is not False for each in (options, own))


def is_refresh(session: Session, options: Mapping[str, Any]) -> bool:
    """Whether the caches are to keep what the database has now."""
    own: Mapping[str, Any] = getattr(session, "execution_options", options)
    return bool(options.get(REFRESH, own.get(REFRESH)))
