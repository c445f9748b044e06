"""Who takes part besides: the janitor, and a writer whom no hook sees, but the triggers."""

import gc
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from stockstore.evidence import Outbox
from stockstore_ext.sqlalchemy.janitor import Janitor
from stockstore_ext.sqlalchemy.triggers import install, remove
from tests.race.access import cache_of
from tests.race.ending import leave_signals_to_supervisor
from tests.race.job import Job
from tests.race.log import Log
from tests.race.models import item_class
from tests.race.mutations import take_away
from tests.race.workload import Work, change_in_bulk, change_in_core

_EVERY: Final = 0.02
_MINE = text(
    "SELECT id FROM stockstore_outbox WHERE CAST(CAST(xmin AS text) AS bigint) = CAST(CAST(pg_current_xact_id() AS text) AS bigint) % 4294967296"
)
_LEFT = text("SELECT count(*) FROM stockstore_outbox WHERE id = ANY(:ids)")


def make_outbox(engine: Engine, namespace: str) -> Callable[[], None]:
    """Make the outbox, where there is none, and the triggers; give what removes what was made."""
    there = inspect(engine).has_table("stockstore_outbox")
    Outbox().create(engine)
    # Classes that were let go of stay mapped to the table until they are collected, which may be in the middle of the installation.
    gc.collect()
    item = item_class(1)
    with engine.begin() as connection:
        install(connection, [item.__table__.name], namespaces=[namespace])

    def undo() -> None:
        with engine.begin() as connection:
            remove(connection, [item.__table__.name])
        if not there:
            Outbox().definition.drop(engine, checkfirst=True)

    return undo


def janitor_of(job: Job) -> Janitor:
    """Make a janitor."""
    return Janitor(create_engine(job.database), [cache_of(job)], every=job.drain_every)


def clean(job: Job, slot: int, life: int) -> None:
    """Be a janitor until the time is over."""
    leave_signals_to_supervisor()
    take_away(job.mutation)
    over = threading.Event()
    threading.Thread(target=_wait, args=(job, over), daemon=True).start()
    job.ready(slot)
    janitor_of(job).run(over)


def _wait(job: Job, over: threading.Event) -> None:
    while not job.is_over:
        time.sleep(_EVERY)
    over.set()


def write_unseen(job: Job, slot: int, life: int) -> None:
    """Be a writer without a hook until the time is over; its writes bind readers once the janitor has told the caches."""
    leave_signals_to_supervisor()
    log, chance = Log(job.folder / f"{slot}.{life}.log"), random.Random(f"{job.seed}.{slot}.{life}")
    job.ready(slot)
    engine, item = create_engine(job.database, connect_args={"application_name": "stockstore-race"}), item_class(1)
    while not job.is_written:
        try:
            with Session(engine) as session:
                work = Work(session, item, job.session_keys, job.keys, chance)
                chance.choice([change_in_core, change_in_bulk])(work)
                _finish(session, work, log, job)
        except DBAPIError:
            log.count("writes refused by the database")
        log.flush()
        time.sleep(chance.random() * 0.2)


def _finish(session: Session, work: Work, log: Log, job: Job) -> None:
    ids: list[Any] = list(session.scalars(_MINE))
    start = time.monotonic_ns()
    log.count("writes attempted")
    log.attempt(work.changes, start, late=True)
    session.commit()
    while not job.is_over:
        if not session.scalar(_LEFT, {"ids": ids}):
            log.acknowledged(work.changes, start, time.monotonic_ns())
            return
        session.rollback()
        time.sleep(_EVERY / 4)
