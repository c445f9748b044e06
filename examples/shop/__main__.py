"""The demo's command line."""

import argparse
import os
import signal
import sys

STATUS_BAD_INPUT, STATUS_INTERRUPTED = 2, 130


def main(arguments: list[str] | None = None) -> int:
    try:
        return run(options(arguments))
    except KeyboardInterrupt:
        print("scripts/demo: stopped", file=sys.stderr)
        return STATUS_INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough, such as `head`; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Put, read, change and delete a small shop's rows through a chain of stores, and show which tier answered and how fast.",
        epilog="Without options: process memory over an SQLite file of its own. It touches only a namespace and tables (stockstore_demo_*) of its own.",
    )
    parser.add_argument("--redis", metavar="URL", help="put Redis into the chain, e.g. redis://:password@localhost:6379/0")
    parser.add_argument("--memcached", metavar="HOST:PORT", help="put memcached into the chain, e.g. localhost:11211, or a socket's path")
    parser.add_argument("--database", metavar="URL", help="the database, e.g. postgresql+psycopg://user:password@localhost/shop")
    return parser.parse_args(arguments)


def run(given: argparse.Namespace) -> int:
    from examples.shop.job import show
    from examples.shop.tiers import opened
    from stockstore import StockstoreError

    try:
        with opened(given.redis, given.memcached, given.database) as tiers:
            return 0 if show(tiers) else 1
    except StockstoreError as error:
        print("scripts/demo:", *str(error).split(), file=sys.stderr)
        return STATUS_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
