"""What is left when everything has come to rest."""

import random
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from tests.race.access import open_access
from tests.race.checker import History
from tests.race.failpoints import Failpoints, Odds
from tests.race.job import Job
from tests.race.log import Log
from tests.race.models import GRAVES, Seen, item_class, slug_of
from tests.race.naive import seen_of

_RESOLVE_SECONDS: Final = 1.2
"""What a process waits from its first sight of a marker until it doubts the writer, and some more."""


class Rest(NamedTuple):
    """What is wrong at rest."""

    stale: list[str]
    markers: int
    lost: list[str]
    guarantee: str
    """What the library says of itself in this set-up."""


def look(job: Job, engine: Engine, histories: Sequence[History]) -> Rest:
    """Read every key, twice as a resolver needs it, and compare what the cache holds with the database."""
    log = Log(job.folder / "drain.log")
    access = open_access(job._replace(odds=Odds(), mutation=None), 1, Failpoints(log, Odds(), random.Random(0)), log)
    ids, slugs = list(range(job.keys)), [slug_of(number) for number in range(job.keys)]
    try:
        for pause in (_RESOLVE_SECONDS, 0):
            for by, values in (("id", ids), ("slug", slugs)):
                access.read(by, values)
            time.sleep(0 if job.is_naive else pause)
        rows = _rows(engine)
        stale = [wrong for by, values in (("id", ids), ("slug", slugs)) for wrong in _differing(access, by, values, rows)]
        return Rest(stale, access.markers(ids), _lost(engine, rows, histories, job.keys), access.guarantee())
    finally:
        access.close()


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
    return [
        f"register {history.register}: {history.newest()} acknowledged, {final.get(history.register)} in the database, {history.twice()} twice"
        for history in histories
        if final.get(history.register, -1) < history.newest() or history.twice()
    ]
