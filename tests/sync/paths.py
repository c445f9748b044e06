"""What every test of a write path does: prove that the read was cached, write through a session, compare with the database."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Engine, Update, table, update
from sqlalchemy import column as sql_column
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore
from stockstore.keys import keys_of
from stockstore_ext.sqlalchemy import SessionSync
from tests.stores.shop import columns_of, row_of

Watched: TypeAlias = tuple[type[Any], object]
"""A class and the primary key of one of its rows."""
Rows: TypeAlias = dict[Watched, dict[str, object] | None]

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

    def rows(self, watched: Iterable[Watched]) -> Rows:
        """Give the columns of what the database has, of several."""
        with Session(self.other) as session:
            found = {place: session.get(*place) for place in watched}
            return {place: None if row is None else columns_of(row) for place, row in found.items()}

    def prove_cached(self, *watched: Watched) -> None:
        """Show that reads do not reach the database: what another connection wrote out of band stays unseen. Undo it."""
        before = {place: self.read(*place) for place in watched}
        assert None not in before.values()
        assert before == self.rows(watched)
        values = {(cls, identity): _out_of_band_of(cls) for cls, identity in watched}
        self.write_unseen(values)
        assert {place: self.read(*place) for place in watched} == before
        assert self.rows(watched) == {place: {**(before[place] or {}), **value} for place, value in values.items()}
        self.write_unseen({place: {name: (before[place] or {})[name] for name in value} for place, value in values.items()})
        assert self.rows(watched) == before

    def write_unseen(self, values: Mapping[Watched, Mapping[str, object]]) -> None:
        """Give columns other values so that no hook sees it."""
        with self.other.begin() as connection:
            for (cls, identity), value in values.items():
                assert connection.execute(_plain_update(cls, identity).values(value)).rowcount == 1

    def compare(self, *watched: Watched) -> None:
        """Compare what the chain has with the database, by every key of each row, and once more when it is cached."""
        for (cls, identity), row in self.rows(watched).items():
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
        before = self.rows(watched)
        self.prove_cached(*(place for place, row in before.items() if row is not None))
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
            assert self.rows(watched) == before
        self.compare(*watched)
        for (cls, _), row in before.items():
            for key in _alternates(cls, row):
                found = self.read(cls, key)
                assert found is None or all(found[name] == value for name, value in key.items())


def _out_of_band_of(cls: type[Any]) -> dict[str, object]:
    own = cls.__mapper__.local_table if cls.__mapper__.concrete else cls.__mapper__.base_mapper.local_table
    column, value = OUT_OF_BAND[own.name]
    return {column: value}


def _plain_update(cls: type[Any], identity: object) -> Update:
    keys = cls.__mapper__.primary_key
    values = identity if isinstance(identity, tuple) else (identity,)
    # A table without the defaults that an UPDATE would bring along.
    plain = table(keys[0].table.name, *(sql_column(each.name, each.type) for each in keys[0].table.columns))
    return update(plain).where(*(plain.c[key.name] == part for key, part in zip(keys, values, strict=True)))


def _alternates(cls: type[Any], row: dict[str, object] | None) -> list[dict[str, object]]:
    if row is None:
        return []
    keys = [{name: row[name] for name in plan.names} for plan in keys_of(cls).alternates]
    return [key for key in keys if None not in key.values()]
