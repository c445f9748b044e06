"""MariaDB servers of a test's own."""

import contextlib
import subprocess
import uuid
from collections.abc import Iterator

import pymysql
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.servers.postgres import as_ordinary_user
from tests.servers.server import HOST, Server, folder
from tests.servers.source import binary_path

USER = "root"
DATABASE = "stockstore"


class MariadbServer(Server):
    """MariaDB on a port, its data in its folder (or its container), with one user, no password and an empty database."""

    name = "mariadb"
    binary = "mariadbd"

    @property
    def url(self) -> str:
        """The URL of its database, for SQLAlchemy with PyMySQL."""
        return f"mariadb+pymysql://{USER}@{self.address}/{DATABASE}"

    def environment(self) -> dict[str, str]:
        """Give what the image's entry point makes the data folder from."""
        return {"MARIADB_ALLOW_EMPTY_ROOT_PASSWORD": "1"}

    def command(self, listen: str) -> list[str]:
        """Give `mariadbd` with its port; the host's own settings are not read."""
        return [self.binary, "--no-defaults", f"--bind-address={listen}", f"--port={self.port}"]

    def local_command(self) -> list[str]:
        """Make the data folder and give the command for it, both as an ordinary user."""
        as_user = as_ordinary_user(self.directory)
        # A server that starts removes the temporary tables of others from a folder that they share.
        folders = [f"--datadir={self.directory / 'data'}", f"--tmpdir={self.directory}"]
        made = ["--no-defaults", *folders, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run([*as_user, str(binary_path("mariadb-install-db")), *made], check=True, capture_output=True, cwd=self.directory)
        _, *options = self.command(HOST)
        files = [*folders, f"--socket={self.directory / 'mariadb.sock'}", f"--pid-file={self.directory / 'mariadb.pid'}"]
        return [*as_user, str(binary_path(self.binary)), *options, *files]

    def ready(self) -> bool:
        """Tell whether it lets its user in; the first one in makes the database."""
        try:
            with pymysql.connect(host=HOST, port=self.port, user=USER, connect_timeout=2) as connection, connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        except pymysql.MySQLError:
            return False
        return True


@contextlib.contextmanager
def running_mariadb() -> Iterator[MariadbServer]:
    """Run a MariaDB with an empty database."""
    with folder() as directory, MariadbServer(directory).running() as server:
        yield server


@contextlib.contextmanager
def fresh_database(url: str) -> Iterator[URL]:
    """Make an empty database on a server, give its URL, and drop it at the end."""
    name = f"test_{uuid.uuid4().hex}"
    owner = create_engine(url, poolclass=NullPool)
    with owner.begin() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(url).set(database=name)
    with owner.begin() as connection:
        connection.execute(text(f"DROP DATABASE {name}"))
