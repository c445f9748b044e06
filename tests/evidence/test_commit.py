import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from stockstore import SqlAlchemyStore, open_store
from stockstore.backends.coherent import CoherentBackend
from stockstore.cells import MARKER, VALUE
from stockstore.coherence.commit import Commit, OnUnreachable, Prepared
from stockstore.coherence.protocol import Outcome, Writes
from stockstore.coherence.reader import Reader
from stockstore.coherence.resolver import Resolver
from stockstore.coherence.writer import Located, WriteThrough
from stockstore.errors import ConfigurationError
from stockstore.evidence import AnyEvidence, Outbox, OutboxEvidence, evidence_of
from stockstore.keys import keys_of
from stockstore.stores.backed import BackendStore
from stockstore.stores.snapshots import Snapshot
from stockstore.stores.tiers import tier_of
from stockstore.stores.tiers.backed import BackendTier
from tests.coherence.dict_tier import DOWN, DictTier, Marker
from tests.subprocesses import ending
from tests.sync.conftest import MEMCACHED


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "commit_rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


RECORD = (keys_of(Row).identity, 1)
TEXT = RECORD[0].record_text("n", 1)
Commits = Commit[Located[Snapshot], Snapshot]


class Caches:
    """Process memory above a shared cache, and their write-through."""

    def __init__(self) -> None:
        """Start empty."""
        self.local, self.remote = DictTier("local"), DictTier("remote", remote=True)
        self.through: WriteThrough[Snapshot] = WriteThrough([self.local, self.remote])

    def commit(
        self, evidence: AnyEvidence | None, outbox: Outbox | None, on_unreachable: OnUnreachable = "outbox", *, always: bool = True
    ) -> Commits:
        """Give the commits that use them."""
        return Commit(self.through, evidence, outbox, on_unreachable=on_unreachable, always=always)

    def marked(self) -> list[bool]:
        """Tell of each whether a marker stands in it."""
        return [isinstance(tier.cells.get(RECORD), Marker) for tier in (self.local, self.remote)]


@pytest.fixture
def caches() -> Caches:
    """Both caches, empty."""
    return Caches()


@pytest.fixture
def evidence(any_engine: Engine, outbox: Outbox) -> AnyEvidence:
    """What the database has; of PostgreSQL its transaction ids."""
    found = evidence_of(any_engine, outbox=outbox)
    assert found is not None
    return found


@pytest.fixture
def connection(any_engine: Engine, outbox: Outbox) -> Iterator[Connection]:
    """A connection to a database with one row."""
    Base.metadata.create_all(any_engine)
    with any_engine.begin() as connection:
        connection.execute(text("INSERT INTO commit_rows VALUES (1, 1)"))
    with any_engine.connect() as connection:
        yield connection
        connection.rollback()
    Base.metadata.drop_all(any_engine)


def written(connection: Connection) -> Writes:
    """Change the row, and tell so."""
    connection.execute(text("UPDATE commit_rows SET value = value + 1"))
    writes = Writes()
    writes.add(Row, {"id": 1})
    return writes


def rows(connection: Connection, outbox: Outbox) -> Sequence[tuple[str | None, str]]:
    """Give what waits in the outbox."""
    found = connection.execute(select(outbox.definition.c.ticket, outbox.definition.c.texts).where(outbox.waiting()))
    return [tuple(row) for row in found]


def prepared(found: Prepared[Located[Snapshot], Snapshot] | None) -> Prepared[Located[Snapshot], Snapshot]:
    """Give what was prepared, as something was."""
    assert found is not None
    return found


def test_a_commit_marks_before_and_releases_after(connection: Connection, outbox: Outbox, evidence: AnyEvidence, caches: Caches) -> None:
    """The row names the ticket and the keys of the shared cache alone; the lower tier is marked first."""
    commit = caches.commit(evidence, outbox)
    done = prepared(commit.prepare(connection, written(connection)))
    assert caches.marked() == [True, True]
    assert done.ticket is not None
    assert rows(connection, outbox) == [(done.ticket.decode(), TEXT)]
    assert evidence.decided([done.ticket]) == set()
    connection.commit()
    commit.finish(done, Outcome.COMMITTED)
    assert caches.marked() == [False, False]
    assert caches.remote.log == [("remote", "mark", done.ticket), ("remote", "release", True, [])]
    assert evidence.decided([done.ticket]) == {done.ticket}


def test_nothing_written_is_nothing_done(connection: Connection, outbox: Outbox, evidence: AnyEvidence, caches: Caches) -> None:
    """No writes are known; or the transaction has none, as far as the database can tell."""
    commit = caches.commit(evidence, outbox)
    assert commit.prepare(connection, Writes()) is None
    assert commit.prepare_statement(connection, Writes()) is None
    if not isinstance(evidence, OutboxEvidence):
        writes = Writes()
        writes.add(Row, {"id": 1})
        assert commit.prepare(connection, writes) is None
    assert (rows(connection, outbox), caches.remote.log) == ([], [])


@pytest.mark.parametrize("outcome", [Outcome.ROLLED_BACK, Outcome.UNKNOWN])
def test_other_ends(connection: Connection, outbox: Outbox, evidence: AnyEvidence, caches: Caches, outcome: Outcome) -> None:
    """A rollback takes the markers; of an unknown end the shared one stays for those who find it out."""
    commit = caches.commit(evidence, outbox)
    done = prepared(commit.prepare(connection, written(connection)))
    connection.rollback()
    commit.finish(done, outcome)
    assert caches.marked() == [False, outcome is Outcome.UNKNOWN]
    assert rows(connection, outbox) == []


def test_without_evidence_a_shared_cache_is_not_marked(connection: Connection, outbox: Outbox, caches: Caches) -> None:
    """It is invalidated after the commit; the row in the outbox, if there is an outbox, names no ticket."""
    for box, expected in ((outbox, [(None, TEXT)]), (None, [])):
        commit = caches.commit(None, box, "commit")
        done = prepared(commit.prepare(connection, written(connection)))
        assert (done.ticket, caches.marked()) == (None, [True, False])
        assert rows(connection, outbox) == expected
        connection.rollback()
        commit.finish(done, Outcome.COMMITTED)
        assert caches.remote.log == [("remote", "invalidate")]
        caches.remote.log.clear()


@pytest.mark.parametrize("always", [True, False])
def test_a_cache_out_of_reach_leaves_its_keys_in_the_outbox(
    connection: Connection, outbox: Outbox, evidence: AnyEvidence, caches: Caches, always: bool
) -> None:
    """The row commits with the data, once; this process owes the removal too."""
    commit = caches.commit(evidence, outbox, always=always)
    caches.remote.down = DOWN
    done = prepared(commit.prepare(connection, written(connection)))
    assert done.unreachable is DOWN
    connection.commit()
    commit.finish(done, Outcome.COMMITTED)
    assert [texts for _, texts in rows(connection, outbox)] == [TEXT]
    assert caches.remote.owed == [(frozenset({RECORD}), done.ticket)]


def test_a_row_is_written_only_where_it_is_needed(connection: Connection, outbox: Outbox, evidence: AnyEvidence, caches: Caches) -> None:
    """Where markers cannot be lost and transaction ids are the evidence, a commit that could mark writes none."""
    done = prepared(caches.commit(evidence, outbox, always=False).prepare(connection, written(connection)))
    needed = isinstance(evidence, OutboxEvidence)
    assert [texts for _, texts in rows(connection, outbox)] == [TEXT] * needed
    assert caches.marked() == [True, True]
    assert done.unreachable is None


def test_a_commit_may_go_on_without_the_cache(connection: Connection, evidence: AnyEvidence, outbox: Outbox, caches: Caches) -> None:
    """This process owes the removal."""
    commit = caches.commit(evidence, outbox, "commit")
    caches.remote.down = DOWN
    done = prepared(commit.prepare(connection, written(connection)))
    connection.commit()
    commit.finish(done, Outcome.COMMITTED)
    assert caches.remote.owed == [(frozenset({RECORD}), done.ticket)]


@pytest.mark.parametrize("error", [DOWN, KeyboardInterrupt()])
def test_a_commit_that_is_cut_off_leaves_no_marker(
    connection: Connection, outbox: Outbox, evidence: AnyEvidence, caches: Caches, error: BaseException
) -> None:
    """With "abort" a cache out of reach does that, and an interrupt in any case; the other tier's markers are taken."""
    commit = caches.commit(evidence, outbox, "abort")
    caches.local.down = error
    with pytest.raises(type(error)):
        commit.prepare(connection, written(connection))
    assert caches.marked() == [False, False]
    assert caches.remote.log[-1] == ("remote", "release", False, [])


def test_the_databases_refusal_marks_nothing(connection: Connection, outbox: Outbox, evidence: AnyEvidence, caches: Caches) -> None:
    """The outbox cannot be written: its error is the caller's, who must not commit."""
    commit = caches.commit(evidence, outbox)
    writes = written(connection)
    connection.rollback()
    outbox.definition.drop(connection)
    connection.commit()
    try:
        connection.execute(text("UPDATE commit_rows SET value = 7"))
        with pytest.raises(SQLAlchemyError, match="stockstore_outbox"):
            commit.prepare(connection, writes)
        assert caches.remote.log == []
    finally:
        connection.rollback()
        outbox.definition.create(connection)
        connection.commit()


def test_an_autocommit_statement_has_no_row(connection: Connection, outbox: Outbox, evidence: AnyEvidence, caches: Caches) -> None:
    """It would be committed before the statement; the shared cache is marked where the session is evidence."""
    commit = caches.commit(evidence, outbox)
    done = prepared(commit.prepare_statement(connection, written(connection)))
    assert rows(connection, outbox) == []
    assert caches.marked() == [True, not isinstance(evidence, OutboxEvidence)]
    commit.finish(done, Outcome.COMMITTED)
    assert caches.marked() == [False, False]


def test_settings_that_do_not_fit_are_refused(any_engine: Engine, outbox: Outbox, caches: Caches) -> None:
    """An unknown word, and a row without a table."""
    with pytest.raises(ConfigurationError, match="not 'perhaps'"):
        caches.commit(None, outbox, "perhaps")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="need the outbox"):
        caches.commit(None, None, "outbox")
    with pytest.raises(ConfigurationError, match="need the outbox"):
        caches.commit(OutboxEvidence(any_engine, outbox), None, "commit")


WRITER = """
import sys
from sqlalchemy import create_engine, text
from stockstore import open_store
from stockstore.coherence.commit import Commit
from stockstore.coherence.protocol import Writes
from stockstore.coherence.writer import WriteThrough
from stockstore.evidence import Outbox, evidence_of
from stockstore.stores.tiers import tier_of
from stockstore.stores.tiers.backed import BackendTier
sys.path.insert(0, sys.argv[4])
from tests.evidence.test_commit import Row

engine, outbox = create_engine(sys.argv[1]), Outbox()
through = WriteThrough([tier_of(open_store(sys.argv[2]).tiers[0])])
commit = Commit(through, evidence_of(engine, outbox=outbox), outbox, on_unreachable="outbox")
connection = engine.connect()
connection.execute(text("UPDATE commit_rows SET value = 2"))
writes = Writes()
writes.add(Row, {"id": 1})
assert commit.prepare(connection, writes)
if sys.argv[3] == "committed":
    connection.commit()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["redis", MEMCACHED])
def cache_url(request: pytest.FixtureRequest, namespace: str) -> str:
    """The URL of a shared cache, in a namespace of the test's own."""
    if request.param == "redis":
        return f"{request.getfixturevalue('redis_url')}?namespace={namespace}"
    return f"memcached://{request.getfixturevalue('memcached_address')}?namespace={namespace}"


@pytest.mark.sa_agnostic
@pytest.mark.parametrize("point", ["marked", "committed"])
def test_a_killed_writers_keys_are_cached_again(
    any_engine: Engine, connection: Connection, outbox: Outbox, cache_url: str, namespace: str, point: str, eventually: Callable[..., None]
) -> None:
    """Its marker is honoured while it lives; after SIGKILL readers resolve it, and what they cache is what the database has."""
    connection.rollback()
    store = open_store(cache_url).tiers[0]
    assert isinstance(store, BackendStore)
    evidence, tier, backend = evidence_of(any_engine, outbox=outbox), tier_of(store), store._backend
    assert evidence is not None
    assert isinstance(backend, CoherentBackend)
    assert isinstance(tier, BackendTier)
    tier.resolvers.append(Resolver(evidence, after=0))
    reader = Reader([tier], SqlAlchemyStore(engine=any_engine).batch_fetch)
    key = RECORD[0].record_text(namespace, 1)
    assert value(reader) == 1
    assert backend.get_many([key])[key][:1] == VALUE
    command = [sys.executable, "-c", WRITER, any_engine.url.render_as_string(hide_password=False), cache_url, point]
    with ending(subprocess.Popen([*command, str(Path(__file__).parents[2])], stdout=subprocess.PIPE, stdin=subprocess.PIPE)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if point == "marked":
            assert value(reader) == 1
        assert backend.get_many([key])[key][:1] == MARKER
        process.send_signal(signal.SIGKILL)
    expected = 1 if point == "marked" else 2

    def is_cached() -> bool:
        assert value(reader) == expected
        return backend.get_many([key]).get(key, b"")[:1] == VALUE

    eventually(is_cached)
    assert value(reader) == expected
    store.close()


def value(reader: Reader[Snapshot]) -> int:
    """Read the row."""
    row = reader.read(Row, {RECORD: {"id": 1}})[RECORD].restore(None)
    assert isinstance(row, Row)
    return row.value
