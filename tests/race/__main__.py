"""The command line of the race."""

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from redis import RedisError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from stockstore import StockstoreError
from tests.race.defences import PROCESSES, SECONDS, check
from tests.race.ending import Ending, Stopped, end_descendants, stoppable
from tests.race.job import FAULTS, MEMORIES, ON_UNREACHABLE, PROTOCOLS, READS
from tests.race.log import POINTS
from tests.race.mutations import MUTATIONS
from tests.race.options import Options, seeded
from tests.race.report import failing, render
from tests.race.running import NAMED, is_cache_url
from tests.race.supervisor import race, running_servers
from tests.servers.source import NoServer


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> "None":  # type: ignore[override]
        """Say what is wrong in one line."""
        self.exit(2, f"race: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Give the parser of the command line."""
    made = _Parser(prog="race", description="Races processes over one cache and one database, and judges every read.")
    made.add_argument("--seconds", type=_positive, help=f"how long (60; with --mutate {SECONDS:g})")
    made.add_argument("--processes", type=_count, help=f"how many at the same time (8; with --mutate {PROCESSES})")
    made.add_argument(
        "--cache", type=_cache, default="redis", help="redis, cluster, sentinel or memcached for servers of its own, or a URL"
    )
    made.add_argument("--database", type=_database, default="postgresql", help="postgresql for a server of its own, or a URL of one")
    made.add_argument("--protocol", choices=PROTOCOLS, default="strict")
    made.add_argument("--faults", type=_faults, default=(), help=f"some of {','.join(FAULTS)}")
    made.add_argument(
        "--reads", choices=READS, default="store", help="by what is read: the store, sessions that read through it, or both awaited (store)"
    )
    made.add_argument(
        "--memory", choices=MEMORIES, nargs="?", const=MEMORIES[0], help=f"put process memory above the cache, {' or '.join(MEMORIES)}"
    )
    made.add_argument("--strict-reads", action="store_true", help="let every other read go past that memory, and miss nothing")
    made.add_argument("--max-staleness", type=_positive, default=1.0, help="the seconds by which that memory may be behind (1)")
    made.add_argument("--keys", type=_count, default=16, help="how many hot rows (16)")
    made.add_argument("--on-unreachable", choices=ON_UNREACHABLE, help="what writers do that cannot mark")
    made.add_argument("--no-outbox", dest="outbox", action="store_false", help="write no rows to the outbox")
    made.add_argument("--releases", type=int, choices=(1, 2), default=1, help="how many releases of the class run at the same time")
    made.add_argument("--seed", type=int, help="makes the processes' choices the same again, not their timing")
    made.add_argument("--mutate", action="store_true", help="take each defence away in turn, and look who sees it")
    made.add_argument(
        "--only", choices=list(MUTATIONS), metavar="DEFENCE", action="append", help="one of those that --mutate is to take away"
    )
    made.add_argument("--without", choices=list(MUTATIONS), metavar="DEFENCE", help=f"take one away, and race: {'; '.join(MUTATIONS)}")
    made.add_argument(
        "--pause", type=_pause, action="append", default=[], metavar="POINT:CHANCE", help=f"where to hold processes up: {', '.join(POINTS)}"
    )
    made.add_argument("--json", type=Path, help="a file for the figures")
    made.add_argument("--keep", type=_folder, help="a new folder for the processes' logs, which are dropped otherwise")
    return made


def _folder(text: str) -> Path:
    path = Path(text)
    try:
        path.mkdir()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be made: {error.strerror}") from None
    return path


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _cache(text: str) -> str:
    if text not in NAMED and not is_cache_url(text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(NAMED)}, nor a URL of one")
    return text


def _database(text: str) -> str:
    try:
        fits = text == "postgresql" or make_url(text).get_backend_name() == "postgresql"
    except ArgumentError:
        fits = False
    if not fits:
        raise argparse.ArgumentTypeError(f"{text!r} is no URL of a PostgreSQL")
    return text


def _pause(text: str) -> tuple[str, float]:
    point, _, chance = text.rpartition(":")
    try:
        fits = point in POINTS and 0 <= float(chance) <= 1
    except ValueError:
        fits = False
    if not fits:
        raise argparse.ArgumentTypeError(f"{text!r} is no point and chance, such as 'after commit:0.1'; the points are {', '.join(POINTS)}")
    return point, float(chance)


def _faults(text: str) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(name for name in text.split(",") if name))
    if unknown := set(wanted) - set(FAULTS):
        raise argparse.ArgumentTypeError(f"no fault is called {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    return wanted


def main(arguments: list[str] | None = None) -> int:
    """Race, tell, and give 0 where all zeros hold, else 1."""
    given = parser().parse_args(arguments)
    if given.protocol.startswith("naive") and given.reads != "store":
        parser().error(f"{given.protocol} knows no --reads {given.reads}: it has no sessions that read through a cache")
    if given.protocol.startswith("naive") and given.memory:
        parser().error(f"{given.protocol} knows no --memory: it has one cache alone")
    if given.strict_reads and not given.memory:
        parser().error("--strict-reads is for --memory: without, all reads are strict")
    if given.strict_reads and given.reads == "sessions":
        parser().error("--strict-reads is for stores: --reads sessions have no strict way to read")
    if given.cache.startswith(("cluster", "sentinel")) and given.protocol.startswith("naive"):
        parser().error("a cluster and Sentinels are raced by the library's protocols only")
    if given.cache.startswith("sentinel") and given.reads == "awaited":
        parser().error("Sentinels are raced by blocking clients only")
    if given.only and not given.mutate:
        parser().error("--only is for --mutate; --without races without a defence")
    if given.mutate and given.cache.startswith(("cluster", "sentinel", "memcached")):
        parser().error("--mutate takes the defences away that there are over one Redis")
    options = Options(
        seconds=given.seconds or (SECONDS if given.mutate else 60.0),
        processes=given.processes or (PROCESSES if given.mutate else 8),
        cache=given.cache,
        database=given.database,
        protocol=given.protocol,
        faults=given.faults,
        reads=given.reads,
        memory=given.memory,
        max_staleness=given.max_staleness,
        strict_reads=given.strict_reads,
        keys=given.keys,
        on_unreachable=given.on_unreachable,
        outbox=given.outbox,
        releases=given.releases,
        seed=seeded(given.seed),
        keep=given.keep,
        pauses=dict(given.pause),
    )
    if given.without:
        options = replace(MUTATIONS[given.without].race(options), mutation=given.without, stop_at=())
    with stoppable() as ending:
        try:
            return _run(options, given, ending)
        except Stopped as stopped:
            sys.stderr.write(f"race: ended by {stopped} before anything was measured\n")
            return stopped.status
        except (OSError, RedisError, SQLAlchemyError, StockstoreError, NoServer) as error:
            sys.stderr.write(f"race: a server did not answer, or refused: {' '.join(str(error).split())}\n")
            return 2


def _run(options: Options, given: argparse.Namespace, ending: Ending) -> int:
    with ExitStack() as servers:
        cache, database = servers.enter_context(running_servers(options))
        # What is begun to be ended is not ended by halves.
        servers.callback(ending.disarm)
        if given.mutate:
            return check(given.only or list(MUTATIONS), lambda changed: race(changed, cache, database), options, ending, given.json)
        report = race(options, cache, database, servers.close)
    sys.stdout.write(render(report))
    if given.json:
        given.json.write_text(json.dumps(report, indent=2))
    if report["stopped"]:
        return Stopped(report["stopped"]).status
    return 1 if failing(report) else 0


def run_alone() -> int:
    """Be all that this process is for, and leave nothing of it running."""
    try:
        return main()
    finally:
        end_descendants()


if __name__ == "__main__":
    sys.exit(run_alone())
