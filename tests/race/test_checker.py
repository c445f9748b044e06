"""The judge of a race knows right histories from wrong ones."""

import random
from pathlib import Path

import pytest

from tests.race.checker import (
    DIRTY,
    NON_LINEARIZABLE,
    NON_LINEARIZABLE_BEYOND,
    OWN_MISSED,
    STALE,
    STALE_BEYOND,
    STRICT_WRONG,
    WRONG_OBJECT,
    Verdict,
    histories,
    judge,
)
from tests.race.log import ABSENT, ACKNOWLEDGED, ATTEMPT, LATE, MISSED, READ, STRICT, WRONG, Change, Log, Record, records_in

pytestmark = pytest.mark.sa_agnostic


def attempted(version: int, start: int, *, absent: bool = False, kind: int = ATTEMPT) -> Record:
    """A COMMIT that is about to be sent."""
    return Record(kind, int(absent), 0, version, start, 0)


def written(version: int, start: int, end: int, *, absent: bool = False, kind: int = ATTEMPT) -> list[Record]:
    """A COMMIT that was acknowledged."""
    return [attempted(version, start, absent=absent, kind=kind), Record(ACKNOWLEDGED, int(absent), 0, version, start, end)]


def read(version: int, start: int, end: int) -> Record:
    """A read."""
    return Record(READ, 0, 0, version, start, end)


def verdict_of(*records: Record, bound: int = 0) -> Verdict:
    """Judge one register, in which version 1 was there from the start."""
    by_register, _, wrong = histories(records, 1)
    verdict = Verdict(bound)
    judge(by_register[0], verdict)
    for violation in wrong:
        verdict.add(violation)
    return verdict


def found(*records: Record, bound: int = 0) -> dict[str, int]:
    """What is wrong in a register."""
    return {sort: number for sort, number in verdict_of(*records, bound=bound).found.items() if number}


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([read(1, 0, 5), read(1, 0, 5)], id="nothing written"),
        pytest.param([*written(2, 10, 20), read(1, 15, 18), read(2, 12, 25), read(2, 21, 22)], id="old or new while it is written"),
        pytest.param([*written(2, 10, 20), read(1, 19, 40)], id="old, by a read that began before the acknowledgement"),
        pytest.param([attempted(2, 10), read(2, 11, 12), read(2, 13, 14)], id="new, though never acknowledged"),
        pytest.param([attempted(2, 10), read(1, 11, 12), read(1, 13, 14)], id="old, as a commit failed"),
        pytest.param([*written(2, 10, 20, absent=True), read(ABSENT, 15, 16), read(ABSENT, 21, 22)], id="deleted"),
        pytest.param(
            [*written(2, 10, 20, absent=True), *written(3, 30, 40), read(ABSENT, 31, 50), read(3, 51, 60)], id="deleted and made anew"
        ),
        pytest.param(
            [
                *written(2, 10, 20, absent=True),
                *written(3, 30, 40),
                *written(4, 50, 60, absent=True),
                read(3, 45, 46),
                read(ABSENT, 47, 55),
            ],
            id="which of two deletions",
        ),
        pytest.param([*written(2, 10, 100, kind=LATE), read(2, 20, 30), read(1, 40, 50), read(2, 101, 102)], id="late"),
    ],
)
def test_right_histories(records: list[Record]) -> None:
    """Nothing is found in them, in whatever order the logs come."""
    assert found(*records) == {}
    assert found(*reversed(records)) == {}


@pytest.mark.parametrize(
    ("records", "sort"),
    [
        pytest.param([*written(2, 10, 20), read(1, 21, 22)], STALE, id="old after the acknowledgement"),
        pytest.param([*written(2, 10, 20), *written(3, 30, 40), read(2, 41, 42)], STALE, id="one of several"),
        pytest.param([attempted(2, 10), read(2, 11, 12), read(1, 13, 14)], NON_LINEARIZABLE, id="new, then old"),
        pytest.param([read(2, 5, 9), attempted(2, 10)], DIRTY, id="before the commit"),
        pytest.param([read(-2, 5, 9)], DIRTY, id="rolled back"),
        pytest.param([read(ABSENT, 5, 9)], DIRTY, id="absent, though never deleted"),
        pytest.param([*written(2, 10, 20, absent=True), read(1, 21, 22)], STALE, id="still there"),
        pytest.param([*written(2, 10, 20, absent=True), *written(3, 30, 40), read(ABSENT, 41, 42)], STALE, id="still not there"),
        pytest.param(
            [attempted(2, 10, absent=True), attempted(3, 20), read(3, 21, 22), read(ABSENT, 23, 24)], NON_LINEARIZABLE, id="not there again"
        ),
        pytest.param([*written(2, 10, 100, kind=LATE), read(1, 101, 102)], STALE, id="late, and later still"),
        pytest.param([Record(WRONG, 0, 0, 0, 5, 9)], WRONG_OBJECT, id="another object"),
    ],
)
def test_wrong_histories(records: list[Record], sort: str) -> None:
    """Just one violation is found, of the right sort."""
    assert found(*records) == {sort: 1}
    assert found(*reversed(records)) == {sort: 1}


def test_a_dirty_read_binds_nobody() -> None:
    """What should not have been seen is no reason to call what follows old."""
    assert found(read(2, 5, 9), read(1, 10, 11), *written(2, 20, 30)) == {DIRTY: 1}


def test_what_a_read_shows_of_another_key_binds_later_reads_and_is_not_judged_itself() -> None:
    """A row that was read by its slug tells that the slug was not free then."""
    aside = read(3, 21, 22)._replace(absent=1)
    history = [*written(2, 10, 20, absent=True), attempted(3, 20)]
    assert found(*history, aside, read(ABSENT, 23, 24)) == {NON_LINEARIZABLE: 1}
    assert found(*history, *written(4, 30, 40), aside._replace(start=41, end=42)) == {}


def test_the_age_is_that_since_the_first_newer_version() -> None:
    """The longest time that a stale read came after the acknowledgement."""
    verdict = verdict_of(*written(2, 10, 20), *written(3, 30, 40), read(1, 25, 26), read(1, 70, 71), read(2, 71, 72))
    assert (verdict.found[STALE], max(verdict.ages)) == (3, 50)


@pytest.mark.parametrize(
    ("records", "sorts"),
    [
        pytest.param([*written(2, 10, 20), read(1, 30, 31)], {STALE: 1}, id="at the bound"),
        pytest.param([*written(2, 10, 20), read(1, 31, 32)], {STALE: 1, STALE_BEYOND: 1}, id="beyond it"),
        pytest.param(
            [*written(2, 10, 20), *written(3, 30, 40), read(1, 41, 42)], {STALE: 1, STALE_BEYOND: 1}, id="of two missed, the first"
        ),
        pytest.param([*written(2, 10, 20), *written(3, 30, 40), read(2, 41, 42)], {STALE: 1}, id="of two, one missed"),
        pytest.param([*written(2, 10, 20), read(1, 21, 32)], {STALE: 1}, id="by the start of the read"),
        pytest.param([attempted(2, 10), read(2, 11, 12), read(1, 22, 23)], {NON_LINEARIZABLE: 1}, id="seen at the bound"),
        pytest.param(
            [attempted(2, 10), read(2, 11, 12), read(1, 23, 24)], {NON_LINEARIZABLE: 1, NON_LINEARIZABLE_BEYOND: 1}, id="seen beyond it"
        ),
        pytest.param(
            [attempted(2, 10), read(2, 11, 12), attempted(3, 15), read(3, 20, 22), read(1, 23, 24), read(2, 25, 26)],
            {NON_LINEARIZABLE: 2, NON_LINEARIZABLE_BEYOND: 1},
            id="of two seen, the first",
        ),
        pytest.param(
            [*written(2, 10, 40), read(2, 11, 12), read(1, 41, 42)], {STALE: 1, STALE_BEYOND: 1}, id="seen before it was acknowledged"
        ),
        pytest.param([*written(2, 10, 20), read(1, 21, 22)._replace(kind=STRICT)], {STALE: 1, STRICT_WRONG: 1}, id="strict"),
        pytest.param(
            [attempted(2, 10), read(2, 11, 12), read(1, 13, 14)._replace(kind=STRICT)],
            {NON_LINEARIZABLE: 1, STRICT_WRONG: 1},
            id="strict, and seen",
        ),
        pytest.param([read(2, 5, 9), attempted(2, 10)], {DIRTY: 1}, id="dirty"),
        pytest.param([Record(MISSED, 0, 0, 1, 5, 9)], {OWN_MISSED: 1}, id="its own"),
    ],
)
def test_reads_may_be_behind_by_the_bound(records: list[Record], sorts: dict[str, int]) -> None:
    """What was known for longer has to be seen, and all by strict reads."""
    assert found(*records, bound=10) == sorts
    assert found(*reversed(records), bound=10) == sorts


def test_percentiles_are_of_all_reads() -> None:
    """Those that were not behind count as nought."""
    fresh = [read(2, 21, 22)] * 96
    verdict = verdict_of(*written(2, 10, 20), *fresh, *(read(1, 20 + behind, 90) for behind in (10, 20, 30, 40)), bound=100)
    assert [verdict.percentile(share) for share in (0.5, 0.96, 0.97, 0.98, 0.99)] == [0, 0, 10, 20, 30]


def test_lost_updates_are_seen() -> None:
    """Two writers that were told to have made the same version."""
    (history,), _, _ = histories([*written(2, 10, 20), *written(2, 12, 22)], 1)
    assert (history.newest(), history.twice()) == (2, 1)


def test_a_true_register_is_found_right_and_each_spoilt_read_found_wrong() -> None:
    """A long random history of one variable, by a clock that stands for the machine's."""
    chance, now, version, records = random.Random(5), 100, 1, list[Record]()
    for _ in range(3000):
        start, now = now, now + chance.randint(2, 20)
        if chance.random() < 0.3:
            version += 1
            records += written(version, start, now - 1)
        else:
            records.append(read(version, start - chance.randint(0, 1), now))
    assert found(*records) == {}
    spoilt = [record._replace(version=record.version - 2) if record.kind == READ and record.version > 3 else record for record in records]
    late = sum(one is not other for one, other in zip(records, spoilt, strict=True))
    assert sum(found(*spoilt).values()) >= late - 2


def test_logs_are_read_as_written(tmp_path: Path) -> None:
    """Times and versions come back; a record that was cut off does not."""
    log, path = Log(tmp_path / "a.log"), tmp_path / "a.log"
    log.attempt([Change(3, 2), Change(4, 7, absent=True)], 10)
    log.acknowledged([Change(3, 2)], 10, 20)
    log.reads([(3, 2), (4, ABSENT)], 30, 40)
    log.count("hits", 5)
    log.count("hits", 2)
    log.flush()
    path.write_bytes(path.read_bytes() + b"\0" * 7)
    records = list(records_in(path))
    assert records[:5] == [
        Record(ATTEMPT, 0, 3, 2, 10, 0),
        Record(ATTEMPT, 1, 4, 7, 10, 0),
        Record(ACKNOWLEDGED, 0, 3, 2, 10, 20),
        Record(READ, 0, 3, 2, 30, 40),
        Record(READ, 0, 4, ABSENT, 30, 40),
    ]
    assert histories(records, 5)[1] == {"hits": 7}
