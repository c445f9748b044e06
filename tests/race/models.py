"""The rows that the race is about, and the two releases of the application that use them.

Each row is two registers: its id, with ``version``, and the slug that it has at the moment, with ``slug_version``. A deleted row's
versions go on in its grave. It stands on the shelf of its id, of which sessions read the list.
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Column, Engine, Integer, MetaData, String, Table, insert
from sqlalchemy.orm import DeclarativeBase, mapped_column

SHELVES: Final = 4
_TABLE, _GRAVES = "stockstore_race_items", "stockstore_race_graves"
GRAVES: Final = Table(
    _GRAVES,
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("slug", String(40), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("slug_version", BigInteger, nullable=False),
)


class Seen(NamedTuple):
    """A row as somebody saw it."""

    id: int
    slug: str
    version: int
    slug_version: int
    double: int

    @property
    def is_whole(self) -> bool:
        """Whether all of it is of one version."""
        return self.double == 2 * self.version


def item_class(release: int, *, listed: bool = False) -> Any:
    """Make the mapped class as a release of the application has it: the second knows one more column; ``listed``: by its shelf."""

    class Base(DeclarativeBase):
        pass

    columns: dict[str, object] = {
        "id": mapped_column(Integer, primary_key=True, autoincrement=False),
        "slug": mapped_column(String(40), unique=True),
        "version": mapped_column(BigInteger, nullable=False),
        "slug_version": mapped_column(BigInteger, nullable=False),
        "double": mapped_column(BigInteger, nullable=False),
        "shelf": mapped_column(Integer, nullable=False),
    }
    if release > 1:
        columns["note"] = mapped_column(String(20))
    names: dict[str, object] = {"__module__": __name__, "__qualname__": "Item", "__tablename__": _TABLE, "__keys__": ["id", "slug"]}
    if listed:
        names["__indexes__"] = ["shelf"]
    metaclass: Any = type(Base)
    return metaclass("Item", (Base,), {**names, **columns})


def slug_of(number: int) -> str:
    """Give the slug that a row starts with.

    >>> slug_of(3)
    'slug-3'
    """
    return f"slug-{number}"


def make_rows(engine: Engine, keys: int) -> None:
    """Make the tables, anew, with a row for each key, all of version 1."""
    drop_rows(engine)
    table = item_class(2).__table__
    table.create(engine)
    GRAVES.create(engine)
    rows = [{"id": at, "slug": slug_of(at), "version": 1, "slug_version": 1, "double": 2, "shelf": at % SHELVES} for at in range(keys)]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)


def drop_rows(engine: Engine) -> None:
    """Drop the tables."""
    item_class(2).__table__.drop(engine, checkfirst=True)
    GRAVES.drop(engine, checkfirst=True)
