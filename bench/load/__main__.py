"""The command line: run each shop with each cache, and tell what it did."""

import json
import os
import platform
import sys
from contextlib import ExitStack
from typing import Any

from redis import RedisError
from sqlalchemy.exc import SQLAlchemyError

from bench.load.client import Result
from bench.load.figures import figures, render
from bench.load.fleet import THREADS, Fleet, NotServedError, running_fleet
from bench.load.options import Options, parsed
from bench.load.reaching import reach
from bench.servers import Servers
from stockstore import StockstoreError
from tests.servers.ending import interrupt_on_sigterm
from tests.servers.source import NoServer


def main(arguments: list[str] | None = None) -> int:
    """Give 0, or 1 where an answer was an error, or 2 where a server could not be reached or started."""
    options = parsed(arguments)
    try:
        reach(options)
        with Servers(options.redis, options.memcached, options.database) as servers:
            told = {server: _compared(server, options, servers) for server in options.servers}
    except (OSError, RedisError, SQLAlchemyError, StockstoreError, NoServer, NotServedError) as error:
        sys.stderr.write(f"load: a server did not answer, or refused: {' '.join(str(getattr(error, 'orig', None) or error).split())}\n")
        return 2
    report = {"title": _title(options), "servers": told}
    print(render(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(shop["errors"] for shops in told.values() for shop in shops.values()))


def _compared(server: str, options: Options, servers: Servers) -> dict[str, Any]:
    """Let the caches take turns, so that what disturbs the machine disturbs all of them."""
    with ExitStack() as stack:
        fleets = {cache: stack.enter_context(running_fleet(server, cache, options, servers)) for cache in options.caches}
        # Each worker's own memory is to be warm, as that of a server that has run for a while.
        earlier = {cache: fleet.ask(options.seconds).writes for cache, fleet in fleets.items()}
        before = {cache: fleet.tiers() for cache, fleet in fleets.items()}
        rounds: dict[str, list[Result]] = {cache: [] for cache in fleets}
        order = list(fleets)
        for _ in range(options.rounds):
            for cache in order:
                rounds[cache].append(fleets[cache].ask(options.seconds))
            order.reverse()
        tiers = {cache: _since(before[cache], fleet) for cache, fleet in fleets.items()}
    return {cache: figures(rounds[cache], rounds.get("none"), options.seconds, tiers[cache], earlier[cache]) for cache in rounds}


def _since(before: dict[str, tuple[int, int]], fleet: Fleet) -> dict[str, tuple[int, int]]:
    return {name: (hits - before[name][0], misses - before[name][1]) for name, (hits, misses) in fleet.tiers().items()}


def _title(options: Options) -> str:
    asked = f"{options.workers} workers ({THREADS} threads each with gunicorn), {options.connections} connections, {options.users:,} users, {options.rounds} rounds of {options.seconds:g} s"
    return f"{asked}; {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    interrupt_on_sigterm()
    sys.exit(main())
