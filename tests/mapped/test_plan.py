"""Plans: one per mapped class, found again by fingerprint."""

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref

import pytest
from sqlalchemy import Column, Enum, ForeignKey, Integer, String, Table, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, load_only, mapped_column, registry

from stockstore.errors import CodecError, ConfigurationError
from stockstore.mapped import UNLOADED, OtherShapeError, plan_of
from tests.mapped.conftest import Cached
from tests.mapped.models import Animal, Base, Cat, Doc, Dog, Plain, Seat, Truck, User, Vehicle
from tests.statements import Statements


class Mixin:
    pass


class Abstract(Base):
    __abstract__ = True


@pytest.mark.parametrize("cls", [int, Mixin, Base, Abstract])
def test_unmapped_class(cls: type) -> None:
    """A class without a mapping of its own is a ConfigurationError that names it."""
    with pytest.raises(ConfigurationError, match=rf"{cls.__qualname__} is not a class mapped by SQLAlchemy"):
        plan_of(cls)


def test_plain_subclass_of_a_mapped_class() -> None:
    """A subclass that is not mapped itself has no plan, although its base has one."""

    class Half(Plain):
        pass

    assert plan_of(Plain).cls is Plain
    with pytest.raises(ConfigurationError, match="Half is not a class mapped by SQLAlchemy"):
        plan_of(Half)


def test_attributes_of_a_plan() -> None:
    """A plan tells attributes, primary key and identity class."""
    assert plan_of(Seat).attrs == ("row", "number", "taken")
    assert plan_of(Seat).primary_key == ("row", "number")
    assert (plan_of(Dog).root, plan_of(Cat).root, plan_of(Truck).root) == (Animal, Animal, Truck)
    assert set(plan_of(Dog).attrs) == {"id", "kind", "name", "big", "bark"}
    assert set(plan_of(Doc).attrs) == {"id", "data", "spot_x", "spot_y", "title"}


@pytest.mark.parametrize(("cls", "key"), [(User, (1,)), (Dog, (1,)), (Truck, (1,)), (Seat, ("B", 7))])
def test_root_is_that_of_the_identity_key(cls: type, key: tuple[object, ...]) -> None:
    """The root is the class that SQLAlchemy puts into an identity key."""
    assert plan_of(cls).root is inspect(cls).identity_key_from_primary_key(key)[0]


def test_one_plan_for_all_threads() -> None:
    """Threads that ask for a plan at once get one and the same."""

    class Fresh(Base):
        __tablename__ = "fresh"
        id: Mapped[int] = mapped_column(primary_key=True)

    barrier, plans = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        plans.append(plan_of(Fresh))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(plans) == 8
    assert len({id(plan) for plan in plans}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_compiles_a_plan() -> None:
    """The child has the plan, and waits for nobody who is not there."""
    compiling, forking = threading.Event(), threading.Event()

    class Slow(String):
        def __repr__(self) -> str:  # the fingerprint asks for it
            compiling.set()
            forking.wait(20)
            return "Slow()"

    class Forked(Base):
        __tablename__ = "forked"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(Slow())

    compiler = threading.Thread(target=plan_of, args=[Forked])
    compiler.start()
    compiling.wait(20)
    threading.Timer(0.05, forking.set).start()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        forking.set()
        os._exit(0 if plan_of(Forked).attrs == ("id", "name") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    compiler.join(20)


def test_attribute_added_to_a_mapped_class() -> None:
    """A column that is added to a class after its plan is in the next plan."""

    class Growing(Base):
        __tablename__ = "growing"
        id: Mapped[int] = mapped_column(primary_key=True)

    before = plan_of(Growing)
    Growing.extra = mapped_column(String(5))
    assert (before.attrs, plan_of(Growing).attrs) == (("id",), ("id", "extra"))
    assert before.fingerprint != plan_of(Growing).fingerprint


def test_a_plan_does_not_outlive_its_class() -> None:
    """Class and plan are collected together."""

    class TemporaryBase(DeclarativeBase):
        pass

    def make() -> weakref.ref[type]:
        class Short(TemporaryBase):
            __tablename__ = "short"
            id: Mapped[int] = mapped_column(primary_key=True)

        plan_of(Short)
        return weakref.ref(Short)

    gone = make()
    TemporaryBase.registry.dispose()
    TemporaryBase.metadata.clear()
    gc.collect()
    assert gone() is None


def test_class_with_slots() -> None:
    """A class without a __dict__ cannot be planned, and the error says why."""

    class Slotted:
        __slots__ = ("__weakref__", "_sa_instance_state")

    mapping = registry()
    mapping.map_imperatively(Slotted, Table("slotted", mapping.metadata, Column("id", Integer, primary_key=True)))
    with pytest.raises(ConfigurationError, match=r"Slotted has __slots__ and no __dict__"):
        plan_of(Slotted)
    mapping.dispose()


SCRIPT = """
import enum
from sqlalchemy import Enum, JSON
from sqlalchemy.types import UserDefinedType
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from stockstore.mapped import plan_of

class Base(DeclarativeBase): pass
class Colour(enum.Enum):
    RED = 1
class Kind(enum.Enum):
    A = "a"
class T(UserDefinedType):
    cache_ok = True
    def __init__(self, hook): self.hook = hook
    def get_col_spec(self): return "T"
class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    colour = mapped_column(Enum(Colour, values_callable=lambda cls: [str(m.value) for m in cls]))
    other = mapped_column(T(lambda: 1))
    kind = mapped_column(Enum(Kind))
    doc = mapped_column(JSON)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": Kind.A}
plan = plan_of(Thing)
print(plan.fingerprint.hex(), plan.pack((1, Colour.RED, 2, Kind.A, {"x": 1})).hex())
"""


def test_fingerprint_is_the_same_in_every_process() -> None:
    """Two processes with two hash seeds write the same payload for the same state."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."}, capture_output=True, text=True, check=True
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.split()[0]) == 16


def _fingerprint(**columns: Column[object]) -> bytes:
    class Local(DeclarativeBase):
        pass

    body = {"__tablename__": "t", "id": Column(Integer, primary_key=True), "__module__": __name__, "__qualname__": "Thing"} | columns
    return plan_of(type("Thing", (Local,), body)).fingerprint


def test_fingerprint_follows_the_schema() -> None:
    """Another column, another name of one, and another type give another fingerprint; the same shape gives the same."""
    shapes = [
        _fingerprint(),
        _fingerprint(a=Column(Integer)),
        _fingerprint(b=Column(Integer)),
        _fingerprint(a=Column(String(5))),
        _fingerprint(a=Column(String(6))),
        _fingerprint(a=Column(Enum("x", "y"))),
    ]
    assert len(set(shapes)) == len(shapes)
    assert _fingerprint(a=Column(Integer)) == shapes[1]


def test_fingerprint_follows_the_polymorphic_identity() -> None:
    """A class that changes its polymorphic identity changes its fingerprint."""

    def of(identity: str) -> bytes:
        class Local(DeclarativeBase):
            pass

        class Thing(Local):
            __tablename__ = "t"
            id: Mapped[int] = mapped_column(primary_key=True)
            kind: Mapped[str] = mapped_column(String(5))
            __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": identity}

        return plan_of(Thing).fingerprint

    assert of("a") == of("a") != of("b")


def test_relative_that_grew() -> None:
    """A payload of a subclass from before it got another column is of another shape."""

    class Stem(Base):
        __tablename__ = "stem"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "stem"}

    class Leaf(Stem):
        __mapper_args__ = {"polymorphic_identity": "leaf"}

    before = plan_of(Leaf).pack((1, "leaf"))
    assert plan_of(Stem).unpack(before)[1] == (1, "leaf")
    Leaf.size = mapped_column(Integer)
    with pytest.raises(OtherShapeError):
        plan_of(Stem).unpack(before)


def test_payload_of_a_subclass(cached: Cached) -> None:
    """The plan of any class of a hierarchy reads the payload of any other, and tells its plan."""
    _, dog = cached(Dog, 1)
    for asked in (Animal, Dog, Cat):
        plan, state = plan_of(asked).unpack(dog)
        assert plan is plan_of(Dog)
        assert state[plan.attrs.index("bark")] == "woof"


def test_payload_of_a_concrete_subclass(cached: Cached) -> None:
    """The plan of a base reads the payload of a concrete subclass."""
    assert plan_of(Vehicle).unpack(cached(Truck, 1)[1])[0] is plan_of(Truck)


def test_payload_of_a_class_mapped_later() -> None:
    """A subclass that is mapped after the first unpack is found too."""

    class Late(Base):
        __tablename__ = "late"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "late"}

    with pytest.raises(CodecError):
        plan_of(Late).unpack(b"x" * 20)

    class Later(Late):
        __tablename__ = "later"
        id: Mapped[int] = mapped_column(ForeignKey("late.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "later"}

    payload = plan_of(Later).pack((1, "later"))
    assert plan_of(Late).unpack(payload) == (plan_of(Later), (1, "later"))


@pytest.mark.parametrize("payload", [b"", b"short", b"12345678", b"12345678\x01\x91\x01"])
def test_unknown_fingerprint(payload: bytes) -> None:
    """A payload of another class or schema is an OtherShapeError that says so."""
    with pytest.raises(OtherShapeError, match=r"models\.User: the payload's fingerprint .* is that of another class or schema"):
        plan_of(User).unpack(payload)


def test_dehydrate_expired(session: Session, sql: Statements) -> None:
    """An expired instance gives UNLOADED for every column, without SQL."""
    user = session.get(User, 1)
    session.expire(user)
    sql.take()
    assert set(plan_of(User).dehydrate(user)) == {UNLOADED}
    assert sql.take() == []


def test_dehydrate_partly_loaded(session: Session, sql: Statements) -> None:
    """A column that a select left out is UNLOADED and stays unloaded."""
    user = session.scalars(select(User).options(load_only(User.name)).where(User.id == 1)).one()
    sql.take()
    plan = plan_of(User)
    state = dict(zip(plan.attrs, plan.dehydrate(user), strict=True))
    assert (state["id"], state["name"], state["email"]) == (1, "Ann", UNLOADED)
    assert sql.take() == []


def test_dehydrate_another_class(session: Session) -> None:
    """An instance of a subclass is refused: its own plan has more columns."""
    with pytest.raises(CodecError, match=r"Dog is not .*Animal: use plan_of\(type\(obj\)\)"):
        plan_of(Animal).dehydrate(session.get(Dog, 1))


def test_state_without_primary_key(session: Session) -> None:
    """A state whose primary key is unloaded cannot become an instance."""
    plan = plan_of(User)
    state = (UNLOADED,) * len(plan.attrs)
    for build in (plan.hydrate, lambda row: plan.attach(session, row), lambda row: plan.attach_many(session, [row])):
        with pytest.raises(CodecError, match=r"User\.id is unloaded"):
            build(state)
    assert len(session.identity_map) == 0
