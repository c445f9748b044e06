"""PostgreSQL servers of a test's own, and schemas of a test module's own on any of them."""

import contextlib
import os
import pwd
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateSchema, DropSchema

from tests.servers.server import HOST, Server, folder
from tests.servers.source import binary_path

USER = "stockstore"


class PostgresServer(Server):
    """PostgreSQL on a port, its data in its folder (or its container), with one superuser and no password."""

    name = "postgres"
    binary = "postgres"
    # Killed, it would leave its shared memory to the machine, of which there is only so much.
    farewell = signal.SIGQUIT

    @property
    def url(self) -> str:
        """The URL of its first database, for SQLAlchemy with psycopg."""
        return f"postgresql+psycopg://{USER}@{self.address}/postgres"

    def environment(self) -> dict[str, str]:
        """Give what the image's entry point makes the data folder from."""
        return {"POSTGRES_USER": USER, "POSTGRES_DB": "postgres", "POSTGRES_HOST_AUTH_METHOD": "trust"}

    def command(self, listen: str) -> list[str]:
        """Give `postgres` with its port, and with transactions of two phases, which it has not by itself."""
        return [self.binary, "-h", listen, "-p", str(self.port), "-c", "max_prepared_transactions=10"]

    def local_command(self) -> list[str]:
        """Make the data folder and give the command for it, both as an ordinary user: PostgreSQL refuses root."""
        as_user = as_ordinary_user(self.directory)
        data = self.directory / "data"
        initdb = [
            str(binary_path("initdb")),
            "--pgdata",
            str(data),
            "--username",
            USER,
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
        ]
        subprocess.run([*as_user, *initdb, "--no-sync"], check=True, capture_output=True, cwd=self.directory)
        _, *options = self.command(HOST)
        return [*as_user, str(binary_path(self.binary)), "-D", str(data), "-k", str(self.directory), *options]

    def ready(self) -> bool:
        """Tell whether it lets its user in."""
        try:
            psycopg.connect(host=HOST, port=self.port, user=USER, dbname="postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def as_ordinary_user(directory: Path) -> list[str]:
    """For root, hand the folder to another user and give the command that runs a program as that user; else nothing."""
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(directory, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL with an empty database."""
    with folder() as directory, PostgresServer(directory).running() as server:
        yield server


@contextlib.contextmanager
def fresh_schema(url: str) -> Iterator[URL]:
    """Make an empty schema on a server, give the URL whose connections use it, and drop it at the end."""
    name = f"test_{uuid.uuid4().hex}"
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(CreateSchema(name))
    yield make_url(url).update_query_dict({"options": f"-csearch_path={name}"})
    with engine.begin() as connection:
        connection.execute(DropSchema(name, cascade=True))
