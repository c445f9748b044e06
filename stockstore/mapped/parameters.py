"""How many values a statement may have."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from sqlalchemy import Dialect

T = TypeVar("T")

# Drivers limit the parameters of a statement: SQLite to 32,766 (999 before 3.32), PostgreSQL's protocol to 65,535.
PARAMETERS: Final = 900
_MANY_PARAMETERS: Final = 20_000
# PostgreSQL nests a list of keys of several columns as deep as it is long, and its stack has room for some 7,000.
_MANY_ROWS: Final = 3_000


def parameter_limit(dialect: Dialect) -> int:
    """Give how many parameters one statement may safely have."""
    old_sqlite = dialect.name == "sqlite" and dialect.dbapi is not None and dialect.dbapi.sqlite_version_info < (3, 32)
    return PARAMETERS if old_sqlite or dialect.name not in ("sqlite", "postgresql", "mysql", "mariadb") else _MANY_PARAMETERS


def key_limit(dialect: Dialect, width: int) -> int:
    """Give how many keys of so many values one statement may safely have."""
    limit = parameter_limit(dialect) // width
    return limit if width == 1 else min(limit, _MANY_ROWS)


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Give items in parts of at most a size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
