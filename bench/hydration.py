"""Mapped objects out of cached column state, beside the queries of the ORM."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from dogpile.cache import make_region
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session

from bench.context import Context, calls, expect
from bench.measure import Way
from bench.report import Row, Target, timed, times_faster
from bench.samples import User, columns, fill, user_row
from stockstore import ProcessMemoryStore
from stockstore.mapped import plan_of

SUBJECT: Final = "mapped objects of 10 columns, from process memory into a session"
_COUNT: Final = 1000
_NUMBERS: Final = list(range(1, _COUNT, 10))
_QUERY: Final = "select(...).where(id.in_(100))"
_HUNDRED: Final = "batch_get of 100, new session"
_PLAN: Final = "unpack_all + attach_whole alone"
_MERGE: Final = "dogpile.cache memory_pickle + merge(load=False)"


def rows(context: Context) -> Iterator[Row]:
    memory = create_engine("sqlite://")
    yield from _database(context, memory, "SQLite in memory", times_faster(4), None)
    memory.dispose()
    server = create_engine(context.servers.empty_database())
    yield from _database(context, server, "PostgreSQL", times_faster(8), times_faster(20))
    server.dispose()


def _database(context: Context, engine: Engine, name: str, many: Target, one: Target | None) -> Iterator[Row]:
    fill(engine, _COUNT)
    store = ProcessMemoryStore()
    with Session(engine) as session:
        store.batch_put(session.scalars(select(User)).all())
    yield from _hundred(context, engine, store, name, many)
    yield from _single(context, engine, store, name, one)


def _hundred(context: Context, engine: Engine, store: ProcessMemoryStore, name: str, target: Target) -> Iterator[Row]:
    loads = _loads(store)

    def way(load: Callable[[Session], Sequence[User | None]]) -> Callable[[], object]:
        def run() -> None:
            with Session(engine) as session:
                load(session)

        return run

    for load_name, load in loads.items():
        _check(engine, load_name, load)
    race = context.race_unwaiting if engine.dialect.name == "sqlite" else context.race
    times = race(calls({load_name: way(load) for load_name, load in loads.items()}))
    yield timed(SUBJECT, f"{_HUNDRED}, {name}", times, _QUERY, target, ours=_HUNDRED)
    yield timed(SUBJECT, f"{_PLAN}, {name}", times, _QUERY, target, ours=_PLAN)
    yield timed(SUBJECT, f"{_HUNDRED}, {name}", times, _MERGE, ours=_HUNDRED, faster=True)


def _loads(store: ProcessMemoryStore) -> dict[str, Callable[[Session], Sequence[User | None]]]:
    plan = plan_of(User)
    users = [user for user in store.batch_get(User, _NUMBERS) if user is not None]
    payloads = [plan.pack(plan.dehydrate(user)) for user in users]
    texts = [str(number) for number in _NUMBERS]
    region: Any = make_region().configure("dogpile.cache.memory_pickle")
    region.set_multi(dict(zip(texts, users, strict=True)))
    return {
        _HUNDRED: lambda session: store.batch_get(User, _NUMBERS, session=session),
        _PLAN: lambda session: plan.attach_whole(session, plan.unpack_all(payloads)),
        _QUERY: lambda session: session.scalars(select(User).where(User.id.in_(_NUMBERS))).all(),
        _MERGE: lambda session: [session.merge(user, load=False) for user in region.get_multi(texts)],
    }


def _check(engine: Engine, name: str, load: Callable[[Session], Sequence[User | None]]) -> None:
    with Session(engine) as session:
        users = [user for user in load(session) if user is not None]
        found = sorted((columns(user) for user in users), key=lambda row: row["id"])  # type: ignore[arg-type,return-value]
        expect(name, found, [user_row(number) for number in _NUMBERS])
        expect(f"{name}: persistent", all(user in session for user in users), wanted=True)


def _single(context: Context, engine: Engine, store: ProcessMemoryStore, name: str, target: Target | None) -> Iterator[Row]:
    # A session's identity map is weak: an object that nobody holds is gone from it, so that each get is a miss there.
    with Session(engine) as session:
        names = {"store": store, "session": session, "User": User}
        ours, peer = "store.get(User, 7, session=session)", "session.get(User, 7)"
        for statement in (ours, peer):
            expect(statement, columns(eval(statement, names)), user_row(7))
            expect(f"identity map after {statement}", len(session.identity_map), 0)
        times = context.race({ours: Way(ours, names), peer: Way(peer, names)})
        yield timed(SUBJECT, f"get of one, open session, {name}", times, peer, target, ours=ours, faster=True)
