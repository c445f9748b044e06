"""What every test of a write path does: prove that the read was cached, write through a session, compare with the database."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Engine, table, update
from sqlalchemy import column as sql_column
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore
from stockstore.keys import keys_of
from stockstore_ext.sqlalchemy import SessionSync
from tests.stores.shop import columns_of, row_of

Watched: TypeAlias = tuple[type[Any], object]
"""A class and the primary key of one of its rows."""

# A column that no key has, and a value that no test writes.
OUT_OF_BAND: dict[str, tuple[str, object]] = {
    "customers": ("status", "out of band"),
    "orders": ("state", "out of band"),
    "notes": ("text", "out of band"),
    "places": ("label", "out of band"),
    "tags": ("uses", -1),
    "vehicles": ("plate", "out of band"),
    "animals": ("name", "out of band"),
    "shapes": ("colour", "out of band"),
    "circles": ("colour", "out of band"),
    "squares": ("colour", "out of band"),
}


@dataclass
class Path:
    """A database, a chain above it, and sessions that a hook is attached to.

    Attributes:
        engine: The engine that sessions and the chain use.
        other: Another engine on the same database, which nobody watches.
        store: The chain.
        maker: Makes the watched sessions.
        sync: The hook.
    """

    engine: Engine
    other: Engine
    store: ChainedStore
    maker: sessionmaker[Session]
    sync: SessionSync

    def seed(self, *objects: object) -> None:
        """Insert rows that nobody has seen."""
        with Session(self.other) as session:
            session.add_all(objects)
            session.commit()

    def read(self, cls: type[Any], key: object) -> dict[str, object] | None:
        """Give the columns of what the chain has."""
        found = self.store.get(cls, key)
        return None if found is None else columns_of(found)

    def row(self, cls: type[Any], identity: object) -> dict[str, object] | None:
        """Give the columns of what the database has."""
        return row_of(self.other, cls, identity)

    def prove_cached(self, cls: type[Any], identity: object) -> None:
        """Show that a read does not reach the database: what another connection wrote out of band stays unseen. Undo it."""
        before = self.read(cls, identity)
        assert before is not None
        assert before == self.row(cls, identity)
        own = cls.__mapper__.local_table if cls.__mapper__.concrete else cls.__mapper__.base_mapper.local_table
        column, value = OUT_OF_BAND[own.name]
        self._out_of_band(cls, identity, column, value)
        assert self.read(cls, identity) == before
        assert (self.row(cls, identity) or {})[column] == value
        self._out_of_band(cls, identity, column, before[column])
        assert self.row(cls, identity) == before

    def _out_of_band(self, cls: type[Any], identity: object, column: str, value: object) -> None:
        keys = cls.__mapper__.primary_key
        values = identity if isinstance(identity, tuple) else (identity,)
        # A table without the defaults that an UPDATE would bring along.
        plain = table(keys[0].table.name, *(sql_column(each.name, each.type) for each in keys[0].table.columns))
        found = (plain.c[key.name] == part for key, part in zip(keys, values, strict=True))
        statement = update(plain).where(*found).values({column: value})
        with self.other.begin() as connection:
            assert connection.execute(statement).rowcount == 1

    def compare(self, *watched: Watched) -> None:
        """Compare what the chain has with the database, by every key of each row, and once more when it is cached."""
        for cls, identity in watched:
            row = self.row(cls, identity)
            for _ in range(2):
                assert self.read(cls, identity) == row
                for key in _alternates(cls, row):
                    assert self.read(cls, key) == row

    def check(self, write: Callable[[Session], object], *watched: Watched, end: Literal["commit", "rollback", "close"] = "commit") -> None:
        """Do one write path: rows that are there are cached at first, nobody sees a write before its commit, and everybody after it.

        Args:
            write: Writes through a session, and flushes; does not end the transaction.
            watched: Rows that the write touches or might be thought to, also such as it makes.
            end: How the transaction ends.
        """
        before = {place: self.row(*place) for place in watched}
        for place, row in before.items():
            if row is not None:
                self.prove_cached(*place)
        with self.maker() as session:
            write(session)
            for place, row in before.items():
                assert self.read(*place) == row
            if end == "commit":
                session.commit()
                self.compare(*watched)
            elif end == "rollback":
                session.rollback()
        if end != "commit":
            assert {place: self.row(*place) for place in watched} == before
        self.compare(*watched)
        for (cls, _), row in before.items():
            for key in _alternates(cls, row):
                found = self.read(cls, key)
                assert found is None or all(found[name] == value for name, value in key.items())


def _alternates(cls: type[Any], row: dict[str, object] | None) -> list[dict[str, object]]:
    if row is None:
        return []
    keys = [{name: row[name] for name in plan.names} for plan in keys_of(cls).alternates]
    return [key for key in keys if None not in key.values()]
