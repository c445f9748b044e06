"""What every test of reading through does: compare sessions with and without, and prove that a read reached no database."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import DeclarativeBase, Session

from stockstore.keys import keys_of
from tests.statements import recorded
from tests.stores.shop import Bag, Base
from tests.sync.paths import OUT_OF_BAND, Path

Run = Callable[[Session], Any]


class Served:
    """A hooked path, whose sessions read through.

    Attributes:
        path: The path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def seed(self, *objects: object) -> None:
        """Insert rows that nobody has seen."""
        self.path.seed(*objects)

    def cache(self, base: type[DeclarativeBase] = Base) -> None:
        """Have every row cached, by all of its keys."""
        with self.plain() as session:
            for mapper in base.registry.mappers:
                if not mapper.concrete and mapper.inherits is None and mapper.class_ is not Bag:
                    for obj in session.scalars(select(mapper.class_)):
                        for plan in keys_of(type(obj)).plans:
                            self.path.store.get(type(obj), {name: getattr(obj, name) for name in plan.names})

    def session(self) -> Session:
        """Give a session that reads through."""
        return self.path.maker()

    def plain(self) -> Session:
        """Give a session that nobody watches, on the same database."""
        return Session(self.path.other)

    def outcome(self, run: Run) -> Any:
        """Give what a run gives in a session with the hook."""
        return outcome(self.session, run)

    def same(self, run: Run) -> Any:
        """Run in a session with the hook, thrice, and in one without; give what both gave."""
        expected = outcome(self.plain, run)
        for _ in range(3):
            found = outcome(self.session, run)
            assert found == expected, f"{found} is not {expected}"
        return expected

    def hits(self, run: Run) -> Any:
        """Compare as :meth:`same`, and show that the read reaches no database by then; give what it gave."""
        expected = self.same(run)
        assert not is_error(expected), expected
        with self.statements() as seen:
            assert outcome(self.session, run) == expected
        assert seen == [], seen
        return expected

    def misses(self, run: Run) -> Any:
        """Compare as :meth:`same`, and show that the database is asked nevertheless."""
        expected = self.same(run)
        assert not is_error(expected), expected
        with self.statements() as seen:
            assert outcome(self.session, run) == expected
        assert any("SELECT" in statement for statement in seen)
        return expected

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """Give the SQL that the watched engine executes meanwhile."""
        with recorded(self.path.engine) as seen:
            yield seen

    @contextmanager
    def changed(self, cls: type[Any], identity: object) -> Iterator[object]:
        """Change a row so that no hook sees it, meanwhile; gives the new value."""
        column, value = OUT_OF_BAND[cls.__mapper__.base_mapper.local_table.name]
        before = (self.path.row(cls, identity) or {})[column]
        self.path.write_unseen({(cls, identity): {column: value}})
        yield value
        self.path.write_unseen({(cls, identity): {column: before}})


def outcome(make: Callable[[], Session], run: Run) -> Any:
    """Give what a run gives in a session of its own: instances as their columns, errors as their class and text."""
    with make() as session:
        try:
            return described(run(session))
        except Exception as error:  # noqa: BLE001 - of any class, to be compared
            return type(error), str(error)


def is_error(outcome: Any) -> bool:
    """Whether it is what was raised."""
    return isinstance(outcome, tuple) and isinstance(outcome[0], type)


def described(value: Any) -> Any:
    """Give instances as class and columns, wherever they are."""
    if hasattr(value, "_sa_instance_state"):
        # SQLAlchemy leaves the columns of a subclass to the first access; a concrete class has no discriminator.
        mapper = type(value).__mapper__
        columns = [prop for prop in mapper.column_attrs if mapper.class_manager[prop.key].impl.accepts_scalar_loader]
        names = [prop.key for prop in columns if prop.key in vars(value) or not prop.deferred]
        return type(value).__name__, {name: getattr(value, name) for name in names}
    if isinstance(value, Row):
        return "row", value._fields, tuple(map(described, value))
    if isinstance(value, Mapping):
        return {str(key): described(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(part) for part in value]
    return value
