"""The short way to the rows of a statement gives what the longer one gives, and is not taken where anything is not plain."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy.orm.session
from sqlalchemy import Engine, Select, create_engine, event, select, text
from sqlalchemy.orm import Session, selectinload, sessionmaker
from sqlalchemy.util import immutabledict

from stockstore import ChainedStore, RedisStore, SqlAlchemyStore, Store, cells, lifetimes
from stockstore.coherence import claims
from stockstore.instrumentation import add_hook, remove_hook
from stockstore.lifetimes import LifetimeRule
from stockstore.stores import claimed, hits, local
from stockstore.stores.tiers import local_lists
from stockstore_ext.sqlalchemy import SessionSync
from stockstore_ext.sqlalchemy.read_through.serving import Serving
from tests.read_through.test_quick import DISTURBED, Disturb
from tests.stores.listed import Animal, Cat, Dog, Item, Mark, Owner, create_tables, empty
from tests.sync.conftest import ON_SQLITE, Attach
from tests.sync.paths import Path

# The short way asks a cache, whatever the database: memory above SQLite and Redis above PostgreSQL are all of its cases.
ON_BOTH_CACHES = pytest.mark.parametrize("cache", ["memory", "redis"], indirect=True)

KEYS = select(Item).where(Item.id.in_([3, 1, 2])).order_by(Item.id)
LIST = select(Item).where(Item.owner_id == 1).order_by(Item.id.desc())
ANIMALS = select(Animal).where(Animal.owner_id == 1).order_by(Animal.id)
EMPTY = select(Item).where(Item.owner_id == 3)
STATEMENTS: dict[str, Select[Any]] = {
    "keys": KEYS,
    "keys in an order": KEYS.order_by(None).order_by(Item.tenant, Item.id.desc()),
    "animals by keys": select(Animal).where(Animal.id.in_([1, 2, 3])).order_by(Animal.id.desc()),
    "list": LIST,
    "list by two": LIST.order_by(None).order_by(Item.tenant.desc(), Item.id),
    "empty list": EMPTY,
    "animals": ANIMALS,
}


ON_MEMORY_ALONE = {"animals by keys", "animals"}
"""Of a hierarchy's rows a shared cache tells the class by the longer way."""


class LongerError(Exception):
    """The longer way was taken."""


@pytest.fixture
def listed(attach: Attach, db: Engine) -> Path:
    """Rows that are cached with their lists."""
    create_tables(db)
    empty(db)
    path = attach(read_through=True)
    path.seed(*(Owner(id=n) for n in (1, 2, 3)))
    path.seed(*(Item(id=n, owner_id=1 + n % 2, tenant=n // 3) for n in (4, 3, 2, 1)))
    path.seed(Mark(id=1, owner_id=1))
    path.seed(Dog(id=1, owner_id=1, breed="pug"), Cat(id=2, owner_id=1), Cat(id=3, owner_id=2))
    for _ in range(3):
        for statement in (*STATEMENTS.values(), select(Mark).where(Mark.owner_id == 1)):
            shown(path.maker, statement)
    return path


def columns(instance: Any) -> dict[str, Any]:
    """Give the column values of an instance."""
    return {prop.key: getattr(instance, prop.key) for prop in type(instance).__mapper__.column_attrs}


def shown(make: Callable[[], Session], statement: Select[Any]) -> list[Any]:
    """Give what a statement gives in a session of its own."""
    with make() as session:
        return [(type(found), columns(found)) for found in session.scalars(statement)]


@pytest.fixture
def no_longer_way(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the longer way fail."""

    def fail(*_: object, **__: object) -> None:
        raise LongerError

    for entrance in ("refuses", "states", "lists"):
        monkeypatch.setattr(Serving, entrance, fail)


def is_short(session: Session, statement: Select[Any] = LIST) -> bool:
    """Whether a statement reaches neither the longer way nor the database."""
    asked: list[object] = []
    engine = session.get_bind()

    def hear(*given: Any) -> None:
        asked.append(given[2])

    event.listen(engine, "before_cursor_execute", hear)
    try:
        found = session.scalars(statement).all()
    except LongerError:
        return False
    finally:
        event.remove(engine, "before_cursor_execute", hear)
    assert all(instance in session for instance in found)
    return not asked


@pytest.mark.parametrize("name", STATEMENTS)
@pytest.mark.usefixtures("no_longer_way")
def test_same(listed: Path, name: str) -> None:
    """The rows are those of the database, in its order, and others than the database has by now: nobody asks it."""
    if name in ON_MEMORY_ALONE and isinstance(listed.store.tiers[0], RedisStore):
        with listed.maker() as session, pytest.raises(LongerError):
            session.scalars(STATEMENTS[name])
        return
    expected = shown(lambda: Session(listed.other), STATEMENTS[name])
    with listed.other.begin() as connection:
        connection.execute(text("UPDATE listed_items SET title = 'unseen'"))
    assert shown(listed.maker, STATEMENTS[name]) == expected


OPTIONS: dict[str, dict[str, Any]] = {
    "execution options": {"execution_options": {"logging_token": "a"}},
    "bind arguments": {"bind_arguments": {"mapper": Item.__mapper__}},
    "event": {"_add_event": lambda _: None},
}


@pytest.fixture
def unprepared(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a statement fail of which listeners are to hear, once the rows are cached."""
    del listed
    monkeypatch.setattr(sqlalchemy.orm.session, "ORMExecuteState", None)


@pytest.mark.usefixtures("no_longer_way", "unprepared")
def test_at_once(listed: Path) -> None:
    """SQLAlchemy prepares nothing for listeners where a cache answers a statement without options; of one that has some they hear."""
    with listed.maker() as session:
        assert len(session.scalars(LIST).all()) == len(session.execute(LIST).all()) > 0
        assert session.scalar(LIST) is session.scalars(LIST).first()
        for options in OPTIONS.values():
            with pytest.raises(TypeError):
                session.scalars(LIST, **options)
        with pytest.raises(TypeError):
            session.scalars(LIST.execution_options(logging_token="a"))
        event.listen(session, "do_orm_execute", lambda _: None)
        with pytest.raises(TypeError):
            session.scalars(LIST)


@pytest.mark.parametrize("name", STATEMENTS)
def test_at_once_from_the_database(listed: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Nor does it where the caches lack the rows, which they have afterwards."""
    expected = shown(lambda: Session(listed.other), STATEMENTS[name])
    monkeypatch.setattr(sqlalchemy.orm.session, "ORMExecuteState", None)
    listed.store.tiers[0].clear()
    assert [shown(listed.maker, STATEMENTS[name]) for _ in range(2)] == [expected] * 2
    with listed.other.begin() as connection:
        connection.execute(text("UPDATE listed_items SET title = 'unseen'"))
    assert shown(listed.maker, STATEMENTS[name]) == expected


@pytest.mark.parametrize("name", ["keys", "list"])
def test_what_is_refused_is_executed_unheard(listed: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Where it turns out that only the database can tell, the statement is executed as it is, and the caches are not asked again."""
    expected = shown(lambda: Session(listed.other), STATEMENTS[name])
    asked: list[None] = []
    listed.store.tiers[0].clear()
    monkeypatch.setattr(sqlalchemy.orm.session, "ORMExecuteState", None)
    monkeypatch.setattr(Serving, "states", lambda *_, **__: asked.append(None))
    monkeypatch.setattr(Serving, "lists", lambda *_, **__: asked.append(None))
    assert shown(listed.maker, STATEMENTS[name]) == expected
    assert asked == [None]


@pytest.mark.usefixtures("no_longer_way", "unprepared")
def test_unheard(listed: Path) -> None:
    """Nor does it for what is not recognised, until somebody listens: to the session, or to its class."""
    statement = LIST.limit(1)
    with listed.maker() as session:
        (item,) = session.scalars(statement)
        assert session.scalar(statement) is item
        for options in OPTIONS.values():
            with pytest.raises(TypeError):
                session.scalars(statement, **options)
    for target in (listed.maker(), listed.maker):
        event.listen(target, "do_orm_execute", _silent)
        with pytest.raises(TypeError), target if isinstance(target, Session) else target() as session:
            session.scalars(statement)
        event.remove(target, "do_orm_execute", _silent)
    with listed.maker() as session:
        assert session.scalar(statement) is not None


def _silent(_: object) -> None: ...


@pytest.mark.usefixtures("unprepared")
def test_two_hooks(listed: Path) -> None:
    """What one hook has nothing to do with, another of the same sessions, or of those of a class above, may answer: both hear of it."""
    for cls in (listed.maker.class_, type("Below", (listed.maker.class_,), {})):
        other = SessionSync(ChainedStore([listed.store.tiers[0], SqlAlchemyStore(engine=listed.engine)]), read_through=[Mark])
        make: sessionmaker[Session] = sessionmaker(listed.engine, class_=cls)
        other.attach(cls)
        with make() as session, pytest.raises(TypeError):
            session.scalars(LIST)
        other.detach()


def test_as_it_was_found(listed: Path) -> None:
    """A Session class is left with the methods that it had."""
    (attached,) = [cls for cls in listed.maker.class_.__mro__ if "_execute_internal" in vars(cls) and cls is not Session]
    listed.sync.detach()
    assert not {"_execute_internal", "_identity_lookup", "get"} & vars(attached).keys()


@pytest.mark.usefixtures("no_longer_way")
def test_begins(listed: Path) -> None:
    """A transaction is begun, by whose rollback the instances expire."""
    with listed.maker() as session:
        item = session.scalars(LIST).first()
        assert session.in_transaction()
        session.rollback()
        assert item is not None
        assert "title" not in vars(item)


@pytest.mark.usefixtures("no_longer_way")
def test_counted(listed: Path) -> None:
    """It counts as the longer way does: each row, and the list."""
    before = listed.store.stats()
    with listed.maker() as session:
        session.scalars(LIST).all()
        session.scalars(KEYS).all()
    after = listed.store.stats()
    assert (after.hits, after.misses) == (before.hits + 3 + 3, before.misses)


@pytest.mark.usefixtures("no_longer_way")
def test_instances_that_are_there(listed: Path) -> None:
    """An instance of the session is given, with what it holds, and is told what it lacks."""
    told: list[Any] = []

    def hear(target: Any, _context: object, names: Any) -> None:
        told.append((target.id, set(names)))

    event.listen(Item, "refresh", hear)
    try:
        with listed.maker(autoflush=False) as session:
            first, second, *_ = kept = session.scalars(KEYS).all()
            first.title = "mine"
            session.expire(second, ["title"])
            told.clear()
            assert [*session.scalars(KEYS)] == kept
            assert (first.title, vars(second)["title"]) == ("mine", "old")
        assert [number for number, names in told if "title" in names] == [2]
    finally:
        event.remove(Item, "refresh", hear)


OWN: dict[str, Disturb] = {
    "unflushed object": lambda session: session.add(Item(id=9, owner_id=1)),
    "options of the session": lambda session: setattr(session, "execution_options", immutabledict({"stockstore": False})),
    "another bind": lambda session: session.bind_mapper(Item, create_engine("sqlite://")),
}


@pytest.mark.parametrize("name", DISTURBED)
@pytest.mark.usefixtures("no_longer_way")
def test_not_taken_by(listed: Path, name: str) -> None:
    """Where a session, its class or its engine are not as they were, the longer way decides, or the statement is executed."""
    with listed.maker() as session:
        assert is_short(session, KEYS)
        assert is_short(session)
        OWN.get(name, DISTURBED[name])(session)
        assert not is_short(session, KEYS)
        assert not is_short(session)
    listed.engine.update_execution_options(stockstore=None)
    listed.engine.dispose()


UNPLAIN: dict[str, Select[Any]] = {
    "absent": select(Item).where(Item.id.in_([1, 7])),
    "another type": select(Item).where(Item.id.in_([1, 2.0])),
    "none": select(Item).where(Item.id.in_([])),
    "two lists": select(Item).where(Item.owner_id.in_([1, 2])),
    "list that nobody has": select(Item).where(Item.owner_id == 99),
    "list of a subclass": select(Dog).where(Dog.owner_id == 1),
    "list by two values": select(Item).where(Item.tenant == 1, Item.kind == "book"),
    "anew": KEYS.execution_options(stockstore_refresh=True),
}


@pytest.mark.parametrize("name", UNPLAIN)
@pytest.mark.usefixtures("no_longer_way")
def test_not_taken_for(listed: Path, name: str) -> None:
    """What is not wholly a batch of plain hits is the longer way's."""
    with listed.maker() as session:
        assert is_short(session)
        assert not is_short(session, UNPLAIN[name])


def _changed(listed: Path) -> None:
    with listed.maker.begin() as session:
        session.get_one(Item, 2).title = "new"


CHANGES: dict[str, tuple[Select[Any], Callable[[Path], None]]] = {
    "row changed": (KEYS, _changed),
    "row of the list gone": (LIST, lambda listed: listed.sync.invalidate(Item, [2])),
    "class": (KEYS, lambda listed: listed.sync.invalidate(Item)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed(listed: Path, name: str) -> None:
    """What was changed, or removed, is read as the database has it."""
    statement, change = CHANGES[name]
    change(listed)
    with listed.other.begin() as connection:
        connection.execute(text("UPDATE listed_items SET title = 'new' WHERE id = 2"))
    for _ in range(3):
        assert shown(listed.maker, statement) == shown(lambda: Session(listed.other), statement)


def test_row_that_has_left_the_list(listed: Path) -> None:
    """A list of which a row carries another value by now is not believed."""
    with listed.other.begin() as connection:
        connection.execute(text("UPDATE listed_items SET owner_id = 2 WHERE id = 2"))
    listed.sync.invalidate(Item, [2])
    with listed.maker() as session:
        assert session.get_one(Item, 2).owner_id == 2
    assert shown(listed.maker, LIST) == shown(lambda: Session(listed.other), LIST)


def test_marked(listed: Path) -> None:
    """Nothing is given of what a writer is at work on: neither of a row, nor of a list that it leaves."""
    with listed.maker() as writer:
        item = writer.get_one(Item, 2)
        item.owner_id = 2
        writer.flush()
        seen: list[Any] = []

        tier: Any = listed.store.tiers[0]._tier  # type: ignore[attr-defined]
        mark = tier.mark

        def marking(places: object, ticket: bytes) -> None:
            mark(places, ticket)
            seen.extend(shown(listed.maker, statement) for statement in (KEYS, LIST))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tier, "mark", marking)
            writer.commit()
    assert [len(rows) for rows in seen] == [3, 2]
    for statement in (KEYS, LIST):
        assert shown(listed.maker, statement) == shown(lambda: Session(listed.other), statement)


@ON_SQLITE
@ON_BOTH_CACHES
def test_expired(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has outlived its time is no hit."""
    store: Any = listed.store.tiers[0]
    store._rule = LifetimeRule(60.0, 0.0)
    listed.sync.invalidate(Item)
    with listed.other.begin() as connection:
        for _ in range(3):
            expected = [shown(listed.maker, statement) for statement in (KEYS, LIST)]
        connection.execute(text("UPDATE listed_items SET title = 'new'"))
    assert [shown(listed.maker, statement) for statement in (KEYS, LIST)] == expected
    wall, steady = time.time() + 61, time.monotonic() + 61
    monkeypatch.setattr(cells, "time", SimpleNamespace(time=lambda: wall))
    monkeypatch.setattr(lifetimes, "time", SimpleNamespace(time=lambda: wall, monotonic=lambda: steady))
    for module in (hits, claimed, local, claims, local_lists):
        monkeypatch.setattr(module, "_now", lambda: steady)
    assert shown(listed.maker, KEYS) == shown(lambda: Session(listed.other), KEYS)
    assert shown(listed.maker, LIST) == shown(lambda: Session(listed.other), LIST)


def test_hooks(listed: Path) -> None:
    """While somebody listens to what stores do, each hit is told."""
    told: list[Any] = []

    def hook(happening: Any) -> None:
        told.append((happening.kind, happening.count))

    add_hook(hook)
    try:
        for statement in (KEYS, LIST):
            shown(listed.maker, statement)
    finally:
        remove_hook(hook)
    assert sum(count for kind, count in told if kind == "hit") == 3 + 1 + 2


def test_own_writes(listed: Path) -> None:
    """A session sees what it has written."""
    with listed.maker() as session:
        session.get_one(Item, 2).title = "mine"
        session.flush()
        assert {item.id: item.title for item in session.scalars(LIST)} == {4: "old", 2: "mine"}
        session.expunge_all()
        assert {item.id: item.title for item in session.scalars(KEYS)} == {1: "old", 2: "mine", 3: "old"}


def test_tenants(db: Engine, cache: Store) -> None:
    """Sessions with a tenant are served what is kept for him."""
    create_tables(db)
    empty(db)
    with Session(db) as session:
        session.add_all([Owner(id=1), Item(id=1, owner_id=1)])
        session.commit()
    with ChainedStore([cache, SqlAlchemyStore(engine=db)]) as store:
        maker: sessionmaker[Session] = sessionmaker(db, class_=type("Tenants", (Session,), {}))
        sync = SessionSync(store, read_through=True, scope=lambda session: session.info.get("tenant")).attach(maker)
        for tenant, title in (("a", "old"), ("b", "b")):
            with db.begin() as connection:
                connection.execute(text("UPDATE listed_items SET title = :title"), {"title": title})
            for _ in range(3):
                with maker(info={"tenant": tenant}) as session:
                    assert [item.title for item in session.scalars(select(Item).where(Item.id.in_([1])))] == [title]
        sync.detach()


@ON_SQLITE
@ON_BOTH_CACHES
@pytest.mark.usefixtures("no_longer_way")
def test_relationships(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loaders of relationships go the same way, where one list is asked for."""
    with listed.maker() as session:
        owner = session.get_one(Owner, 1)
        assert [item.id for item in owner.items] == [2, 4]
        with pytest.raises(LongerError):
            session.scalars(select(Owner).where(Owner.id.in_([1, 2, 3])).options(selectinload(Owner.items))).all()
