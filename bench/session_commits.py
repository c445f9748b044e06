"""Commits of a session with the hook attached, beside the same commits without it."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.orm import Session, sessionmaker

from bench.context import Context, calls, expect
from bench.report import Row, at_most, timed
from bench.samples import Base, User, user_row
from stockstore import ChainedStore, RedisStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync

SUBJECT: Final = "commits of a session, with Redis behind the hook"
_PLAIN: Final = "without a hook"
_ROWS: Final = 100
_numbers: Final = itertools.count(1)
_HOOKS: Final = {
    "strict, exact re-reads": ({}, 1.5),
    "strict, write='invalidate'": ({"write": "invalidate"}, 1.25),
    "fast": ({"consistency": "fast"}, 1.15),
}


def rows(context: Context) -> Iterator[Row]:
    with ExitStack() as stack:
        server = create_engine(context.servers.database)
        stack.callback(server.dispose)
        Base.metadata.create_all(server)
        yield from _commits(context, server, "PostgreSQL", {name: limit for name, (_, limit) in _HOOKS.items()})
        yield from _reads(context, server)
        folder = stack.enter_context(TemporaryDirectory())
        file = create_engine(f"sqlite:///{folder}/bench.db")
        stack.callback(file.dispose)
        Base.metadata.create_all(file)
        yield from _commits(context, file, "SQLite in a file", dict.fromkeys(_HOOKS, 1.5))


def _makers(context: Context, engine: Engine, stack: ExitStack) -> dict[str, Callable[[], Session]]:
    makers: dict[str, Callable[[], Session]] = {_PLAIN: sessionmaker(engine)}
    for name, (options, _) in _HOOKS.items():
        store = stack.enter_context(ChainedStore([RedisStore(context.servers.redis, namespace=name), SqlAlchemyStore(engine=engine)]))
        sync = SessionSync(store, **options)  # type: ignore[arg-type]
        if engine.dialect.name == "sqlite":
            sync.create_outbox(engine)
        maker = sessionmaker(engine)
        sync.attach(maker)
        stack.callback(sync.detach)
        makers[name] = maker
    return makers


def _commits(context: Context, engine: Engine, database: str, limits: dict[str, float]) -> Iterator[Row]:
    with ExitStack() as stack:
        makers = _makers(context, engine, stack)
        ways = {name: _commit(maker) for name, maker in makers.items()}
        for name, way in ways.items():
            before = _count(engine)
            way()
            expect(name, _count(engine), before + _ROWS)
        times = context.race(calls(ways))
    for name, limit in limits.items():
        yield timed(SUBJECT, f"{_ROWS} new rows, {name}, {database}", times, _PLAIN, at_most(limit), ours=name)


def _commit(maker: Callable[[], Session]) -> Callable[[], object]:
    def run() -> None:
        with maker() as session:
            session.add_all([User(**user_row(next(_numbers))) for _ in range(_ROWS)])
            session.commit()

    return run


def _count(engine: Engine) -> int:
    with Session(engine) as session:
        return session.scalars(select(func.count()).select_from(User)).one()


def _reads(context: Context, engine: Engine) -> Iterator[Row]:
    with ExitStack() as stack:
        makers = _makers(context, engine, stack)
        times = context.race(calls({name: _read(maker) for name, maker in makers.items()}))
    for name in _HOOKS:
        yield timed(SUBJECT, f"a transaction that reads one row, {name}", times, _PLAIN, at_most(1.02), ours=name)


def _read(maker: Callable[[], Session]) -> Callable[[], object]:
    def run() -> None:
        with maker() as session:
            found = session.get(User, 1)
            session.commit()
        expect("the row read", found is not None, wanted=True)

    return run
