"""What is left when everything has come to rest."""

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session

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

_RESOLVE_SECONDS: Final = 1.2
"""What a process waits from its first sight of a marker until it doubts the writer, and some more."""


class Rest(NamedTuple):
    """What is wrong at rest."""

    stale: list[str]
    markers: int
    lost: list[str]
    guarantee: str
    """What the library says of itself in this set-up."""


def look(in_child: Callable[..., None], job: Job, engine: Engine, histories: Sequence[History]) -> Rest:
    """Give what is wrong; the caches are looked at by a process of its own, which does without what all others do without."""
    in_child(_look_at_caches, job)
    stale, markers, guarantee = json.loads((job.folder / "rest.json").read_text())
    return Rest(stale, markers, _lost(engine, _rows(engine), histories, job.keys), guarantee)


def _look_at_caches(job: Job) -> None:
    """Read every key, twice as a resolver needs it, and compare what the cache holds with the database."""
    take_away(job.mutation)
    if job.outbox:
        janitor_of(job).run_once()
    log = Log(job.folder / "drain.log")
    access = open_access(job._replace(odds=Odds(), reads="store"), 1, Failpoints(log, Odds(), random.Random(0)), log)
    ids, slugs = list(range(job.keys)), [slug_of(number) for number in range(job.keys)]
    for pause in (_RESOLVE_SECONDS, 0):
        for by, values in (("id", ids), ("slug", slugs)):
            access.read(by, values)
        time.sleep(0 if job.is_naive else pause)
    rows = _rows(create_engine(job.database))
    stale = [wrong for by, values in (("id", ids), ("slug", slugs)) for wrong in _differing(access, by, values, rows)]
    (job.folder / "rest.json").write_text(json.dumps([stale, access.markers(ids), access.guarantee()]))


def _rows(engine: Engine) -> list[Seen]:
    with Session(engine) as session:
        return [seen_of(row) for row in session.scalars(select(item_class(1)))]


def _differing(access: Any, by: str, values: Sequence[Any], rows: Sequence[Seen]) -> list[str]:
    truth = {getattr(row, by): row for row in rows}
    found = zip(values, access.cached(by, values), strict=True)
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
