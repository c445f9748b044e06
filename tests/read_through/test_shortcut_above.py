"""Where process memory stands above Redis and lacks what is asked for, the short way to Redis is taken, and fills it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import Session, sessionmaker

from stockstore import CacheUnreachable, ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.stores import claimed
from stockstore_ext.sqlalchemy import SessionSync
from stockstore_ext.sqlalchemy.read_through.absent import Absent
from stockstore_ext.sqlalchemy.read_through.serving import Serving
from stockstore_ext.sqlalchemy.recording import Recording
from tests.stores.listed import Item, Mark, Owner, create_tables, empty
from tests.sync.conftest import ON_SQLITE
from tests.sync.paths import Path

pytestmark = ON_SQLITE
LIST = select(Mark).where(Mark.owner_id == 1).order_by(Mark.id)
KEYS = select(Mark).where(Mark.id.in_([1, 2])).order_by(Mark.id)
Reads = Callable[[Session], list[str]]
READS: dict[str, Reads] = {
    "key": lambda session: [session.get_one(Mark, 1).text],
    "keys": lambda session: [mark.text for mark in session.scalars(KEYS)],
    "list": lambda session: [mark.text for mark in session.scalars(LIST)],
}


@pytest.fixture
def memory() -> ProcessMemoryStore:
    """Memory that believes as long as the test may take, and hears of nothing."""
    return ProcessMemoryStore(maxsize=100, max_staleness=3600.0, channel=None)


@pytest.fixture
def above(db: Engine, other: Engine, redis_url: str, namespace: str, memory: ProcessMemoryStore) -> Iterator[Path]:
    """Rows that Redis and memory have, which the short way was taught to find."""
    create_tables(db)
    empty(db)
    maker: sessionmaker[Session] = sessionmaker(db, class_=type("Above", (Session,), {}))
    with ChainedStore([memory, RedisStore(redis_url, namespace=namespace), SqlAlchemyStore(engine=db)]) as store:
        sync = SessionSync(store, read_through=True)
        sync.attach(maker)
        path = Path(db, other, store, maker, sync)
        path.seed(*(Owner(id=number) for number in (1, 2)), *(Mark(id=number, owner_id=1) for number in (1, 2)), Mark(id=3, owner_id=2))
        for _ in range(3):
            memory.clear()
            for read in READS.values():
                seen(path, read)
        write(path, "unseen")
        yield path
        sync.detach()


def seen(path: Path, read: Reads) -> list[str]:
    """Read in a session of its own."""
    with path.maker() as session:
        return read(session)


def write(path: Path, title: str) -> None:
    """Write past everything."""
    with path.other.begin() as connection:
        connection.execute(text("UPDATE listed_marks SET text = :title"), {"title": title})


def refuse_the_longer_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it fail from now on."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the longer way was taken")

    monkeypatch.setattr(Serving, "_read", refuse)
    monkeypatch.setattr(Serving, "lists", refuse)


@pytest.fixture
def asked(above: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Redis is asked from now on."""
    commands: list[str] = []
    exchange: Any = above.store.tiers[1].backend._exchange  # type: ignore[attr-defined]
    ask = exchange._ask

    def asking(connection: object, *command: Any) -> Any:
        if command[0] != "EVAL":  # of a script that the server does not have yet
            commands.append(str(command[0]))
        return ask(connection, *command)

    monkeypatch.setattr(exchange, "_ask", asking)
    return commands


@pytest.mark.parametrize("name", READS)
def test_takes_one_round_trip_and_fills_memory(
    above: Path, memory: ProcessMemoryStore, asked: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What memory lacks is read by one command without the longer way, and is in memory afterwards."""
    memory.clear()
    refuse_the_longer_way(monkeypatch)
    before = memory.stats()
    found = [seen(above, READS[name]) for _ in range(3)]
    assert found == [["old"] * len(found[0])] * 3
    assert asked == ["MGET"]
    after, places = memory.stats(), len(found[0]) + (name == "list")
    assert (after.misses - before.misses, after.fills - before.fills) == (places, places)
    assert after.hits - before.hits >= 2 * len(found[0])


@pytest.mark.parametrize("name", READS)
def test_a_writer_who_overtakes_the_read_is_not_overwritten(
    above: Path, memory: ProcessMemoryStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What was written between the answer of Redis and the fill of memory is not covered by the older value."""
    memory.clear()
    backend: Any = above.store.tiers[1].backend  # type: ignore[attr-defined]
    look, written = backend.look, list[str]()

    def late(keys: Any) -> Any:
        cells = look(keys)
        if not written:
            written.append("new")
            with above.maker() as session:
                session.get_one(Mark, 1, with_for_update=True).text = "new"
                session.commit()
        return cells

    monkeypatch.setattr(backend, "look", late)
    assert seen(above, READS[name])[0] == "old"
    assert written
    for _ in range(2):
        assert seen(above, READS["key"]) == ["new"]
        assert seen(above, READS["list"])[0] == "new"


@pytest.mark.parametrize("name", READS)
def test_what_redis_lacks_fills_both(
    above: Path, memory: ProcessMemoryStore, asked: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A miss of all asks the database with what was read and leased, so that nothing is read twice, and both keep all of it."""
    redis: Any = above.store.tiers[1]
    write(above, "old")
    redis.clear()
    memory.clear()
    asked.clear()
    assert set(seen(above, READS[name])) == {"old"}
    assert asked == ["MGET", "EVALSHA", "EVALSHA"]
    write(above, "unseen")
    asked.clear()
    refuse_the_longer_way(monkeypatch)
    assert [set(seen(above, READS[name])) for _ in range(2)] == [{"old"}] * 2
    assert asked == []
    memory.clear()
    assert set(seen(above, READS[name])) == {"old"}


def lease_along(path: Path) -> None:
    """Have single rows leased along with the read, as where they are missing again and again."""
    path.seed(*(Mark(id=number, owner_id=3) for number in range(100, 120)))
    for number in range(100, 120):
        with path.maker() as session:
            session.get(Mark, number)


@pytest.fixture
def elsewhere(above: Path, other: Engine, redis_url: str, namespace: str) -> Iterator[Callable[[], None]]:
    """A writer of another process, which memory does not hear."""
    maker: sessionmaker[Session] = sessionmaker(other, class_=type("Elsewhere", (Session,), {}))
    with ChainedStore([RedisStore(redis_url, namespace=namespace), SqlAlchemyStore(engine=other)]) as store:
        sync = SessionSync(store)
        sync.attach(maker)

        def write_new() -> None:
            with maker() as session:
                session.get_one(Mark, 1, with_for_update=True).text = "new"
                session.commit()

        yield write_new
        sync.detach()


@pytest.mark.parametrize(
    ("name", "when"),
    [
        ("key", "before Redis is filled"),
        ("key", "before memory is filled"),
        ("list", "before Redis is filled"),
        ("list", "elsewhere before Redis is filled"),
        ("list", "before memory is filled"),
    ],
)
def test_a_row_that_was_written_since_is_not_kept(
    above: Path, memory: ProcessMemoryStore, monkeypatch: pytest.MonkeyPatch, elsewhere: Callable[[], None], name: str, when: str
) -> None:
    """Memory keeps what the database gave only where nobody here has written it since; rows of a list only where Redis took all of them."""
    redis: Any = above.store.tiers[1]
    lease_along(above)
    write(above, "old")
    redis.clear()
    memory.clear()
    step = "fill_list" if name == "list" else "fill_many"
    backend, fill = redis.backend, getattr(redis.backend, step)

    def here() -> None:
        with above.maker() as session:
            session.get_one(Mark, 1, with_for_update=True).text = "new"
            session.commit()

    def late(*given: Any) -> Any:
        if when != "before memory is filled":
            (elsewhere if when.startswith("elsewhere") else here)()
        answer = fill(*given)
        if when == "before memory is filled":
            write(above, "new")
            above.sync.invalidate(Mark, [1])
        return answer

    monkeypatch.setattr(backend, step, late)
    assert set(seen(above, READS[name])) == {"old"}
    monkeypatch.undo()
    assert seen(above, READS["key"]) == ["new"]
    assert seen(above, READS["list"])[0] == "new"


def test_memory_that_hears_nothing_any_more_keeps_no_row_of_a_list(
    above: Path, memory: ProcessMemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not leased while all that others write was heard is not kept."""
    redis: Any = above.store.tiers[1]
    write(above, "old")
    redis.clear()
    memory.clear()

    def deaf(*_: object) -> None:
        monkeypatch.setattr(memory, "is_fresh", lambda: False)

    event.listen(above.engine, "before_cursor_execute", deaf)
    assert set(seen(above, READS["list"])) == {"old"}
    event.remove(above.engine, "before_cursor_execute", deaf)
    monkeypatch.undo()
    assert _rows_in(memory) == []
    assert set(seen(above, READS["list"])) == {"old"}
    assert len(_rows_in(memory)) == 2


def _rows_in(memory: ProcessMemoryStore) -> list[Any]:
    return [node for cells in memory._shelves._dicts.values() for node in cells.values() if type(node.value) is bytes]


@pytest.mark.parametrize("name", ["key", "list"])
def test_what_others_may_not_see_is_kept_nowhere(
    above: Path, memory: ProcessMemoryStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What a transaction reads of which nobody knows how old it is answers it alone."""
    redis: Any = above.store.tiers[1]
    lease_along(above)
    write(above, "old")
    redis.clear()
    memory.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Recording, "may_fill", lambda *_: False)
        assert set(seen(above, READS[name])) == {"old"}
    write(above, "unseen")
    assert set(seen(above, READS[name])) == {"unseen"}


@pytest.mark.parametrize("along", [False, True])
@pytest.mark.parametrize("name", READS)
def test_what_a_read_that_failed_has_leased_is_for_the_next(above: Path, memory: ProcessMemoryStore, name: str, along: bool) -> None:
    """It keeps nothing from being cached."""
    redis: Any = above.store.tiers[1]
    if along:
        lease_along(above)
    write(above, "old")
    redis.clear()
    memory.clear()

    def fail(*_: object) -> None:
        raise ConnectionRefusedError

    event.listen(above.engine, "before_cursor_execute", fail)
    with pytest.raises(ConnectionRefusedError):
        seen(above, READS[name])
    event.remove(above.engine, "before_cursor_execute", fail)
    # Rows of a list that Redis has lent still come into memory with the read after it.
    assert [set(seen(above, READS[name])) for _ in range(2)] == [{"old"}] * 2
    write(above, "unseen")
    assert set(seen(above, READS[name])) == {"old"}


def test_a_list_that_others_have_changed(above: Path, memory: ProcessMemoryStore, asked: list[str]) -> None:
    """Where Redis' list is another by now, that one's rows are given, and in memory with the next read."""
    write(above, "old")
    with above.maker() as session:
        session.add(Mark(id=9, owner_id=1))
        session.commit()
    write(above, "unseen")
    for _ in range(2):
        memory.clear()
        seen(above, READS["list"])
    asked.clear()
    assert [len(seen(above, READS["list"])) for _ in range(2)] == [3, 3]
    # What a list holds is known from the second look on.
    assert asked == ["MGET"]


@pytest.mark.parametrize("name", READS)
def test_nothing_lives_longer_than_in_redis(above: Path, memory: ProcessMemoryStore, name: str) -> None:
    """A row in memory ends with the one that it was read from."""
    redis: Any = above.store.tiers[1]
    write(above, "old")
    redis.clear()
    memory.clear()
    object.__setattr__(redis._rule, "lifetime", 100.0)
    for _ in range(3):
        memory.clear()
        seen(above, READS[name])
    nodes = _rows_in(memory)
    assert len(nodes) in (1, 2)
    assert all(node.expires <= claimed._now() + 100.0 for node in nodes)


def test_other_keys_find_what_was_filled(above: Path, memory: ProcessMemoryStore, asked: list[str]) -> None:
    """Rows in memory are found by their other keys too, but for such as are NULL."""
    statement = select(Item).where(Item.id.in_([1, 2])).order_by(Item.id)
    above.seed(Item(id=1, code="one"), Item(id=2))
    for _ in range(3):
        memory.clear()
        asked.clear()
        with above.maker() as session:
            assert [item.code for item in session.scalars(statement)] == ["one", None]
    assert asked == ["MGET"]
    found = above.store.get(Item, {"code": "one"})
    assert found is not None
    assert found.id == 1
    assert asked == ["MGET"]


def test_rows_that_were_written_here_while_redis_was_away(above: Path, memory: ProcessMemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that could not be told to Redis since the list was leased stands against no fill there; memory keeps none of its rows then."""
    above.sync.detach()
    sync = SessionSync(above.store, read_through=True, write="invalidate", on_unreachable="commit").attach(above.maker)
    redis: Any = above.store.tiers[1]
    write(above, "old")
    for _ in range(3):
        memory.clear()
        seen(above, READS["list"])
    redis.clear()
    memory.clear()
    keep_list, kept = Absent.keep_list, []

    def away(*_: object, **__: object) -> None:
        raise CacheUnreachable("away")

    def late(absent: Absent, members: Any) -> None:
        for verb in ("mark_many", "release_many", "invalidate_many"):
            monkeypatch.setattr(redis.backend, verb, away)
        with above.maker() as session:
            session.get_one(Mark, 1, with_for_update=True).text = "new"
            session.commit()
        keep_list(absent, members)
        kept.append(_rows_in(memory))

    monkeypatch.setattr(Absent, "keep_list", late)
    assert set(seen(above, READS["list"])) == {"old"}
    assert seen(above, READS["key"]) == ["new"]
    monkeypatch.undo()
    assert kept == [[]]
    sync.detach()
