"""Write paths of classes with habits: versions, onupdate, association tables, no hash, no declared keys, rows in two tables."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from tests.stores.shop import empty
from tests.sync.odd import Base, Book, Keyless, Part, Place, Shelf, Tag, Touched, Unhashable, Versioned, Whole, labels, rows
from tests.sync.paths import OUT_OF_BAND, Path, Watched

OUT_OF_BAND |= {table.name: ("text", "out of band") for table in Base.metadata.sorted_tables if "text" in table.columns}
TWO = (1, 2)


@pytest.fixture
def odd(path: Path) -> Path:
    """A hooked path with two rows of each class."""
    Base.metadata.create_all(path.engine)
    empty(path.engine, Base.metadata)
    path.seed(*rows())
    return path


def _change(cls: type[Any]) -> Callable[[Session], object]:
    def write(session: Session) -> None:
        session.get_one(cls, 1).text = "changed"
        session.flush()

    return write


def _replace(cls: type[Any]) -> Callable[[Session], object]:
    def write(session: Session) -> None:
        session.delete(session.get_one(cls, 1))
        session.add(cls(id=3, text="new"))
        session.flush()

    return write


def _shelf(change: Callable[[Session, Shelf], object]) -> Callable[[Session], object]:
    def write(session: Session) -> None:
        change(session, session.get_one(Shelf, 1))
        session.flush()

    return write


def _append(session: Session) -> None:
    shelf = session.get_one(Shelf, 2)
    shelf.books.append(session.get_one(Book, 1))
    session.flush()


def _merge(session: Session) -> None:
    session.merge(Unhashable(id=1, text="merged"))
    session.flush()


def _of(cls: type[Any], *identities: object) -> list[Watched]:
    return [(cls, identity) for identity in identities or TWO]


PLACES = _of(Place, (1, 1), (1, 2))

WRITES: dict[str, tuple[Callable[[Session], Any], list[Watched]]] = {
    "versioned, flush": (_change(Versioned), _of(Versioned)),
    "versioned, bulk": (lambda s: s.execute(update(Versioned).values(text="bulk")), _of(Versioned)),
    "versioned, Query.update": (lambda s: s.query(Versioned).filter_by(id=1).update({"text": "query"}), _of(Versioned)),
    "versioned, core": (lambda s: s.execute(update(Versioned.__table__).values(text="core")), _of(Versioned)),  # type: ignore[arg-type]
    "versioned, delete and insert": (_replace(Versioned), _of(Versioned, 1, 2, 3)),
    "onupdate, flush": (_change(Touched), _of(Touched)),
    "onupdate, bulk": (lambda s: s.execute(update(Touched).where(Touched.id == 1).values(text="bulk")), _of(Touched)),
    "onupdate, by primary key": (lambda s: s.execute(update(Touched), [{"id": 1, "text": "x"}]), _of(Touched)),
    "onupdate, core": (lambda s: s.execute(update(Touched.__table__).values(text="core").where(text("id = 1"))), _of(Touched)),  # type: ignore[arg-type]
    "association, removed": (_shelf(lambda s, shelf: shelf.books.pop()), [*PLACES, (Shelf, 1), (Book, 1), (Book, 2)]),
    "association, added": (
        _append,
        [(Place, (2, 1)), *PLACES],
    ),
    "association, with the object": (_shelf(lambda s, shelf: s.delete(shelf)), [*PLACES, (Shelf, 1), (Shelf, 2)]),
    "association, by its class": (lambda s: s.execute(delete(Place).where(Place.book_id == 1)), PLACES),
    "secondary table, removed": (_shelf(lambda s, shelf: shelf.tags.pop()), [(Shelf, 1), (Tag, 1), (Tag, 2)]),
    "secondary table, core": (lambda s: s.execute(labels.delete()), [(Shelf, 1), (Tag, 1)]),
    "unhashable, flush": (_change(Unhashable), _of(Unhashable)),
    "unhashable, bulk": (lambda s: s.execute(update(Unhashable).values(text="bulk")), _of(Unhashable)),
    "unhashable, delete and insert": (_replace(Unhashable), _of(Unhashable, 1, 2, 3)),
    "unhashable, merge": (_merge, _of(Unhashable)),
    "keyless, flush": (_change(Keyless), _of(Keyless)),
    "keyless, bulk": (lambda s: s.execute(update(Keyless).where(Keyless.id == 1).values(text="bulk")), _of(Keyless)),
    "keyless, delete and insert": (_replace(Keyless), _of(Keyless, 1, 2, 3)),
    "two tables, flush": (_change(Part), [(Part, 1), (Whole, 2)]),
    "two tables, bulk": (lambda s: s.execute(update(Part).values(size=9)), [(Part, 1), (Whole, 2)]),
}


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("name", WRITES)
def test_odd_class(odd: Path, name: str, end: Literal["commit", "rollback"]) -> None:
    """What was written is in the caches when it is committed, and never before or otherwise."""
    write, watched = WRITES[name]
    odd.check(write, *watched, end=end)


PUT = ["versioned, flush", "versioned, bulk", "onupdate, flush", "onupdate, bulk", "unhashable, flush", "keyless, bulk"]


@pytest.mark.parametrize("name", [*PUT, "two tables, flush", "two tables, bulk"])
def test_committed_rows_are_put(odd: Path, name: str) -> None:
    """The row that the database made of it is in the cache right after the commit, all of its tables included."""
    write, ((cls, identity), *_) = WRITES[name]
    odd.read(cls, identity)  # a class of which nothing was ever read has no generation that a value could carry
    with odd.maker() as session:
        write(session)
        session.commit()
    row = odd.row(cls, identity)
    with odd.other.begin() as connection:
        for table in cls.__mapper__.tables[::-1]:
            connection.execute(delete(table).where(table.c.id == identity))
    assert odd.row(cls, identity) is None
    assert odd.read(cls, identity) == row


def test_stale_version(odd: Path) -> None:
    """Who comes too late with an old version changes nothing, neither in the database nor in the caches."""
    odd.prove_cached((Versioned, 1))
    with odd.maker() as late, odd.maker() as early:
        row = late.get_one(Versioned, 1)
        late.rollback()  # the row is expired, and read again
        assert row.version == 1
        late.expunge(row)
        early.get_one(Versioned, 1).text = "early"
        early.commit()
        late.add(row)
        row.text = "late"
        with pytest.raises(StaleDataError):
            late.commit()
    odd.compare((Versioned, 1))
    assert (odd.read(Versioned, 1) or {})["text"] == "early"
    odd.prove_cached((Versioned, 1))


def test_objects_of_a_cache_are_as_good_as_loaded(odd: Path) -> None:
    """An unhashable object out of a cache is its session's own; a versioned one is updated under its version."""
    odd.prove_cached((Unhashable, 1))
    odd.prove_cached((Versioned, 1))
    with odd.maker() as session:
        first, second = odd.store.get(Unhashable, 1, session=session), odd.store.get(Versioned, 1, session=session)
        assert first is not None
        assert second is not None
        first.text = second.text = "changed"
        session.commit()
    odd.compare((Unhashable, 1), (Versioned, 1))
    with Session(odd.other) as session:
        assert session.scalars(select(Versioned.version).where(Versioned.id == 1)).one() == 2
