"""What is left when everything has come to rest."""

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session

from stockstore import ProcessMemoryStore
from tests.race.access import open_access
from tests.race.checker import History
from tests.race.failpoints import Failpoints, Odds
from tests.race.job import Job
from tests.race.log import Log
from tests.race.models import GRAVES, Seen, item_class, slug_of
from tests.race.mutations import take_away
from tests.race.naive import seen_of
from tests.race.puts import PUTS
from tests.race.unseen import janitor_of

_LOOK_SECONDS: Final = 0.02
_RESOLVE_SECONDS: Final = 1.2
"""What a process waits from its first sight of a marker until it doubts the writer, and some more."""
_LOOKS: Final = 6


class Rest(NamedTuple):
    """What is wrong at rest."""

    stale: list[str]
    markers: int
    lost: list[str]
    guarantee: str
    """What the library says of itself in this set-up."""
    memories: int
    """How many processes were asked what their memories hold."""
    held: int
    """How many objects those held."""


def look(
    in_child: Callable[..., None], job: Job, engine: Engine, histories: Sequence[History], ask_memories: Callable[[], Sequence[Path]]
) -> Rest:
    """Give what is wrong; the caches are looked at by a process of its own, which does without what all others do without."""
    in_child(_look_at_caches, job)
    stale, markers, guarantee = json.loads((job.folder / "rest.json").read_text())
    told = [json.loads(path.read_text()) for path in ask_memories()]
    stale += [wrong for memory in told for wrong in memory["stale"]]
    lost = _lost(engine, _rows(engine), histories, job.keys)
    return Rest(stale, markers, lost, guarantee, len(told), sum(memory["held"] for memory in told))


def tell_memory(job: Job, slot: int, memory: ProcessMemoryStore, item: Any) -> None:
    """Wait until all has come to rest, and tell what is in the memory of this process."""
    job.rest(slot)
    while not job.is_looked_at:
        time.sleep(_LOOK_SECONDS)

    def held(by: str, values: Sequence[Any]) -> list[Seen | None]:
        return [None if row is None else seen_of(row) for row in memory.batch_get(item, [{by: value} for value in values])]

    ids, slugs = list(range(job.keys)), [slug_of(number) for number in range(job.keys)]
    rows = _rows(create_engine(job.database))
    stale = [f"process {slot}, {wrong}" for by, values in (("id", ids), ("slug", slugs)) for wrong in _differing(held, by, values, rows)]
    told = {"held": sum(row is not None for row in held("id", ids)), "stale": stale}
    (job.folder / f"{slot}.memory").write_text(json.dumps(told))


def _look_at_caches(job: Job) -> None:
    """Read every key, twice as a resolver needs it, or until the database knows of every writer's end, and compare the cache with it."""
    take_away(job.mutation)
    if job.outbox:
        janitor_of(job).run_once()
    log = Log(job.folder / "drain.log")
    access = open_access(job._replace(odds=Odds(), reads="store"), 1, Failpoints(log, Odds(), random.Random(0)), log)
    ids, slugs = list(range(job.keys)), [slug_of(number) for number in range(job.keys)]
    for at in range(_LOOKS):
        for by, values in (("id", ids), ("slug", slugs)):
            access.read(by, values)
        if at and not access.markers(ids):
            break
        time.sleep(0 if job.is_naive else _RESOLVE_SECONDS)
    rows = _rows(create_engine(job.database))
    stale = [wrong for by, values in (("id", ids), ("slug", slugs)) for wrong in _differing(access.cached, by, values, rows)]
    (job.folder / "rest.json").write_text(json.dumps([stale, access.markers(ids), access.guarantee()]))


def _rows(engine: Engine) -> list[Seen]:
    with Session(engine) as session:
        return [seen_of(row) for row in session.scalars(select(item_class(1)))]


def _differing(
    cached: Callable[[str, Sequence[Any]], list[Seen | None]], by: str, values: Sequence[Any], rows: Sequence[Seen]
) -> list[str]:
    truth = {getattr(row, by): row for row in rows}
    found = zip(values, cached(by, values), strict=True)
    return [
        f"{by} {value}: {held}, in the database {truth.get(value)}"
        for value, held in found
        if held is not None and held != truth.get(value)
    ]


def _lost(engine: Engine, rows: Sequence[Seen], histories: Sequence[History], keys: int) -> list[str]:
    """Give the registers whose acknowledged versions the database does not have, or that two writers have made."""
    final = {row.id: row.version for row in rows}
    final.update({keys + int(row.slug.rpartition("-")[2]): row.slug_version for row in rows})
    with engine.connect() as connection:
        for grave in connection.execute(select(GRAVES)):
            final[grave.id] = grave.version
            final[keys + int(grave.slug.rpartition("-")[2])] = grave.slug_version
        for put in connection.execute(select(PUTS)):
            final.setdefault(put.id, put.version)
            final.setdefault(keys + put.id, put.version)
    return [
        f"register {history.register}: {history.newest()} acknowledged, {final.get(history.register)} in the database, {history.twice()} twice"
        for history in histories
        if final.get(history.register, -1) < history.newest() or history.twice()
    ]
