import io
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import port_for
import pytest
from redis import Redis
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.pool import NullPool

from examples.shop.__main__ import main
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.subprocesses import ending

pytestmark = pytest.mark.sa_agnostic

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "scripts" / "demo"
BAD_INPUT, INTERRUPTED = 2, 130
COUNTER = {b"stockstore~0"}
"""What all stores on a Redis number their messages by, which belongs to none of them."""


def demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo from another folder than the repository's."""
    return subprocess.run(
        [DEMO, *arguments],
        capture_output=True,
        encoding="utf-8",
        cwd="/",
        env={**os.environ, "PYTHONUTF8": "1", **environment},
        check=False,
    )


def refusal(*arguments: str) -> str:
    """Run the demo on bad input, in this process, and give the one line that it says."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(list(arguments))
    return the_line(status, out.getvalue(), err.getvalue())


def the_line(status: int, out: str, err: str) -> str:
    """Give the one line that a refusal consists of."""
    assert (status, out) == (BAD_INPUT, ""), err
    (line,) = err.splitlines()
    assert line.startswith("scripts/demo: ")
    return line


def rows_of(output: str, title: str) -> list[list[str]]:
    """Give the cells of the table under a title, less its head."""
    _, _, rest = output.partition(title)
    lines = rest.split("\n\n")[1].splitlines()[2:]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def demo_tables(url: str) -> list[str]:
    """Name the demo's tables in a database."""
    engine = create_engine(url, poolclass=NullPool)
    return [name for name in inspect(engine).get_table_names() if name.startswith("stockstore_demo_")]


def refused_port() -> int:
    """Give a port on which nobody listens."""
    return int(port_for.select_random())


def test_the_embedded_demo_shows_who_answered_how_often_and_how_fast() -> None:
    """Without options the demo runs on process memory and SQLite; every value is right, hits add up to all reads, speeds are told."""
    result = demo()
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("The chain: process memory > SQLite\n")
    readings = rows_of(result.stdout, "Who answers a read")
    assert {row[-1] for row in readings} == {"✓"}
    assert readings[0] == ["put, then read by primary key", "process memory", "✓"]
    assert ["in a new process, its memory is empty", "SQLite", "✓"] in readings
    assert ["a batch: 100 orders, one does not exist", "1 process memory, 98 SQLite, 1 none: no such row", "✓"] in readings
    assert ["by the old one", "none: no such row", "✓"] in readings
    written = rows_of(result.stdout, "What sessions write")
    assert {row[-1] for row in written} == {"✓"}
    assert written[-1] == ["once its transaction is known to be over", "process memory", "✓"]
    ratios = rows_of(result.stdout, "Hit ratios")
    assert [row[0] for row in ratios] == ["process memory", "SQLite"]
    assert sum(int(row[2].replace(",", "")) for row in ratios) == int(ratios[0][1].replace(",", ""))
    speeds = {row[0]: row[1:] for row in rows_of(result.stdout, "Microseconds per row")}
    assert list(speeds) == ["plain SQLAlchemy", "process memory", "SQLite"]
    assert (speeds["plain SQLAlchemy"][1], speeds["plain SQLAlchemy"][3]) == ("1.0x", "1.0x")


def test_the_demo_runs_on_real_servers(redis_url: str, memcached_address: str, postgres_schema_url: str) -> None:
    """Each of three servers answers when the tiers above it are empty; afterwards there is what was there before, and no more."""
    engine = create_engine(postgres_schema_url, poolclass=NullPool)
    with Redis.from_url(redis_url) as client, engine.begin() as connection:
        client.set("mine", "value")
        connection.execute(text("CREATE TABLE orders (id INT)"))
    result = demo("--redis", redis_url, "--memcached", memcached_address, "--database", postgres_schema_url)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("The chain: process memory > Redis > memcached > PostgreSQL\n")
    readings = rows_of(result.stdout, "Who answers a read")
    assert {row[-1] for row in readings} == {"✓"}
    assert {row[1] for row in readings} >= {"process memory", "Redis", "memcached", "PostgreSQL"}
    written = rows_of(result.stdout, "What sessions write")
    assert {row[-1] for row in written} == {"✓"}
    assert written[-1][:1] == ["once its transaction is known to be over"]
    assert written[-1][1] != "PostgreSQL"
    assert inspect(engine).get_table_names() == ["orders"]
    with Redis.from_url(redis_url) as client:
        assert set(client.keys()) == {b"mine", *COUNTER}


def test_one_server_alone_and_a_terminal_without_check_marks(memcached_address: str) -> None:
    """Any subset of the options gives a chain of these tiers; where the output's encoding has no check mark, the table says it in words."""
    result = demo("--memcached", memcached_address, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("The chain: process memory > memcached > SQLite\n")
    assert {row[-1] for row in rows_of(result.stdout, "Who answers a read")} == {"right"}


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--redis", "http://localhost", "'http://localhost' is no Redis URL that can be used; write redis://"),
        ("--redis", "redis://localhost:port", "is no Redis URL that can be used"),
        ("--memcached", "localhost:port", "'localhost:***'"),
        ("--memcached", "", "memcached"),
        ("--database", "nosuch://localhost/shop", "the database URL 'nosuch://localhost/shop' does not fit"),
        ("--database", "shop.db", "the database URL 'shop.db' does not fit"),
        ("--database", "oracle://localhost/shop", "the database driver is missing"),
        ("--database", "sqlite://", "the demo's other processes do not see sqlite://, which is in memory; name a file"),
        ("--database", "postgresql+asyncpg://127.0.0.1:1/shop", "the demo needs a blocking driver, not that of postgresql+asyncpg://127"),
        (
            "--database",
            "sqlite:////nonexistent/folder/shop.db",
            "the database sqlite:////nonexistent/folder/shop.db cannot be used: unable to open",
        ),
    ],
)
def test_a_bad_url_is_one_line(option: str, value: str, says: str) -> None:
    """A URL that does not fit is told in one line that quotes it or says what does."""
    assert says in refusal(option, value)


def test_a_refused_port_is_one_line() -> None:
    """A server that is not there is told with its address, whichever server it is."""
    port = refused_port()
    assert f"Redis at 127.0.0.1:{port} did not do what was asked" in refusal("--redis", f"redis://127.0.0.1:{port}")
    assert f"memcached at 127.0.0.1:{port} did not do what was asked" in refusal("--memcached", f"127.0.0.1:{port}")
    database = f"postgresql+psycopg://shop:s3cret@127.0.0.1:{port}/shop"
    line = refusal("--database", database)
    assert f"the database postgresql+psycopg://shop:***@127.0.0.1:{port}/shop cannot be used" in line
    assert "refused" in line.lower()
    assert "s3cret" not in line


def test_a_wrong_password_of_redis_is_one_line(start_redis: Callable[..., RedisServer]) -> None:
    """A Redis that wants another password is told by address, and the password is not shown."""
    server = start_redis("--requirepass", "right")
    line = refusal("--redis", f"redis://:s3cret@{server.address}")
    assert f"Redis at {server.address} did not do what was asked" in line
    assert line.rstrip().endswith("; check the user and the password that the URL or the client gives")
    assert "s3cret" not in line


def test_a_replica_is_one_line(start_redis: Callable[..., RedisServer]) -> None:
    """A Redis that may only be read is refused before anything is measured."""
    server = start_redis("--replicaof", "127.0.0.1", str(refused_port()))
    line = refusal("--redis", f"redis://{server.address}")
    assert f"Redis at {server.address} did not do what was asked: You can't write against a read only replica" in line
    assert line.rstrip().endswith("; name its primary: a cache is written to")


def test_a_wrong_password_of_postgres_is_one_line(start_postgres: Callable[[], PostgresServer]) -> None:
    """A PostgreSQL that refuses the password is told with its reason, and the password is not shown."""
    server = start_postgres()
    demand_passwords(server.url)
    url = make_url(server.url).set(password="s3cret").render_as_string(hide_password=False)
    line = refusal("--database", url)
    assert "cannot be used" in line
    assert "password authentication failed" in line
    assert "s3cret" not in line


def demand_passwords(url: str) -> None:
    """Let a PostgreSQL that trusts everybody ask for passwords."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        path = connection.execute(text("SHOW hba_file")).scalar_one()
        connection.execute(text(f"COPY (SELECT 'host all all all scram-sha-256') TO '{path}'"))
        connection.execute(text("SELECT pg_reload_conf()"))


def test_a_missing_database_is_one_line(postgres_url: str) -> None:
    """A database that does not exist is named."""
    url = make_url(postgres_url).set(database="nosuch").render_as_string(hide_password=False)
    assert 'database "nosuch" does not exist' in refusal("--database", url)


def test_a_server_that_fails_leaves_no_tables(postgres_schema_url: str) -> None:
    """Where one server does not answer, nothing was written to the others."""
    result = demo("--redis", f"redis://127.0.0.1:{refused_port()}", "--database", postgres_schema_url)
    the_line(result.returncode, result.stdout, result.stderr)
    assert demo_tables(postgres_schema_url) == []


def test_help_names_the_options() -> None:
    """--help tells what can be given, and exits well."""
    result = demo("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for option in ("--redis URL", "--memcached HOST:PORT", "--database URL"):
        assert option in result.stdout


def test_an_unknown_option_is_refused() -> None:
    """An option that does not exist is named, with the usage, and the exit status is 2."""
    result = demo("--mongo", "url")
    assert (result.returncode, result.stdout) == (BAD_INPUT, "")
    assert "unrecognized arguments: --mongo" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def _hears_interrupts() -> Iterator[None]:
    """A shell starts what runs in its background with interrupts ignored, and each process hands that on to those it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_hears_interrupts")
def test_ctrl_c_cleans_up(redis_url: str, postgres_schema_url: str) -> None:
    """An interrupt stops the demo with status 130 and one line, its tables and entries gone."""
    arguments = [str(DEMO), "--redis", redis_url, "--database", postgres_schema_url]
    with ending(subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "scripts/demo: stopped\n"
    assert process.returncode == INTERRUPTED
    assert demo_tables(postgres_schema_url) == []
    with Redis.from_url(redis_url) as client:
        assert set(client.keys()) <= COUNTER


def test_a_reader_that_leaves_is_no_error() -> None:
    """Output into a pipe that closes early ends the demo in silence."""
    result = subprocess.run(["bash", "-c", f"'{DEMO}' | head -n 1"], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("The chain: process memory > SQLite\n", "")
