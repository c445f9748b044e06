"""A lazy load of a one-to-many relationship that is a hit needs no statement, and gives what its statement gives; whatever is not plain has one."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, inspect, text, update
from sqlalchemy.orm import (
    ORMExecuteState,
    PassiveFlag,
    Session,
    load_only,
    sessionmaker,
    strategies,
    with_loader_criteria,
)
from sqlalchemy.util import immutabledict

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync
from stockstore_ext.sqlalchemy.read_through import listeners
from stockstore_ext.sqlalchemy.read_through.lazy_lists import LazyList
from tests.read_through.rack_programs import PROGRAMS, first_rack, ids_of, shown
from tests.read_through.racks import Base, Bottle, Cooler, Rack, rows
from tests.read_through.served import Run, is_error, outcome
from tests.statements import recorded
from tests.stores.shop import empty
from tests.sync.conftest import ON_SQLITE, Attach
from tests.sync.paths import Path

SERVED = ("bottles", "latest", "unordered", "by_number", "named")
LOADER: Any = getattr(strategies, "_LazyLoader", None) or getattr(strategies, "LazyLoader", None)


@pytest.fixture
def cellar(attach: Attach, db: Engine) -> Path:
    """Rows that are cached with their lists, whose lazy loads are known."""
    Base.metadata.create_all(db)
    path = attach(read_through=True)
    prepare(path)
    return path


def prepare(path: Path) -> None:
    """Have all rows be as at first, all lists be cached, and their loads be known."""
    restore(path)
    for _ in range(3):
        read_all(path)


def restore(path: Path) -> None:
    """Have all rows be as at first, and nothing cached."""
    empty(path.other, Base.metadata)
    path.store.clear()
    with Session(path.other) as session:
        session.add_all(rows())
        session.commit()


def read_all(path: Path) -> None:
    """Load each list."""
    with path.maker() as session:
        for number in (1, 2, 3, 4):
            rack = session.get_one(Rack, number)
            for name in SERVED:
                getattr(rack, name)


@pytest.fixture
def statements(cellar: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The relationships for which SQLAlchemy builds a statement from now on."""
    del cellar
    return built_from_now(monkeypatch)


@pytest.fixture
def statements_above(above: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same."""
    del above
    return built_from_now(monkeypatch)


def built_from_now(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the relationships for which SQLAlchemy will build a statement."""
    built: list[str] = []
    build = LOADER._emit_lazyload

    def emit(self: Any, *given: Any, **named: Any) -> Any:
        built.append(self.key)
        return build(self, *given, **named)

    monkeypatch.setattr(LOADER, "_emit_lazyload", emit)
    return built


def loaders(cls: type = Rack) -> dict[str, Any]:
    """Give what loads the relationships of a class."""
    return {prop.key: getattr(cls.__mapper__.class_manager[prop.key].impl, "callable_", None) for prop in cls.__mapper__.relationships}  # type: ignore[attr-defined]


# -- hits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 3, 4])
@pytest.mark.parametrize("name", SERVED)
def test_needs_no_statement(cellar: Path, statements: list[str], name: str, number: int) -> None:
    """A hit gives what the database gave before it was changed unseen, in the relationship's order; no statement is built for it."""
    with Session(cellar.other) as session:
        expected = shown(getattr(session.get_one(Rack, number), name))
    statements.clear()
    with cellar.other.begin() as connection:
        connection.execute(text("UPDATE lazy_bottles SET label = 'unseen'"))
    with cellar.maker() as session, recorded(cellar.engine) as sent:
        rack = session.get_one(Rack, number)
        found = getattr(rack, name)
        assert (shown(found), sent) == (expected, [])
        assert all(isinstance(bottle, Rack) or bottle in session for bottle in session.identity_map.values())
    # Of the rows of a subclass a shared cache tells the class by the longer way.
    longer = number == 4 and isinstance(cellar.store.tiers[0], RedisStore)
    assert statements == [name] * longer


# -- whatever is not plain ----------------------------------------------------------------------------


class _Told:
    """What happens to instances meanwhile."""

    NAMES = ("loaded_as_persistent", "pending_to_persistent", "persistent_to_deleted")

    def __init__(self, maker: Any) -> None:
        self.all: list[Any] = []
        self._heard = [(Bottle, name, self._load(name), {"propagate": True}) for name in ("load", "refresh")]
        self._heard += [(maker, name, self._moved(name), {}) for name in self.NAMES]

    def _load(self, name: str) -> Callable[..., None]:
        return lambda bottle, *_: self.all.append((name, bottle.__dict__.get("id")))

    def _moved(self, name: str) -> Callable[..., None]:
        return lambda _, instance: self.all.append((name, type(instance).__name__, inspect(instance).identity))

    @contextmanager
    def hear(self) -> Iterator[list[Any]]:
        for target, name, listener, options in self._heard:
            event.listen(target, name, listener, **options)
        try:
            yield self.all
        finally:
            for target, name, listener, _ in self._heard:
                event.remove(target, name, listener)


COUNTED = ("hits", "misses", "puts", "deletes", "evictions", "errors")


def _counts(path: Path) -> Counter[str]:
    stats = path.store.stats()
    return Counter({name: getattr(stats, name) for name in COUNTED} | {f"past: {why}": count for why, count in stats.bypasses.items()})


def _ran(path: Path, run: Run) -> dict[str, Any]:
    """Give all that can be told of a run in a session with the hook."""
    restore(path)
    read_all(path)
    before = _counts(path)
    with recorded(path.engine) as sent, _Told(path.maker).hear() as told:
        values = outcome(path.maker, run)
    return {"values": _placeless(values), "sent": [*sent], "told": _ordered(told), "counts": _counts(path) - before}


def _placeless(values: Any) -> Any:
    """Give errors without the addresses of instances."""
    return tuple(re.sub("0x[0-9a-f]+", "0x", str(part)) for part in values) if is_error(values) else values


def _ordered(told: list[Any]) -> list[Any]:
    """Give the loads in their order, and the rest, which SQLAlchemy does in the order of sets, in some order."""
    return [happening for happening in told if "load" in happening[0]] + sorted(
        happening for happening in told if "load" not in happening[0]
    )


def _always_loading(self: LazyList, state: Any, passive: Any = PassiveFlag.PASSIVE_OFF) -> Any:
    return self._loader(state, passive)


@pytest.mark.parametrize("name", PROGRAMS)
def test_same(cellar: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Values, errors, events, SQL and counts are those of the same sessions whose lazy loads all have their statement; values those of plain ones."""
    found = _ran(cellar, PROGRAMS[name])
    monkeypatch.setattr(LazyList, "__call__", _always_loading)
    assert found == _ran(cellar, PROGRAMS[name])
    restore(cellar)
    assert found["values"] == _placeless(outcome(lambda: Session(cellar.other), PROGRAMS[name]))


# -- sessions that are not served so -----------------------------------------------------------------


class _Routed(Session):
    """Executes in its own way."""

    def execute(self, *given: Any, **named: Any) -> Any:
        """Do as SQLAlchemy."""
        return super().execute(*given, **named)


def _patched(session: Session) -> None:
    vars(session)["execute"] = partial(Session.execute, session)


def _strictly(session: Session) -> None:
    session.execution_options = immutabledict({"stockstore_strict": True})


DISTURBED: dict[str, Callable[[Session], Any]] = {
    "listener": lambda session: event.listen(session, "do_orm_execute", lambda _: None),
    "listener of the class": lambda session: event.listen(type(session), "do_orm_execute", lambda _: None),
    "execute that was replaced": _patched,
    "strict session": _strictly,
    "unflushed object": lambda session: session.add(Rack(id=60)),
    "written": lambda session: session.execute(update(Bottle).where(Bottle.id == 2).values(year=2000)),
    "connection with options": lambda session: session.connection(execution_options={"logging_token": "a"}),
    "another bind": lambda session: session.bind_mapper(Bottle, create_engine(session.get_bind().engine.url)),
    "parent with options": lambda session: session.info.update(held=session.get(Rack, 1, options=[load_only(Rack.code)])),
}


@pytest.mark.parametrize("name", DISTURBED)
def test_has_a_statement(cellar: Path, statements: list[str], name: str) -> None:
    """Where a session, its class, its transaction or the parent are not plain, the statement is built, which is judged as any other."""
    with cellar.maker() as session:
        assert ids_of(first_rack(session)) == [2, 4, 6, 8]
        assert statements == []
        session.expunge_all()
        DISTURBED[name](session)
        assert ids_of(first_rack(session)) == [2, 4, 6, 8]
        assert statements == ["bottles"]


def test_listener_hears_of_it(cellar: Path) -> None:
    """A listener that the application adds hears of the statement, and may change it."""
    with cellar.maker() as session:

        @event.listens_for(session, "do_orm_execute")
        def narrow(execution: ORMExecuteState) -> None:
            execution.statement = execution.statement.options(with_loader_criteria(Bottle, Bottle.id > 4))

        assert ids_of(first_rack(session)) == [6, 8]


def test_other_sessions(cellar: Path, statements: list[str]) -> None:
    """A session that no hook is attached to, and one of a class that executes in its own way, have the statement."""
    with Session(cellar.other) as session:
        assert ids_of(first_rack(session)) == [2, 4, 6, 8]
    maker = sessionmaker(cellar.engine, class_=_Routed)
    sync = SessionSync(cellar.store, read_through=True).attach(maker)
    for _ in range(3):
        with maker() as session:
            assert ids_of(first_rack(session)) == [2, 4, 6, 8]
    sync.detach()
    assert statements == ["bottles"] * 4


def _by_year(statement: Any) -> Any:
    return statement.order_by(None).order_by(Bottle.year, Bottle.id)


class _Reordering(Session):
    """Has a relationship in another order."""

    def execute(self, statement: Any, *given: Any, **named: Any) -> Any:
        """Do as SQLAlchemy with another statement."""
        return super().execute(_by_year(statement) if "lazy_bottles" in str(statement) else statement, *given, **named)


def _reorder(execution: ORMExecuteState) -> None:
    if execution.lazy_loaded_from is not None:
        execution.statement = _by_year(execution.statement)


@pytest.mark.parametrize("between", ["listener", "execute"])
def test_nothing_is_learnt_from_a_statement_that_was_changed(cellar: Path, between: str) -> None:
    """What one class of sessions makes of a lazy load is not what the others get."""
    cellar.sync.detach()
    served = cellar.maker.class_
    bases = (_Reordering, served) if between == "execute" else (served,)
    changing: sessionmaker[Session] = sessionmaker(cellar.engine, class_=type("Changing", bases, {}))
    if between == "listener":
        event.listen(changing, "do_orm_execute", _reorder)
    sync = SessionSync(cellar.store, read_through=True).attach(served)
    found = []
    for maker in (changing, changing, cellar.maker, cellar.maker, cellar.maker, changing):
        with maker() as session:
            found.append(ids_of(first_rack(session)))
    sync.detach()
    assert found == [[8, 6, 4, 2]] * 2 + [[2, 4, 6, 8]] * 3 + [[8, 6, 4, 2]]


def test_session_in_a_strict_read(cellar: Path, statements: list[str]) -> None:
    """What a strict read looks at while it is at work is read strictly, too."""

    @event.listens_for(Rack, "refresh")
    def look(rack: Rack, *_: object) -> None:
        ids_of(rack)

    try:
        with cellar.maker() as session:
            rack = first_rack(session)
            session.expire(rack)
            session.get(Rack, 1, execution_options={"stockstore_strict": True})
    finally:
        event.remove(Rack, "refresh", look)
    assert statements == ["bottles"]


# -- attaching and detaching -------------------------------------------------------------------------


def test_which_relationships(cellar: Path) -> None:
    """Those of which something was served, and that are collections by one value, for each class that they were loaded for."""
    with cellar.maker() as session:
        for name, run in PROGRAMS.items():
            if name.startswith("lazy") or name in ("criteria of its own", "ordered by text", "a scalar"):
                outcome(lambda: session, run)
    for cls in (Rack, Cooler):
        assert {name for name, loader in loaders(cls).items() if type(loader) is LazyList} == set(SERVED)
    assert not any(type(loader) is LazyList for loader in loaders(Bottle).values())


def test_detached(cellar: Path, attach: Attach, statements: list[str]) -> None:
    """Without a hook a relationship is as it was; one hook leaves what another needs."""
    other = attach(read_through=True)
    for _ in range(2):
        with other.maker() as session:
            first_rack(session).bottles  # noqa: B018 - it loads
    cellar.sync.detach()
    assert [name for name, loader in loaders().items() if type(loader) is LazyList] == ["bottles"]
    statements.clear()
    for maker in (other.maker, cellar.maker):
        with maker() as session:
            assert ids_of(first_rack(session)) == [2, 4, 6, 8]
    assert statements == ["bottles"]
    other.sync.detach()
    for cls in (Rack, Cooler):
        assert not any(type(loader) is LazyList for loader in loaders(cls).values())
        assert loaders(cls)["bottles"].__func__ is LOADER._load_for_state


def test_detached_while_a_load_is_under_way(cellar: Path, attach: Attach) -> None:
    """What was still being answered then is not learnt from."""
    other = attach(read_through=True)
    cellar.sync.detach()
    with other.maker() as session:
        first_rack(session).bottles  # noqa: B018 - the caches have it then
    other.sync.detach()
    other.sync.attach(other.maker)

    def detach(*_: object) -> None:
        other.sync.detach()

    with other.maker() as session:
        rack = first_rack(session)
        event.listen(Bottle, "load", detach)
        try:
            assert ids_of(rack) == [2, 4, 6, 8]
        finally:
            event.remove(Bottle, "load", detach)
    assert loaders()["bottles"].__func__ is LOADER._load_for_state


def test_somebody_else_in_its_place(cellar: Path) -> None:
    """What others have put in front of it stays when a hook goes, and may call it."""
    impl, before = Rack.__mapper__.class_manager["bottles"].impl, loaders()["bottles"]
    impl.callable_ = theirs = partial(before)
    try:
        cellar.sync.detach()
        assert impl.callable_ is theirs
        with cellar.maker() as session:
            assert ids_of(first_rack(session)) == [2, 4, 6, 8]
    finally:
        impl.callable_ = before._loader


def test_many_classes_of_sessions(cellar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of which nothing is kept any more learn it again."""
    monkeypatch.setattr(listeners, "CLASSES", 2)
    for _ in range(5):
        maker: sessionmaker[Session] = sessionmaker(cellar.engine, class_=type("One", (cellar.maker.class_,), {}))
        for _ in range(3):
            with maker() as session:
                assert ids_of(first_rack(session)) == [2, 4, 6, 8]
        assert len(loaders()["bottles"].readers) <= 2
        assert maker.class_ in loaders()["bottles"].readers


# -- misses -------------------------------------------------------------------------------------------


@pytest.fixture
def above(db: Engine, other: Engine, redis_url: str, namespace: str) -> Iterator[Path]:
    """The same with process memory above Redis."""
    Base.metadata.create_all(db)
    maker: sessionmaker[Session] = sessionmaker(db, class_=type("Above", (Session,), {}))
    memory = ProcessMemoryStore(max_staleness=3600.0, channel=None)
    with ChainedStore([memory, RedisStore(redis_url, namespace=namespace), SqlAlchemyStore(engine=db)]) as store:
        sync = SessionSync(store, read_through=True).attach(maker)
        path = Path(db, other, store, maker, sync)
        prepare(path)
        yield path
        sync.detach()


@ON_SQLITE
def test_miss_is_read_once(above: Path, statements_above: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What memory lacks comes from Redis with no statement; what no cache has goes on from what was read there, and counts as it does."""
    memory, *_ = above.store.tiers
    ways: list[list[dict[str, int]]] = []
    for loads in (LazyList.__call__, _always_loading):
        monkeypatch.setattr(LazyList, "__call__", loads)
        ways.append([_counted_after(above, clear) for clear in (memory.clear, above.store.clear, list)])
    assert ways[0] == ways[1]
    assert [counts.get("hits", 0) for counts in ways[0]] == [6, 0, 6]
    assert statements_above == ["bottles"] * (1 + 3)


@ON_SQLITE
def test_what_was_read_is_given_back(above: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no statement comes after all, the next session is not kept waiting for the fill, and memory is filled by it."""
    above.store.clear()
    with monkeypatch.context() as patch, above.maker() as session:
        patch.setattr(LOADER, "_emit_lazyload", None)
        rack = first_rack(session)
        with pytest.raises(TypeError):
            rack.bottles  # noqa: B018 - it loads
    for _ in range(2):
        _counted_after(above, list)
    with recorded(above.engine) as sent:
        assert _counted_after(above, list) == {"hits": 1 + 5}
    assert sent == []
    assert not any(reader._handed for reader in loaders()["bottles"].readers.values())


def _counted_after(path: Path, change: Callable[[], object]) -> dict[str, int]:
    change()
    before = _counts(path)
    with path.maker() as session:
        assert ids_of(first_rack(session)) == [2, 4, 6, 8]
    return dict(_counts(path) - before)
