"""Frames follow the transaction of their connection, and are told how it has ended."""

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, ForeignKey, String, event, insert, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from stockstore.coherence.protocol import Outcome, Writes
from stockstore_ext.sqlalchemy.frames import Finish, Frame, Scope, frame_on, open_frame
from stockstore_ext.sqlalchemy.outcomes import unwatch, watch
from tests.sync.conftest import ON_POSTGRES


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("rows.id", deferrable=True, initially="DEFERRED"))


class Notes:
    """Stands for a hook: keeps what was to be done, and how it ended."""

    has_left = False

    def __init__(self) -> None:
        self.prepared: list[list[object]] = []
        self.ended: list[tuple[list[object], Outcome]] = []
        self.late: list[Outcome] = []

    def prepare(self, connection: Connection, writes: dict[Scope, Writes], pending: list[Finish]) -> None:
        """Note what was written, and how it ends."""
        keys: list[object] = [native for part in writes.values() for _, native in part.records]
        self.prepared.append(keys)
        pending.append(lambda outcome: self.ended.append((keys, outcome)))

    def afterwards(self, writes: dict[Scope, Writes]) -> list[Finish]:
        """Note how an unprepared commit ends."""
        return [self.late.append]


@pytest.fixture(scope="module", autouse=True)
def _tables(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA foreign_keys=ON"))
    Base.metadata.create_all(engine)
    yield
    Base.metadata.drop_all(engine)


@pytest.fixture
def notes(engine: Engine) -> Iterator[Notes]:
    """What a hook on the engine is told; the table is empty."""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM rows"))
    notes = Notes()

    def prepare(connection: Connection, *_rest: object) -> None:
        if frame := frame_on(connection.info, notes):
            frame.prepare(connection)

    for name in ("commit", "prepare_twophase", "commit_twophase"):
        event.listen(engine, name, prepare)
    watch(engine.dialect)
    yield notes
    unwatch(engine.dialect)
    for name in ("commit", "prepare_twophase", "commit_twophase"):
        event.remove(engine, name, prepare)


def write(connection: Connection, notes: Notes, key: int, **values: Any) -> Frame:
    """Insert a row, and note it."""
    connection.execute(insert(Row), {"id": key, **values})
    frame = open_frame(connection.info, notes)
    frame.writes().add(Row, key)
    return frame


def rows(engine: Engine) -> list[int]:
    """Give the committed rows."""
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT id FROM rows ORDER BY id")))


def test_commit(engine: Engine, notes: Notes) -> None:
    """A commit is prepared once, and told when it has been done."""
    with engine.begin() as connection:
        write(connection, notes, 1)
        write(connection, notes, 2)
        assert notes.prepared == []
    assert notes.prepared == [[1, 2]]
    assert notes.ended == [([1, 2], Outcome.COMMITTED)]
    with engine.begin() as connection:
        connection.execute(insert(Row), {"id": 3})
    assert notes.ended == [([1, 2], Outcome.COMMITTED)]


def test_told_before_any_session_event(engine: Engine, notes: Notes) -> None:
    """The end of a commit is told before the session's own after_commit."""
    told: list[int] = []
    with Session(engine) as session:
        event.listen(session, "after_commit", lambda _session: told.append(len(notes.ended)))
        write(session.connection(), notes, 1)
        session.commit()
    assert told == [1]


def test_rollback(engine: Engine, notes: Notes) -> None:
    """A rollback, and a close without a commit, drop what was noted."""
    with engine.connect() as connection:
        frame = write(connection, notes, 1)
        connection.rollback()
        assert not frame.written
        write(connection, notes, 2)
    assert not frame.written
    assert (notes.prepared, notes.ended) == ([], [])


def test_dropped_connection(engine: Engine, notes: Notes) -> None:
    """A connection that was never closed loses its notes when the pool takes it back."""
    connection = engine.connect()
    frame = write(connection, notes, 1)
    del connection
    gc.collect()
    assert not frame.written


@pytest.mark.parametrize("begun", [True, False], ids=["in a transaction", "outermost"])
def test_savepoints(engine: Engine, notes: Notes, begun: bool) -> None:
    """A released savepoint counts as a part of what is around it, a rolled back one is dropped, nested ones too."""
    with engine.connect() as connection:
        if begun:
            write(connection, notes, 1)
        with connection.begin_nested():
            write(connection, notes, 2)
            with connection.begin_nested() as inner:
                write(connection, notes, 3)
                inner.rollback()
            with connection.begin_nested():
                write(connection, notes, 4)
        with connection.begin_nested() as outer:
            write(connection, notes, 5)
            with connection.begin_nested():
                write(connection, notes, 6)
            outer.rollback()
        write(connection, notes, 7)
        connection.commit()
    told = [key for keys, outcome in notes.ended for key in keys if outcome is Outcome.COMMITTED]
    assert told == rows(engine) == ([1] if begun else []) + [2, 4, 7]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_commits_at_the_release(engine: Engine, notes: Notes) -> None:
    """The driver's default mode commits when the outermost savepoint is released without BEGIN: that is told, and stays."""
    with engine.connect() as connection:
        with connection.begin_nested():
            write(connection, notes, 1)
        assert notes.ended == [([1], Outcome.COMMITTED)]
        assert rows(engine) == [1]
        connection.rollback()
    assert rows(engine) == [1]
    with engine.connect() as connection:
        write(connection, notes, 2)
        with connection.begin_nested():
            write(connection, notes, 3)
        assert len(notes.ended) == 1
        connection.rollback()
    assert rows(engine) == [1]


def test_savepoint_older_than_the_frame(engine: Engine, notes: Notes) -> None:
    """A caller's savepoint that was set before the first note is around all of them."""
    for end, expected in (("rollback", []), ("commit", [1])):
        notes.ended.clear()
        with engine.connect() as connection:
            savepoint = connection.begin_nested()
            write(connection, notes, 1)
            getattr(savepoint, end)()
            connection.commit()
        assert [key for keys, _ in notes.ended for key in keys] == rows(engine) == expected


def test_refused_commit(engine: Engine, notes: Notes) -> None:
    """A commit that a deferred constraint refuses is told as rolled back, and is, on SQLite too, where the transaction stays open."""
    with engine.connect() as connection:
        write(connection, notes, 1, parent_id=404)
        with pytest.raises(IntegrityError):
            connection.commit()
        assert notes.ended == [([1], Outcome.ROLLED_BACK)]
        connection.rollback()
        connection.execute(insert(Row), {"id": 2})
        connection.commit()
    assert rows(engine) == [2]
    assert len(notes.ended) == 1


def test_refused_commit_of_a_session(engine: Engine, notes: Notes) -> None:
    """The same, by a session, which rolls back by itself."""
    with Session(engine) as session:
        write(session.connection(), notes, 1, parent_id=404)
        with pytest.raises(IntegrityError):
            session.commit()
    assert notes.ended == [([1], Outcome.ROLLED_BACK)]


def test_interrupted_commit(engine: Engine, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an exception other than the driver's cuts off has an unknown end, although it was committed."""
    unwatch(engine.dialect)
    original = engine.dialect.do_commit

    def commit_and_interrupt(connection: Any) -> None:
        original(connection)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(engine.dialect), "do_commit", lambda _self, connection: commit_and_interrupt(connection))
        watch(engine.dialect)
        _commit_interrupted(engine, notes)
        unwatch(engine.dialect)
    watch(engine.dialect)
    assert rows(engine) == [1]
    assert len(notes.ended) == 1


def _commit_interrupted(engine: Engine, notes: Notes) -> None:
    with engine.connect() as connection:
        write(connection, notes, 1)
        with pytest.raises(KeyboardInterrupt):
            connection.commit()
        assert notes.ended == [([1], Outcome.UNKNOWN)]


def test_listener_that_raises_before_commit(engine: Engine, notes: Notes) -> None:
    """Where another listener prevents the COMMIT, what was prepared is told to be rolled back."""

    def refuse(_connection: Connection) -> None:
        raise ValueError("not today")

    event.listen(engine, "commit", refuse)
    try:
        with engine.connect() as connection:
            write(connection, notes, 1)
            with pytest.raises(ValueError, match="not today"):
                connection.commit()
            connection.rollback()
    finally:
        event.remove(engine, "commit", refuse)
    assert notes.ended == [([1], Outcome.ROLLED_BACK)]


def test_preparing_that_raises(engine: Engine, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What prevents a commit rolls it back at once: a session that is closed then would pass the open transaction on with its connection."""

    def refuse(_connection: Connection, _writes: object, pending: list[Finish]) -> None:
        pending.append(lambda outcome: notes.ended.append(([], outcome)))
        raise ValueError("unreachable")

    monkeypatch.setattr(notes, "prepare", refuse)
    with Session(engine) as session:
        write(session.connection(), notes, 1)
        with pytest.raises(ValueError, match="unreachable"):
            session.commit()
    assert notes.ended == [([], Outcome.ROLLED_BACK)]
    with engine.begin() as connection:
        connection.execute(insert(Row), {"id": 2})
    assert rows(engine) == [2]


def test_finishing_that_raises(engine: Engine, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is raised out of a commit that succeeded."""

    def prepare(_connection: Connection, _writes: object, pending: list[Finish]) -> None:
        pending.append(lambda _outcome: 1 / 0)  # type: ignore[arg-type]
        pending.append(lambda outcome: notes.ended.append(([], outcome)))

    monkeypatch.setattr(notes, "prepare", prepare)
    with engine.begin() as connection:
        write(connection, notes, 1)
    assert notes.ended == [([], Outcome.COMMITTED)]
    assert rows(engine) == [1]


def test_joined_session(engine: Engine, notes: Notes) -> None:
    """What a session wrote in its caller's transaction is told when the caller commits, in every way of joining."""
    for mode in ("conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"):
        notes.ended.clear()
        with engine.connect() as connection:
            caller = connection.begin()
            connection.execute(insert(Row), {"id": 2})  # without it SQLite would commit at the release of the session's savepoint
            with Session(connection, join_transaction_mode=mode) as session:
                write(session.connection(), notes, 1)
                session.commit()
            if mode == "control_fully":
                assert notes.ended == [([1], Outcome.COMMITTED)]
            else:
                assert notes.ended == []
                caller.commit()
                assert notes.ended == [([1], Outcome.COMMITTED)]
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM rows"))


def test_engine_with_options(engine: Engine, notes: Notes) -> None:
    """An engine with options of its own is the same engine."""
    with engine.execution_options(logging_token="x").begin() as connection:
        write(connection, notes, 1)
    assert notes.ended == [([1], Outcome.COMMITTED)]


def test_commit_of_which_no_event_told(engine: Engine, notes: Notes) -> None:
    """A commit that was not prepared is told of afterwards."""
    with engine.connect() as connection:
        write(connection, notes, 1)
        connection.connection.dbapi_connection.commit()  # type: ignore[union-attr]
        engine.dialect.do_commit(connection.connection)
    assert notes.late[0] is Outcome.COMMITTED


def test_verbs_come_back(engine: Engine) -> None:
    """The last one to leave gives the dialect its verbs back, but those that somebody has wrapped since."""
    watch(engine.dialect)
    watch(engine.dialect)
    assert "do_commit" in engine.dialect.__dict__
    unwatch(engine.dialect)
    assert "do_commit" in engine.dialect.__dict__
    others = engine.dialect.__dict__["do_rollback"] = lambda connection: connection.rollback()
    unwatch(engine.dialect)
    unwatch(engine.dialect)
    assert "do_commit" not in engine.dialect.__dict__
    assert engine.dialect.__dict__.pop("do_rollback") is others


def test_memory_stays_flat(engine: Engine, notes: Notes) -> None:
    """Thousands of transactions that were rolled back leave nothing."""

    def run(times: int) -> None:
        with engine.connect() as connection:
            for key in range(times):
                connection.begin()
                frame = open_frame(connection.info, notes)
                frame.writes().add(Row, key)
                frame.push("one")
                frame.writes().add(Row, key + 1)
                connection.rollback()

    run(200)
    gc.collect()
    before = sys.getallocatedblocks()
    run(2_500)
    gc.collect()
    assert sys.getallocatedblocks() - before < 1_000


@ON_POSTGRES
def test_connection_killed_before_commit(engine: Engine, notes: Notes) -> None:
    """Of a commit whose connection was lost nobody knows the end."""
    with engine.connect() as connection:
        write(connection, notes, 1)
        process = connection.scalar(text("SELECT pg_backend_pid()"))
        with engine.connect() as other:
            other.scalar(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": process})
        with pytest.raises(OperationalError):
            connection.commit()
        assert notes.ended == [([1], Outcome.UNKNOWN)]
    assert len(notes.ended) == 1


@ON_POSTGRES
@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_two_phase_verbs(engine: Engine, notes: Notes, prepared: bool, end: str) -> None:
    """A transaction of two phases is prepared before the first one, and told after the second."""
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        write(connection, notes, 1)
        if prepared:
            if not _two_phase_is_allowed(connection):
                transaction.rollback()
                return
            transaction.prepare()
            assert notes.prepared == [[1]]
            assert notes.ended == []
        getattr(transaction, end)()
    wanted = Outcome.COMMITTED if end == "commit" else Outcome.ROLLED_BACK
    assert notes.ended == ([([1], wanted)] if prepared or end == "commit" else [])


def _two_phase_is_allowed(connection: Connection) -> bool:
    return bool(connection.scalar(text("SHOW max_prepared_transactions")) != "0")
