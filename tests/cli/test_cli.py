import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import ClassVar

import pytest
from sqlalchemy import Engine, make_url, text

from stockstore import MemcacheStore, RedisStore
from stockstore.evidence import Outbox
from stockstore.keys import keys_of
from stockstore_ext.cli import main
from tests.servers.redis import RedisServer
from tests.servers.server import wait_until
from tests.subprocesses import ending

pytestmark = pytest.mark.sa_agnostic


@dataclass
class Thing:
    __keys__: ClassVar[list[str]] = ["id"]
    id: int


@pytest.fixture
def outbox(engine: Engine) -> Iterator[Outbox]:
    """An empty outbox."""
    outbox = Outbox()
    outbox.create(engine)
    yield outbox
    outbox.definition.drop(engine)


def note(engine: Engine, outbox: Outbox, namespace: str, number: int) -> None:
    """Commit a row that names a thing."""
    with engine.begin() as connection:
        outbox.write(connection, b"t%d" % number, [keys_of(Thing).identity.record_text(namespace, number)])


def url_of(engine: Engine) -> str:
    """Give an engine's whole URL."""
    return engine.url.render_as_string(hide_password=False)


def test_the_command_is_installed() -> None:
    """Its name is that of the library."""
    (point,) = entry_points(group="console_scripts", name="stockstore")
    assert point.load() is main


def test_once_drains_into_every_cache(
    engine: Engine, outbox: Outbox, redis_url: str, memcached_address: str, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says how many rows there were, and ends."""
    stores = RedisStore(redis_url, namespace=namespace), MemcacheStore(memcached_address, namespace=namespace)
    for store in stores:
        store.put(Thing(1))
    note(engine, outbox, namespace, 1)
    caches = ["--cache", redis_url, "--cache", f"memcached://{memcached_address}"]
    assert main(["janitor", "--database", url_of(engine), *caches, "--once"]) == 0
    assert capsys.readouterr().out == "drained 1 rows\n"
    assert [store.get(Thing, 1) for store in stores] == [None, None]
    for store in stores:
        store.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_it_is_told_to_end(engine: Engine, outbox: Outbox, redis_url: str, namespace: str, number: signal.Signals) -> None:
    """It drains what comes, and a signal ends it with success."""
    note(engine, outbox, namespace, 1)
    command = [sys.executable, "-m", "stockstore_ext.cli", "janitor", "--database", url_of(engine), "--cache", redis_url, "--every", "0.01"]
    with ending(subprocess.Popen(command)) as process:
        for row in (2, 3):
            wait_until(lambda: rows(engine, outbox) == 0, "the outbox to be drained")
            note(engine, outbox, namespace, row)
        wait_until(lambda: rows(engine, outbox) == 0, "the outbox to be drained")
        process.send_signal(number)
        assert process.wait(20) == 0


def test_a_killed_one_leaves_its_rows_to_the_next(
    engine: Engine, outbox: Outbox, start_redis: Callable[..., RedisServer], namespace: str
) -> None:
    """SIGKILL while its cache is frozen."""
    server = start_redis()
    command = [
        sys.executable,
        "-m",
        "stockstore_ext.cli",
        "janitor",
        "--database",
        url_of(engine),
        "--cache",
        server.url,
        "--every",
        "0.01",
    ]
    with ending(subprocess.Popen(command)) as process:
        note(engine, outbox, namespace, 1)
        wait_until(lambda: rows(engine, outbox) == 0, "the outbox to be drained")
        server.freeze()
        note(engine, outbox, namespace, 2)
        os.kill(process.pid, signal.SIGKILL)
    server.thaw()
    assert rows(engine, outbox) == 1
    assert main(["janitor", "--database", url_of(engine), "--cache", server.url, "--once"]) == 0
    assert rows(engine, outbox) == 0


def rows(engine: Engine, outbox: Outbox) -> int:
    """Count the rows that wait."""
    with engine.connect() as connection:
        return outbox.lag(connection).rows


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--database", "nonsense", "--cache", "redis://localhost"], "the database URL 'nonsense' does not fit"),
        (
            ["--database", "nodb://me:secret@host/db", "--cache", "redis://localhost"],
            "the database URL 'nodb://***@host/db' does not fit: Can't load plugin",
        ),
        (["--database", "sqlite:///{tmp}/a.db", "--cache", "nocache://localhost"], "no store has the scheme 'nocache'"),
        (["--database", "sqlite:///{tmp}/a.db", "--cache", "memory://"], "a janitor needs a shared cache"),
        (["--database", "sqlite:///{tmp}/a.db", "--cache", "redis://localhost", "--every", "0"], "every is a number of seconds above 0"),
        (["--database", "sqlite:///{tmp}/a.db", "--cache", "redis://localhost", "--every", "inf"], "for which a thread can wait, not inf"),
        (["--database", "sqlite:///{tmp}/a.db", "--cache", "redis+asyncio://localhost"], "a janitor blocks its thread, and RedisStore"),
        (["--database", "sqlite://", "--cache", "redis://localhost"], "use a file"),
        (
            ["--database", "sqlite:///{tmp}/a.db", "--cache", "redis://localhost"],
            "no such table: stockstore_outbox; check the database, and that",
        ),
        (
            ["--database", "postgresql+asyncpg://me:s3cret@h/d", "--cache", "redis://h"],
            "postgresql+asyncpg://me:***@h/d names a driver for asyncio",
        ),
        (["--database", "sqlite:////nowhere/a.db", "--cache", "redis://localhost"], "unable to open database file"),
        (["--database", "postgresql+psycopg://me:secret@127.0.0.1:1/db", "--cache", "redis://localhost"], "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("once", [True, False])
def test_what_is_wrong_is_one_line(arguments: list[str], told: str, once: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, with exit status 2, and without a password."""
    given = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    assert main(["janitor", *given, *["--once"] * once]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("stockstore: ")
    assert told in output.err
    assert output.err.count("\n") == 1
    assert "secret" not in output.err


@pytest.mark.parametrize("once", [True, False])
def test_a_cache_that_does_not_answer_is_one_line(engine: Engine, outbox: Outbox, once: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is drained then."""
    note(engine, outbox, "any", 1)
    command = ["janitor", "--database", url_of(engine), "--cache", "redis://me:secret@127.0.0.1:1/0"]
    assert main(command + ["--once"] * once) == 2
    output = capsys.readouterr().err
    assert "127.0.0.1:1" in output
    assert "secret" not in output
    assert output.count("\n") == 1
    assert rows(engine, outbox) == 1


@pytest.mark.parametrize(
    "arguments", [[], ["janitor"], ["triggers"], ["triggers", "install"], ["nonsense"], ["janitor", "--every", "soon"]]
)
def test_a_wrong_command_line_shows_the_right_one(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is 2 there too."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: stockstore" in capsys.readouterr().err


MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Gadget(Base):
    __tablename__ = "cli_gadgets"
    id: Mapped[int] = mapped_column(primary_key=True)
"""


def test_triggers_are_installed_shown_and_removed(postgres_engine: Engine, tmp_path: Path) -> None:
    """From the directory that has the models; the outbox is made along; a row that psql would write is noted."""
    (tmp_path / "gadget_models.py").write_text(MODELS)
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE TABLE cli_gadgets (id integer PRIMARY KEY)"))
    where = ["--database", url_of(postgres_engine), "--table", "cli_gadgets"]
    assert run(tmp_path, "triggers", "install", *where, "--models", "gadget_models", "--namespace", "a", "--namespace", "b") == (
        0,
        "installed on cli_gadgets\n",
        "",
    )
    with postgres_engine.begin() as connection:
        connection.execute(text("INSERT INTO cli_gadgets VALUES (1)"))
        noted = connection.execute(text("SELECT texts FROM stockstore_outbox")).scalar_one()
    assert noted == "a:gadget_models.Gadget:id:i1\nb:gadget_models.Gadget:id:i1"
    shown = (0, "cli_gadgets: delete, insert, truncate, update\n", "")
    assert run(tmp_path, "triggers", "show", *where) == shown
    assert run(tmp_path, "triggers", "show", *where[:2]) == shown
    assert run(tmp_path, "triggers", "remove", *where) == (0, "removed from cli_gadgets\n", "")
    assert run(tmp_path, "triggers", "show", *where) == (0, "", "")
    with postgres_engine.begin() as connection:
        connection.execute(text("DROP TABLE cli_gadgets, stockstore_outbox"))


def run(directory: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the installed command, and give exit status and what it printed."""
    command = [str(Path(sys.executable).with_name("stockstore")), *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_triggers_that_cannot_be_made_are_one_line(postgres_engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No such module, no such table, another database, no right to it; and nothing of it is left."""
    good = url_of(postgres_engine)
    stranger = make_url(good).set(username="nobody_here").render_as_string(hide_password=False)
    for arguments, told in (
        (["install", "--database", good, "--models", "no_models", "--table", "a"], "No module named 'no_models'"),
        (["install", "--database", good, "--models", "tests", "--table", "nowhere"], "no mapped class has its rows in a table 'nowhere'"),
        (["install", "--database", f"sqlite:///{tmp_path}/a.db", "--models", "tests", "--table", "a"], "not on sqlite"),
        (["show", "--database", f"sqlite:///{tmp_path}/a.db"], "not on sqlite"),
        (["remove", "--database", good, "--table", "nowhere"], "the database has no table nowhere"),
        (["show", "--database", stranger], 'role "nobody_here" does not exist'),
    ):
        assert main(["triggers", *arguments]) == 2
        output = capsys.readouterr().err
        assert told in output
        assert output.count("\n") == 1
    with postgres_engine.connect() as connection:
        assert not Outbox().exists(connection)
