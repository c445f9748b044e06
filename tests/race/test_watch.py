"""What the logs say while a race goes on: never more than has happened."""

from pathlib import Path

import pytest

from tests.race.checker import NON_LINEARIZABLE, STALE
from tests.race.log import ATTEMPT, READ, Change, Log
from tests.race.watch import Watch, records_so_far

pytestmark = pytest.mark.sa_agnostic


def test_a_look_has_the_writes_that_its_reads_may_have_seen(tmp_path: Path) -> None:
    """A read that is noted after the look began is left out, in whatever file; a write is not, as a read before that may have seen it."""
    one, other = Log(tmp_path / "0.log"), Log(tmp_path / "1.log")
    for log in (one, other):
        log.reads([(0, 1)], 10, 20)
    looked = records_so_far(tmp_path)
    seen = [next(looked)]
    one.attempt([Change(0, 2)], 25)
    other.reads([(0, 2)], 30, 40)
    other.attempt([Change(0, 3)], 45)
    seen += looked
    assert [(record.kind, record.version) for record in seen] == [(READ, 1), (READ, 1), (ATTEMPT, 3)]


def test_a_watch_sees_what_it_looks_for(tmp_path: Path) -> None:
    """A stale read, as soon as it is noted."""
    log = Log(tmp_path / "0.log")
    watch, other = (Watch(tmp_path, 2, 0.0, [sort]) for sort in (STALE, NON_LINEARIZABLE))
    log.attempt([Change(0, 2)], 10)
    log.acknowledged([Change(0, 2)], 10, 20)
    assert not watch.sees()
    log.reads([(0, 1)], 30, 40)
    assert not watch.sees()  # so soon after the last look it does not look again
    watch._next = 0.0
    assert (watch.sees(), other.sees()) == (True, False)
