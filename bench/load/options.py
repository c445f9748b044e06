"""The command line of the load."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

SERVERS: Final = ("gunicorn", "uvicorn")
CACHES: Final = ("none", "redis", "memory", "memcached")
_COMPARED: Final = ("none", "redis", "memory")
_MOST: Final = 10_000


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    servers: tuple[str, ...]
    caches: tuple[str, ...]
    workers: int
    seconds: float
    rounds: int
    clients: int
    connections: int
    users: int
    redis: str | None
    memcached: list[str] | None
    database: str | None
    json: Path | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"load: {message}\n")


def parsed(arguments: list[str] | None) -> Options:
    """Give what the user asked for; a bad argument ends the program with one line."""
    given = vars(_parser().parse_args(arguments))
    server, caches = given.pop("server"), given.pop("cache")
    return Options(servers=SERVERS if server == "both" else (server,), caches=tuple(dict.fromkeys(caches or _COMPARED)), **given)


def _parser() -> _Parser:
    parser = _Parser(
        prog="scripts/load", description="Put the web shops of examples/ under load, with several workers, and judge every answer."
    )
    parser.add_argument(
        "--server", choices=(*SERVERS, "both"), default="both", help="gunicorn runs the one on Flask, uvicorn the one on FastAPI (both)"
    )
    parser.add_argument(
        "--cache",
        action="append",
        choices=CACHES,
        help="what the workers cache in: nothing, Redis, memcached, or process memory above Redis; repeatable (none, redis and memory)",
    )
    parser.add_argument("--workers", type=_count, default=4, help="processes of each server (4)")
    parser.add_argument("--seconds", type=_positive, default=10.0, help="of each round (10)")
    parser.add_argument("--rounds", type=_count, default=3, help="how often each cache has its turn, after one that is not counted (3)")
    parser.add_argument("--clients", type=_count, default=2, help="processes that ask (2)")
    parser.add_argument("--connections", type=_count, default=8, help="connections of all of them (8)")
    parser.add_argument("--users", type=_count, default=2000, help="users, of whom each sells 20 items (2000)")
    parser.add_argument("--json", type=_file, metavar="FILE", help="write the figures to a file, too")
    parser.add_argument("--redis", type=_redis, metavar="URL", help="a Redis to use instead of one of its own")
    parser.add_argument("--memcached", action="append", type=_address, metavar="HOST:PORT", help="a memcached to use; repeatable")
    parser.add_argument(
        "--database", type=_database, metavar="URL", help="a PostgreSQL (postgresql+psycopg://...) to use; gets schemas, dropped at the end"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {_MOST}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def _file(text: str) -> Path:
    path = Path(text)
    try:
        path.touch()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: {error.strerror}") from None
    return path


def _redis(text: str) -> str:
    if urlsplit(text).scheme not in {"redis", "rediss", "unix"} or urlsplit(text).query:
        raise argparse.ArgumentTypeError(f"{text!r} is no URL of a Redis without parameters, such as redis://localhost:6379/0")
    return text


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no host:port")
    return text


def _database(text: str) -> str:
    try:
        fits = make_url(text).drivername == "postgresql+psycopg"
    except ArgumentError:
        fits = False
    if not fits:
        raise argparse.ArgumentTypeError("the database is no URL such as postgresql+psycopg://user@host/shop")
    return text
