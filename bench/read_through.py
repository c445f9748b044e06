"""Sessions that read through the caches, beside the same sessions without the hook."""

from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from sqlalchemy import URL, Engine, create_engine, func, select
from sqlalchemy.orm import Session, sessionmaker

from bench.context import Context, expect
from bench.measure import Way
from bench.report import Row, Target, at_most, timed, times_faster
from bench.samples import User, columns, fill, user_row
from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore_ext.sqlalchemy import SessionSync

SUBJECT: Final = "reads of a session, in an open transaction"
_COUNT: Final = 1000
_NUMBERS: Final = list(range(1, _COUNT, 10))
_PLAIN: Final = "without the hook"
_MEMORY: Final = "from process memory"
_REDIS: Final = "from Redis"

_Targets = dict[tuple[str, str], Target]


class _Task(NamedTuple):
    """What is read, and how often a cache is hit by it."""

    statement: str
    hits: int
    wanted: object


_ONE: Final = "session.get"
_MANY: Final = "select(...).where(id.in_(100))"
_OTHER: Final = "a statement that is not recognised"
_TASKS: Final = {
    _ONE: _Task("session.get(User, 7)", 1, user_row(7)),
    _MANY: _Task("session.scalars(many).all()", len(_NUMBERS), [user_row(number) for number in _NUMBERS]),
    _OTHER: _Task("session.execute(other).all()", 0, [(_COUNT,)]),
}
_NAMES: Final = {
    "User": User,
    "many": select(User).where(User.id.in_(_NUMBERS)).order_by(User.id),
    "other": select(func.count(User.id)).where(User.score >= 0),
}
_POSTGRESQL: Final[_Targets] = {
    (_ONE, _MEMORY): times_faster(40),
    (_ONE, _REDIS): times_faster(2),
    (_MANY, _MEMORY): times_faster(8),
    (_MANY, _REDIS): times_faster(3),
}
_SQLITE: Final[_Targets] = {(_ONE, _MEMORY): times_faster(20)}
_UNRECOGNISED: Final = at_most(1.03)


def rows(context: Context) -> Iterator[Row]:
    yield from _database(context, context.servers.empty_database(), "PostgreSQL", _POSTGRESQL)
    with TemporaryDirectory() as folder:
        yield from _database(context, f"sqlite:///{folder}/bench.db", "SQLite in a file", _SQLITE)


def _database(context: Context, url: URL | str, database: str, targets: _Targets) -> Iterator[Row]:
    with ExitStack() as stack:
        plain = _engine(url, stack)
        fill(plain, _COUNT)
        sessions = {_PLAIN: stack.enter_context(Session(plain))}
        stores = {
            _MEMORY: ProcessMemoryStore(max_staleness=None),
            _REDIS: RedisStore(context.servers.redis, namespace=f"reads of {database}"),
        }
        for name, store in stores.items():
            sessions[name] = _reading(store, _engine(url, stack), stack)
        for task, (statement, hits, wanted) in _TASKS.items():
            for name, session in sessions.items():
                _check(f"{statement} {name}", session, statement, wanted, (stores[name], hits) if name in stores else None)
            times = context.race({name: Way(statement, _NAMES | {"session": session}) for name, session in sessions.items()})
            for name in stores:
                target = _UNRECOGNISED if task is _OTHER else targets.get((task, name))
                yield timed(SUBJECT, f"{task} {name}, {database}", times, _PLAIN, target, ours=name, faster=task is not _OTHER)


def _engine(url: URL | str, stack: ExitStack) -> Engine:
    engine = create_engine(url)
    stack.callback(engine.dispose)
    return engine


def _reading(cache: Store, engine: Engine, stack: ExitStack) -> Session:
    """Give a session that finds all rows in a cache."""
    store = stack.enter_context(ChainedStore([cache, SqlAlchemyStore(engine=engine)]))
    sync = SessionSync(store, read_through=True)
    if engine.dialect.name == "sqlite":
        sync.create_outbox(engine)
    # A class of its own: the hook changes the one that it is attached to.
    maker: sessionmaker[Session] = sessionmaker(engine, class_=type("Reading", (Session,), {}))
    sync.attach(maker)
    stack.callback(sync.detach)
    store.clear()
    store.batch_get(User, range(1, _COUNT + 1))
    return stack.enter_context(maker())


def _check(what: str, session: Session, statement: str, wanted: object, served: tuple[Store, int] | None) -> None:
    before = 0 if served is None else served[0].stats().hits
    found = eval(statement, _NAMES | {"session": session})
    expect(what, _plain(found), wanted)
    if served is not None:
        expect(f"{what}: hits", served[0].stats().hits - before, served[1])


def _plain(found: object) -> object:
    if isinstance(found, User):
        return columns(found)
    return [columns(each) if isinstance(each, User) else tuple(each) for each in found]  # type: ignore[attr-defined]
