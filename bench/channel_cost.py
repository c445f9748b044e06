"""What a channel adds to a commit, with eight processes subscribed to it."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from bench.context import Context, calls, expect
from bench.report import Row, at_most, sized, timed
from bench.samples import User, fill, user_row
from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.stores.base import Store
from stockstore_ext.sqlalchemy import SessionSync

LISTENERS: Final = 8
SUBJECT: Final = f"commits that are told to {LISTENERS} processes, on PostgreSQL"
_WITH, _WITHOUT = "with the channel", "without the channel"
_LIMIT: Final = at_most(1.1)
_SPAWN: Final = get_context("spawn")
_FILLED: Final = 10_000
_numbers: Final = itertools.count(_FILLED + 1)


def rows(context: Context) -> Iterator[Row]:
    url = context.servers.empty_database().render_as_string(hide_password=False)
    engine = create_engine(url)
    fill(engine, _FILLED)
    engine.dispose()
    yield from _told(context, "Redis", url, context.servers.redis)
    yield from _told(context, "NOTIFY", url, "")


def _told(context: Context, by: str, url: str, redis: str) -> Iterator[Row]:
    with ExitStack() as stack:
        makers = {way: stack.enter_context(_maker(url, redis, heard=way == _WITH)) for way in (_WITH, _WITHOUT)}
        with makers[_WITH]() as session:
            first = User(**user_row(next(_numbers)))
            session.add(first)
            session.commit()
            others = stack.enter_context(_listeners(url, redis, first.id))
            first.name = "changed"
            session.commit()
        expect("a change that all processes hear", _ask(others, "is it gone?"), [True] * LISTENERS)
        for count in (1, 100):
            times = context.race(calls({way: _commit(maker, count) for way, maker in makers.items()}))
            yield timed(SUBJECT, f"{count} new row{'s' * (count > 1)}, {by}", times, _WITHOUT, _LIMIT, ours=_WITH)
            times = context.race_unwaiting(calls({way: _commit(maker, count) for way, maker in makers.items()}))
            yield timed(SUBJECT, f"{count} new row{'s' * (count > 1)}, {by}, the writer's processor", times, _WITHOUT, _LIMIT, ours=_WITH)
        yield _listening(context, by, makers[_WITH], others)


def _commit(maker: Callable[[], Session], count: int) -> Callable[[], object]:
    def run() -> None:
        with maker() as session:
            session.add_all([User(**user_row(next(_numbers))) for _ in range(count)])
            session.commit()

    return run


def _listening(context: Context, by: str, maker: Callable[[], Session], others: list[Connection]) -> Row:
    commit, commits = _commit(maker, 1), context.size(500, 20)
    before, start = _ask(others, "processor"), time.process_time()
    for _ in range(commits):
        commit()
    wrote = time.process_time() - start
    spent = [(after - first) / commits for first, after in zip(before, _ask(others, "processor"), strict=True)]
    return sized(SUBJECT, f"the processor of a listener, per commit, {by}", sum(spent) / LISTENERS, (wrote / commits, "the writer's"), "s")


# -- the stores, in this process and in others ----------------------------------------------------


def _tiers(engine: Engine, redis: str, *, heard: bool) -> list[Store]:
    if not redis:
        return [ProcessMemoryStore(channel=engine if heard else None), SqlAlchemyStore(engine=engine)]
    shared = RedisStore(redis, namespace="told" if heard else "untold")
    if not heard:
        # No setting does that: whoever writes to a Redis cannot know who else listens.
        shared.backend._teller.channel = b""  # type: ignore[attr-defined] # noqa: SLF001
    return [ProcessMemoryStore(namespace="told", channel="auto" if heard else None), shared, SqlAlchemyStore(engine=engine)]


@contextmanager
def _chain(url: str, redis: str, *, heard: bool) -> Iterator[tuple[Engine, ChainedStore]]:
    engine = create_engine(url)
    with ChainedStore(_tiers(engine, redis, heard=heard)) as chain:
        yield engine, chain
    engine.dispose()


@contextmanager
def _maker(url: str, redis: str, *, heard: bool) -> Iterator[sessionmaker[Session]]:
    with _chain(url, redis, heard=heard) as (engine, chain):
        maker = sessionmaker(engine)
        sync = SessionSync(chain).attach(maker)
        yield maker
        sync.detach()


@contextmanager
def _listeners(url: str, redis: str, key: int) -> Iterator[list[Connection]]:
    """Start processes that keep a row in memory, and listen."""
    pipes = [_SPAWN.Pipe() for _ in range(LISTENERS)]
    processes = [_SPAWN.Process(target=_listen, args=(theirs, url, redis, key), daemon=True) for _, theirs in pipes]
    mine = [pipe for pipe, _ in pipes]
    with ExitStack() as stack:
        for pipe, process in zip(mine, processes, strict=True):
            process.start()
            stack.callback(process.join)
            stack.enter_context(closing(pipe))
        expect("processes that keep a row", [pipe.recv() for pipe in mine], [True] * LISTENERS)
        yield mine
        _ask(mine, "end")


def _ask(others: list[Connection], what: str) -> list[Any]:
    for pipe in others:
        pipe.send(what)
    return [pipe.recv() for pipe in others]


def _listen(pipe: Connection, url: str, redis: str, key: int) -> None:
    with _chain(url, redis, heard=True) as (_, chain):
        memory = chain.tiers[0]
        pipe.send(_until(lambda: chain.get(User, key) is not None and memory.get(User, key) is not None))
        answers = {"is it gone?": lambda: _until(lambda: memory.get(User, key) is None), "processor": time.process_time}
        while (asked := pipe.recv()) != "end":
            pipe.send(answers[asked]())
        pipe.send(True)


def _until(test: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not (found := test()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found
