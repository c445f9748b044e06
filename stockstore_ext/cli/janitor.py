"""``stockstore janitor``."""

import signal
from argparse import Namespace
from contextlib import ExitStack, closing
from threading import Event
from typing import TYPE_CHECKING

from stockstore import open_store
from stockstore_ext.cli.connecting import add_database, database
from stockstore_ext.sqlalchemy.janitor import Janitor

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction


def add_to(commands: "_SubParsersAction[ArgumentParser]") -> None:
    """Add the command."""
    text = "drain the outbox of a database into caches, until it is stopped; several may run side by side"
    parser = commands.add_parser("janitor", help=text, description=text)
    add_database(parser)
    parser.add_argument(
        "--cache", metavar="URL", action="append", required=True, help="a shared cache, such as redis://host/0; may be repeated"
    )
    parser.add_argument("--once", action="store_true", help="drain what is there, and end")
    parser.add_argument("--every", metavar="SECONDS", type=float, default=0.5, help="from one look for rows to the next (0.5)")
    parser.set_defaults(run=run)


def run(asked: Namespace) -> None:
    """Drain once, or until SIGTERM or SIGINT; what cannot be reached at the start is an error."""
    with database(asked.database) as engine, ExitStack() as stack:
        # Each by itself: the last one of a chain would be its origin.
        stores = [open_store(url).tiers[0] for url in asked.cache]
        janitor = Janitor(engine, stores, every=asked.every)
        for store in stores:
            stack.enter_context(closing(store))
        if asked.once:
            print(f"drained {janitor.run_once()} rows")
        else:
            _run_until_told(janitor)


def _run_until_told(janitor: Janitor) -> None:
    janitor.check()
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    janitor.run(stop)
