"""Tables, and sessions of which it is collected what they write."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from stockstore.coherence.protocol import Writes
from stockstore_ext.sqlalchemy.collect import Collecting, before_flush, flushed, is_idle, may_write, orm_statement, statement
from tests.sync.collect.models import (
    Animal,
    Base,
    Cat,
    Club,
    Dog,
    Fan,
    Grandchild,
    Label,
    Node,
    Owned,
    Pair,
    Parent,
    Passive,
    Tag,
    Truck,
    Unhashable,
    Vehicle,
    Versioned,
)


def is_ours(root: type) -> bool:
    """Whether a class is one of these tests' own."""
    return issubclass(root, Base)


class Watch:
    """A session's writes, by listeners as a hook has them."""

    def __init__(self, engine: Engine, collecting: Collecting) -> None:
        self.engine, self.collecting = engine, collecting
        self.writes = Writes()
        self.sql: list[str] = []
        self.session = Session(engine)
        listeners: list[tuple[Any, str, Callable[..., Any]]] = [
            (self.session, "before_flush", self._before_flush),
            (self.session, "after_flush", lambda session, context: flushed(session, context, self._of, collecting)),
            (self.session, "do_orm_execute", lambda execution: orm_statement(execution, collecting)),
            (engine, "before_cursor_execute", self._before_cursor_execute),
        ]
        self._listeners = listeners
        for listener in listeners:
            event.listen(*listener)

    @staticmethod
    def every() -> Collecting:
        """Give the settings that note all of these tests' classes."""
        return Collecting(holds=is_ours)

    def _of(self, _mapper: object) -> Writes:
        return self.writes

    def _before_flush(self, session: Session, *_: object) -> None:
        self.writes.keep_tentative()
        before_flush(session, self._of, self.collecting)

    def _before_cursor_execute(
        self, _connection: object, _cursor: object, sql: str, _parameters: object, context: Any, _many: bool
    ) -> None:
        self.sql.append(sql)
        if may_write(context) and not is_idle(context, self.collecting):
            statement(context, sql, self.writes, self.collecting)

    @property
    def records(self) -> set[tuple[object, ...]]:
        """The records noted: the root's name, and its key values."""
        return {(self.writes.roots[plan].__name__, *values) for (plan, _), values in self.writes.records.items()}

    @property
    def classes(self) -> set[str]:
        """The names of the classes noted as a whole."""
        return {root.__name__ for root in self.writes.classes.values()}

    @property
    def inserted(self) -> set[str]:
        """The labels of the classes with new rows of unknown keys."""
        return {plan.label.rpartition(".")[2] for plan in self.writes.inserted}

    def expect(self, *records: tuple[object, ...], classes: set[str] = frozenset(), inserted: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Compare all that was noted."""
        assert (self.records, self.classes, self.inserted) == (set(records), set(classes), set(inserted))

    def close(self) -> None:
        """Listen no more."""
        self.session.close()
        for listener in self._listeners:
            if event.contains(*listener):
                event.remove(*listener)


@pytest.fixture(scope="module")
def tables(engine: Engine) -> Engine:
    """The engine of a database that has the tables; on SQLite one that heeds foreign keys."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA foreign_keys = ON").close())
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def rows(tables: Engine) -> Engine:
    """The engine of a database that has the rows below and no others."""
    with tables.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    with Session(tables) as session:
        session.add_all([Parent(id=1, name="a", owned=[Owned(id=1), Owned(id=2)], fans=[Fan(id=1)]), Parent(id=2, name="b")])
        session.add_all([Tag(name="red"), Tag(name="blue"), Club(id=1), Vehicle(id=1), Truck(id=1), Pair(zone="z", number=1)])
        session.add_all(
            [Animal(id=1, name="it"), Dog(id=2, name="rex", bark="w"), Cat(id=3, name="tom"), Versioned(id=1), Unhashable(id=1)]
        )
        session.add(Node(id=1))
        session.flush()
        session.add(Label(id=1, tag_name="red"))
        session.add_all([Passive(id=1, parent_id=1), Passive(id=2, parent_id=1), Passive(id=3, parent_id=2), Node(id=2, parent_id=1)])
        session.flush()
        session.add_all([Grandchild(id=1, passive_id=1), Grandchild(id=2, passive_id=3), Node(id=3, parent_id=2)])
        session.commit()
    return tables


Watching = Callable[..., Watch]


@pytest.fixture
def watching(rows: Engine) -> Iterator[Watching]:
    """A function of the settings that gives a watched session."""
    made: list[Watch] = []

    def watch(**settings: Any) -> Watch:
        made.append(Watch(rows, Collecting(**{"holds": is_ours, **settings})))
        return made[-1]

    yield watch
    for each in made:
        each.close()


@pytest.fixture
def watch(watching: Watching) -> Watch:
    """A watched session with the default settings."""
    return watching()


@pytest.fixture
def postgres_watch(postgres_engine: Engine) -> Iterator[Watch]:
    """A watched session on PostgreSQL, with empty tables."""
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    watch = Watch(postgres_engine, Watch.every())
    yield watch
    watch.close()
