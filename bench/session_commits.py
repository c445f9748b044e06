"""Commits of a session with the hook attached, beside the same commits without it."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Final, cast

from sqlalchemy import URL, Engine, Table, create_engine, func, select
from sqlalchemy.orm import Session, sessionmaker

from bench.context import Context, calls, expect
from bench.measure import Times, Way
from bench.report import Row, at_most, timed
from bench.samples import Base, User, fill, user_row
from stockstore import ChainedStore, RedisStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync

SUBJECT: Final = "commits of a session, with Redis behind the hook"
_PLAIN: Final = "without a hook"
_ROWS: Final = 100
_READS: Final = 20
_FILLED: Final = 10_000
_numbers: Final = itertools.count(_FILLED + 1)
_HOOKS: Final = {
    "strict, exact re-reads": ({}, 1.5),
    "strict, write='invalidate'": ({"write": "invalidate"}, 1.25),
    "fast": ({"consistency": "fast"}, 1.15),
}

_UNCACHED: Final = "100 new rows of a class that is not cached"


class Unkept(Base):
    """The columns of ``User``, in a class that no cache keeps."""

    __table__ = cast("Table", User.__table__).to_metadata(Base.metadata, name="unkept_users")
    __cache__ = False


def rows(context: Context) -> Iterator[Row]:
    server = context.servers.empty_database()
    _create(server)
    yield from _commits(context, server, "PostgreSQL", {name: limit for name, (_, limit) in _HOOKS.items()})
    yield from _uncached(context, server)
    yield from _reads(context, server)
    with TemporaryDirectory() as folder:
        file = f"sqlite:///{folder}/bench.db"
        _create(file)
        yield from _commits(context, file, "SQLite in a file", dict.fromkeys(_HOOKS, 1.5))


def _create(url: URL | str) -> None:
    engine = create_engine(url)
    fill(engine, _FILLED)
    engine.dispose()


def _engine(url: URL | str, stack: ExitStack) -> Engine:
    """Give each way an engine of its own: a hook must not slow down the one without."""
    engine = create_engine(url)
    stack.callback(engine.dispose)
    return engine


def _makers(context: Context, url: URL | str, stack: ExitStack) -> dict[str, sessionmaker[Session]]:
    makers = {_PLAIN: sessionmaker(_engine(url, stack))}
    for name, (options, _) in _HOOKS.items():
        engine = _engine(url, stack)
        store = stack.enter_context(ChainedStore([RedisStore(context.servers.redis, namespace=name), SqlAlchemyStore(engine=engine)]))
        sync = SessionSync(store, **options)  # type: ignore[arg-type]
        if engine.dialect.name == "sqlite":
            sync.create_outbox(engine)
        maker = sessionmaker(engine)
        sync.attach(maker)
        stack.callback(sync.detach)
        makers[name] = maker
    return makers


def _commits(context: Context, url: URL | str, database: str, limits: dict[str, float]) -> Iterator[Row]:
    with ExitStack() as stack:
        times = _race(context, _makers(context, url, stack), User)
    for name, limit in limits.items():
        yield timed(SUBJECT, f"{_ROWS} new rows, {name}, {database}", times, _PLAIN, at_most(limit), ours=name)


def _race(context: Context, makers: Mapping[str, sessionmaker[Session]], cls: type[Base]) -> Times:
    ways = {name: _commit(maker, cls) for name, maker in makers.items()}
    for name, way in ways.items():
        before = _count(makers[name], cls)
        way()
        expect(name, _count(makers[name], cls), before + _ROWS)
    return context.race(calls(ways))


def _commit(maker: Callable[[], Session], cls: type[Base]) -> Callable[[], object]:
    def run() -> None:
        with maker() as session:
            session.add_all([cls(**user_row(next(_numbers))) for _ in range(_ROWS)])
            session.commit()

    return run


def _count(maker: Callable[[], Session], cls: type[Base]) -> int:
    with maker() as session:
        return session.scalars(select(func.count()).select_from(cls)).one()


def _uncached(context: Context, url: URL | str) -> Iterator[Row]:
    with ExitStack() as stack:
        times = _race(context, _makers(context, url, stack), Unkept)
    for name in _HOOKS:
        yield timed(SUBJECT, f"{_UNCACHED}, {name}", times, _PLAIN, at_most(1.02), ours=name)


def _reads(context: Context, url: URL | str) -> Iterator[Row]:
    with ExitStack() as stack:
        makers = _makers(context, url, stack)
        # So many at a time that each way runs warm, as in a process that serves: what is looked for is a hundredth part.
        times = context.race({name: Way(_read(maker), times=_READS) for name, maker in makers.items()})
    for name in _HOOKS:
        yield timed(SUBJECT, f"a transaction that reads one row, {name}", times, _PLAIN, at_most(1.02), ours=name)


def _read(maker: Callable[[], Session]) -> Callable[[], object]:
    def run() -> None:
        for _ in range(_READS):
            with maker() as session:
                found = session.get(User, 1)
                session.commit()
            expect("the row read", found is not None, wanted=True)

    return run
