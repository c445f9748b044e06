"""The command line of the programs."""

import argparse
import logging
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from stockstore.errors import ConfigurationError
from tests.aio.databases import DRIVERS
from tests.programs.awaited import AwaitedTwins
from tests.programs.caches import CACHES, MODES, tiers_of
from tests.programs.drawn import awaited, drawn, told
from tests.programs.running import Program
from tests.programs.shrinking import smallest
from tests.programs.twins import Twins
from tests.programs.ways import DOMAINS
from tests.servers.ending import interrupt_on_sigterm
from tests.servers.mariadb import fresh_database, running_mariadb
from tests.servers.memcached import running_memcached
from tests.servers.postgres import fresh_schema, running_postgres
from tests.servers.redis import running_redis
from tests.servers.source import NoServer


def _files(stack: ExitStack) -> Callable[[], str]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return lambda: f"sqlite:///{folder / uuid.uuid4().hex}.db"


def _schemas(stack: ExitStack) -> Callable[[], str]:
    server = stack.enter_context(running_postgres())
    return lambda: stack.enter_context(fresh_schema(server.url)).render_as_string(hide_password=False)


def _databases(stack: ExitStack) -> Callable[[], str]:
    server = stack.enter_context(running_mariadb())
    return lambda: stack.enter_context(fresh_database(server.url)).render_as_string(hide_password=False)


_DATABASES: Final = {"sqlite": _files, "postgresql": _schemas, "mariadb": _databases}
_ASYNC_DRIVERS: Final = {"sqlite": ["aiosqlite"], "postgresql": ["asyncpg", "psycopg_async"]}
_SECONDS: Final = 60.0
_TRIALS: Final = 15
_TOLD: Final = 4000


def parser() -> argparse.ArgumentParser:
    """Give the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="programs", description="Runs random programs with the hook and without, and compares all that can be seen."
    )
    made.add_argument("--seconds", type=float, default=_SECONDS, help=f"how long ({_SECONDS:g})")
    made.add_argument("--seed", type=int, help="the number of the first program; those after it have the next ones")
    made.add_argument("--count", type=int, help="how many programs, whatever time they take")
    made.add_argument("--database", choices=_DATABASES, default="sqlite")
    made.add_argument("--cache", choices=CACHES, default="memory")
    made.add_argument("--async", dest="driver", action="store_const", const="", help="in an event loop, by aiosqlite or asyncpg")
    made.add_argument("--driver", choices=DRIVERS, help="in an event loop, by another one: psycopg_async")
    made.add_argument("--mode", choices=MODES, default="exact")
    made.add_argument("--transactions", choices=DOMAINS, default="plain", help="how those of the sessions are")
    return made


@contextmanager
def twins(given: argparse.Namespace) -> Iterator[Twins]:
    """Give two databases, and caches above one of them."""
    with ExitStack() as stack:
        url = _DATABASES[given.database](stack)
        redis = stack.enter_context(running_redis()).url if "redis" in given.cache else ""
        redis = redis if given.driver is None else redis.replace("://", "+asyncio://", 1)
        memcached = stack.enter_context(running_memcached()).address if "memcached" in given.cache else ""
        tiers = tiers_of(given.cache, redis, memcached)
        if given.driver is None:
            made = Twins(url(), url(), tiers, given.mode)
        else:
            made = AwaitedTwins(given.driver or _ASYNC_DRIVERS[given.database][0], url(), url(), tiers, given.mode)
        stack.callback(made.close)
        yield made


def _given(arguments: list[str] | None) -> argparse.Namespace:
    made = parser()
    given = made.parse_args(arguments)
    if given.driver is not None and (given.database not in _ASYNC_DRIVERS or given.transactions != "plain"):
        made.error("--async is for plain transactions, on sqlite or postgresql")
    drivers = _ASYNC_DRIVERS.get(given.database, ())
    if given.driver and given.driver not in drivers:
        made.error(f"--driver {given.driver} is none of --database {given.database}; give one of {', '.join(drivers)}")
    if given.transactions in ("levels", "phases") and given.database == "sqlite":
        made.error("SQLite has no such transactions")
    return given


def main(arguments: list[str] | None = None) -> int:
    """Run programs until one fails or the time is over; give 0 where none has failed."""
    given = _given(arguments)
    logging.disable(logging.CRITICAL)
    number = random.randrange(2**32) if given.seed is None else given.seed
    end, first = time.monotonic() + given.seconds, number
    try:
        with twins(given) as both:
            while number - first < given.count if given.count else time.monotonic() < end:
                program = drawn(number, given.transactions) if given.driver is None else awaited(number)
                error = failing(both, program)
                if error is not None:
                    sys.stdout.write(f"Program {number} fails by {error!r:.300}; shortened:\n")
                    sys.stdout.flush()
                    sys.stdout.write(f"{_shrunk(both, program, error)}\n")
                    return 1
                number += 1
    except (NoServer, ConfigurationError) as error:
        sys.stderr.write(f"programs: {error}\n")
        return 2
    sys.stdout.write(f"{number - first} programs from {first} on, all the same with the hook and without.\n")
    return 0


def failing(both: Twins, program: Program) -> Exception | None:
    """Give what a program fails with, each time: the order in which a flush does things is chance where it does not matter."""
    error = _failed_with(both, program)
    again = error is not None and all(_failed_with(both, program) for _ in range(_TRIALS - 1))
    return error if again else None


def _failed_with(both: Twins, program: Program) -> Exception | None:
    try:
        both.compare(program)
    except Exception as error:  # noqa: BLE001 - also what is wrong with the library
        return error
    return None


def _shrunk(both: Twins, program: Program, error: Exception) -> str:
    kind = type(error)
    found = smallest(program, lambda less: type(failing(both, less)) is kind)
    return f"{told(found)}\n{kind.__name__}: {str(failing(both, found) or error)[:_TOLD]}"


if __name__ == "__main__":
    interrupt_on_sigterm()
    sys.exit(main())
