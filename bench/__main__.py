"""The command line: measure the subjects asked for, and print the table."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, cast

from bench.context import Context
from bench.report import Row, summary, table, write_json, write_markdown
from bench.servers import Servers
from tests.servers.ending import interrupt_on_sigterm

SUBJECTS: Final = {
    "hits": "memory_hits",
    "threads": "threads",
    "redis": "redis_batches",
    "cluster": "redis_cluster",
    "memcached": "memcached_batches",
    "peers": "remote_peers",
    "hydration": "hydration",
    "commits": "session_commits",
    "channel": "channel_cost",
    "reads": "read_through",
    "pages": "warm_pages",
    "web": "web_load",
    "async": "async_reads",
    "size": "memory_size",
    "server-size": "server_sizes",
    "hit-ratio": "hit_ratios",
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    with Servers(options.redis, options.memcached, options.database) as servers:
        rows = list(_measure(Context(servers, options.quick), options.only or list(SUBJECTS)))
    print(table(rows))
    print(f"\n{summary(rows)}")
    if options.json:
        write_json(rows, options.json)
    if options.markdown:
        write_markdown(rows, options.markdown)


def _measure(context: Context, subjects: Sequence[str]) -> Iterator[Row]:
    for subject in subjects:
        start = time.perf_counter()
        rows = cast("Callable[[Context], Iterator[Row]]", import_module(f"bench.{SUBJECTS[subject]}").rows)
        yield from rows(context)
        print(f"{subject}: measured in {time.perf_counter() - start:.0f} s", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure stockstore beside its peers.")
    parser.add_argument("--only", action="append", choices=SUBJECTS, metavar="NAME", help=f"a subject: {', '.join(SUBJECTS)}; repeatable")
    parser.add_argument("--quick", action="store_true", help="few and short rounds: shows that it runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to a file, too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to a file as Markdown, too")
    parser.add_argument("--redis", metavar="URL", help="a Redis to use instead of one of its own")
    parser.add_argument("--memcached", action="append", metavar="HOST:PORT", help="a memcached to use; three times for the rows of three")
    parser.add_argument(
        "--database", metavar="URL", help="a PostgreSQL (postgresql+psycopg://...) to use; gets a schema, dropped at the end"
    )
    return parser


if __name__ == "__main__":
    interrupt_on_sigterm()
    main()
