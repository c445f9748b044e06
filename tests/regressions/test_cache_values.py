"""Values that a column, its type or a driver cannot take are errors of ours, and leave everything as it was."""

import enum
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from sqlalchemy import Engine, Enum, LargeBinary, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from stockstore import ChainedStore, CodecError, NotKeyedError, OriginError, ProcessMemoryStore, SqlAlchemyStore, Store


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = 1


class Paint(Base):
    __tablename__ = "paints"
    __indexes__ = ["shelf"]
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[int] = mapped_column(default=1)
    colour: Mapped[Colour] = mapped_column(Enum(Colour, native_enum=False, length=9))


class Seal(Base):
    __tablename__ = "seals"
    id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)


class Ticket(Base):
    __tablename__ = "tickets"
    id: Mapped[UUID] = mapped_column(primary_key=True)


@pytest.fixture(params=["alone", "chain"])
def store(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Store]:
    """The database, in which a paint has a colour that its class does not know, alone and below a cache."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO paints (id, shelf, colour) VALUES (1, 1, 'BLUE')"))
    database = SqlAlchemyStore(engine=engine)
    yield database if request.param == "alone" else ChainedStore([ProcessMemoryStore(), database])
    Base.metadata.drop_all(engine)


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.get(Paint, 1),
        lambda store: store.get_all(Paint, shelf=1),
        lambda store: store.put(Paint(id=1, colour=Colour.RED)),
        lambda store: store.batch_put([Paint(id=2, colour=Colour.RED), Paint(id=1, colour=Colour.RED)]),
        lambda store: store.put(Paint(id=2, colour="BLUE")),
        lambda store: store.delete(Paint, 1),
        lambda store: store.batch_delete([Paint(id=1)]),
    ],
    ids=["get", "get_all", "put", "batch_put", "put of such a value", "delete", "batch_delete"],
)
def test_a_row_that_its_type_cannot_take(store: Store, engine: Engine, use: Callable[[Store], object]) -> None:
    """Whoever reads it is told, and so is who would replace or delete it; nothing is written."""
    with pytest.raises(OriginError, match="'BLUE' is not among the defined enum values"):
        use(store)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id, colour FROM paints")).all() == [(1, "BLUE")]


def test_a_primary_key_that_may_change(store: Store, engine: Engine) -> None:
    """SQLAlchemy cannot identify a row by it."""
    with pytest.raises(CodecError, match=r"^a primary key of .*Seal cannot be bytearray\(b'x'\), which may change; give bytes"):
        store.put(Seal(id=bytearray(b"x")))
    with Session(engine) as session:
        assert session.scalars(select(Seal)).all() == []


@pytest.mark.parametrize("use", [lambda store: store.get(Ticket, "no UUID"), lambda store: store.put(Ticket(id="no UUID"))])
def test_a_text_in_place_of_a_uuid(use: Callable[[Store], object]) -> None:
    """What SQLAlchemy's type cannot take is told as that."""
    with SqlAlchemyStore("sqlite://") as store:
        Base.metadata.create_all(store.engine)
        with pytest.raises(OriginError, match=r"refused: a value does not fit its column: 'str' object has no attribute"):
            use(store)


def test_a_driver_that_cannot_connect(mariadb_url: str) -> None:
    """What pymysql makes of options that it does not know is no error of databases; it is told as one."""
    for option in ("charset=nonesuch", "colour=red"):
        with SqlAlchemyStore(engine=create_engine(f"{mariadb_url}?{option}")) as store:
            with pytest.raises(OriginError, match=rf"^SqlAlchemyStore\('.*{option}'\) refused: ") as caught:
                store.get(Paint, 1)
            assert isinstance(caught.value.__cause__, (AttributeError, TypeError))


def test_an_object_in_place_of_its_class() -> None:
    """One that cannot be hashed, too."""

    class Plain:
        __hash__ = None  # type: ignore[assignment]

    with pytest.raises(NotKeyedError, match="the first argument is the class to look up, not <"):
        ChainedStore([ProcessMemoryStore()]).get(Plain(), 1, strict=True)  # type: ignore[arg-type]
    with SqlAlchemyStore("sqlite://") as database, pytest.raises(NotKeyedError, match="is the class to look up, not 'Paint'"):
        database.clear("Paint")  # type: ignore[arg-type]
