"""Threads at eight hot keys over one truth: what is read is never older than what was acknowledged before."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from stockstore import ProcessMemoryStore, Store
from stockstore.coherence.claims import Claims, Lease
from stockstore.coherence.protocol import Writes
from stockstore.stores.backed import BackendStore
from stockstore.stores.snapshots import ObjectSnapshot
from stockstore.stores.tiers import tier_of
from tests.coherence.dict_backend import DictBackend
from tests.stores.custom import PickleStore

pytestmark = pytest.mark.sa_agnostic

KEYS, THREADS, STEPS = 8, 8, 400


@dataclass
class Row:
    """One version of a row."""

    __keys__ = ["id"]
    id: int
    version: int


class Truth:
    """A database of rows, each locked by one writer at a time, and the versions acknowledged so far."""

    def __init__(self, tier: Any) -> None:
        self.tier = tier
        self.rows = dict.fromkeys(range(KEYS), 0)
        self.acknowledged = dict.fromkeys(range(KEYS), 0)
        self._locks = [threading.Lock() for _ in range(KEYS)]
        self.stale: list[tuple[int, int, int]] = []

    def read(self, key: int, pause: Callable[[], object]) -> None:
        """Read through the tier, and note what was stale."""
        known = self.acknowledged[key]
        (answer,) = self.tier.lease(Row, [key])
        if answer.snapshot is not None:
            version = answer.snapshot.value.version
        else:
            version = self.rows[key]
            pause()
            if answer.lease is not None:
                self.tier.fill([(answer.lease, ObjectSnapshot(Row(key, version)))])
        if version < known:
            self.stale.append((key, version, known))

    def write(self, key: int, ticket: bytes, pause: Callable[[], object]) -> None:
        """Write through the tier: the row is unlocked with its commit, the marker is released later."""
        writes = Writes()
        writes.add(Row, {"id": key})
        places = self.tier.locate(writes)
        with self._locks[key]:
            version = self.rows[key] + 1
            self.tier.mark(places, ticket)
            pause()
            self.rows[key] = version
        pause()
        self.tier.release(places, ticket, committed=True, snapshots=[ObjectSnapshot(Row(key, version))])
        self.acknowledged[key] = max(self.acknowledged[key], version)

    def leftovers(self) -> list[tuple[int, int]]:
        """Give what the tier has that is not the truth, once all is at rest."""
        answers = self.tier.lease(Row, list(range(KEYS)))
        found = [(key, a.snapshot.value.version) for key, a in enumerate(answers) if a.snapshot is not None]
        return [(key, version) for key, version in found if version != self.rows[key]] + [
            (-1, key) for key, a in enumerate(answers) if a.marked
        ]


def run(tier: Any, seed: int, seconds: float = 0.0) -> Truth:
    """Let threads read and write for a number of steps, or as long as it takes to find something stale."""
    truth = Truth(tier)
    ends = time.monotonic() + seconds

    def work(thread: int) -> None:
        dice = random.Random(seed * 100 + thread)
        step = 0
        while step < STEPS if not seconds else (time.monotonic() < ends and not truth.stale):
            key = dice.randrange(KEYS)
            pause = (lambda: time.sleep(0)) if dice.random() < 0.7 else (lambda: time.sleep(dice.random() / 2000))
            if dice.random() < 0.25:
                truth.write(key, b"t%d.%d" % (thread, step), pause)
            else:
                truth.read(key, pause)
            step += 1

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(THREADS)))
    return truth


def memory() -> Store:
    """Process memory over an origin that nobody else writes."""
    store = ProcessMemoryStore()
    tier: Any = tier_of(store)
    tier.bound_to(shared=False)
    return store


STORES: dict[str, Callable[[], Store]] = {"memory": memory, "shared": lambda: BackendStore(DictBackend()), "custom": PickleStore}


@pytest.mark.parametrize("kind", STORES)
def test_threads_read_nothing_stale(kind: str) -> None:
    """No read is older than a write acknowledged before it began, and at rest the tier holds the truth or nothing."""
    for seed in range(3):
        truth = run(tier_of(STORES[kind]()), seed)
        assert truth.stale == []
        assert truth.leftovers() == []


def _blind_fill(claims: Claims, leases: Sequence[Lease]) -> set[Lease]:
    return set(leases)


def _lease_beside_a_marker(claims: Claims, space: Any) -> tuple[()]:
    return ()


def _always_alone(claims: Claims, space: Any, mark: Any, ticket: bytes) -> float:
    return 0.0


DEFENCES: dict[str, tuple[str, Any]] = {
    "a fill needs its lease": ("standing", _blind_fill),
    "a marked place is not leased": ("_held", _lease_beside_a_marker),
    "a value follows a sole marker only": ("_since", _always_alone),
}


@pytest.mark.parametrize("defence", DEFENCES)
def test_without_one_defence_threads_read_something_stale(defence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: each defence that is taken away is missed."""
    name, naive = DEFENCES[defence]
    monkeypatch.setattr(Claims, name, naive)
    truth = Truth(None)
    for seed in range(20):
        truth = run(tier_of(memory()), seed, seconds=1.0)
        if truth.stale or truth.leftovers():
            return
    pytest.fail(f"nothing was stale although {defence!r} was not so")
