"""How often each tier answers, and how long a read takes there."""

import random
import statistics
import time
from collections.abc import Callable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from examples.shop.models import CUSTOMERS, Customer
from examples.shop.table import microseconds, show_table
from examples.shop.tiers import Tiers
from stockstore import ChainedStore, ProcessMemoryStore, Store

READS, KEPT, BATCH = 2_000, CUSTOMERS // 10, 100
ROUNDS = 50
Read = Callable[[Sequence[int]], object]


def hit_ratios(tiers: Tiers) -> None:
    """Read customers of which some are asked for far more often than others (Zipf), with room in memory for a tenth of them."""
    chain = ChainedStore([ProcessMemoryStore(maxsize=KEPT), *tiers.remote.values(), tiers.database])
    chain.clear()
    before = chain.stats().tiers
    weights = [1 / rank for rank in range(1, CUSTOMERS + 1)]
    for number in random.Random(2).choices(range(1, CUSTOMERS + 1), weights, k=READS):
        chain.get(Customer, number)
    rows = []
    for name, now, then in zip(tiers.names, chain.stats().tiers, before, strict=True):
        hits, misses = now.hits - then.hits, now.misses - then.misses
        rows.append([name, f"{hits + misses:,}", f"{hits:,}", f"{hits / (hits + misses):.0%}", f"{hits / READS:.0%}"])
    title = f"Hit ratios: {READS:,} reads of {CUSTOMERS} customers, some far more often than others; process memory holds {KEPT}"
    show_table(title, ["tier", "asked", "hits", "hit ratio", "of all reads"], rows)
    if len(tiers.remote) > 1:
        print("\n  memcached stands below Redis here, which holds all that it was asked for.")


def times(tiers: Tiers) -> None:
    """Read random customers from each tier by itself, and by plain SQLAlchemy with a fresh session for each read."""
    tiers.chain.batch_get(Customer, range(1, CUSTOMERS + 1))
    readers: dict[str, tuple[Read, Read]] = {"plain SQLAlchemy": (plain_get(tiers), plain_select(tiers))}
    for name, store in zip(tiers.names, tiers.chain.tiers, strict=True):
        readers[name] = (store_get(store), store_batch(store))
    taken = {name: (seconds_per_row(one, 1), seconds_per_row(many, BATCH)) for name, (one, many) in readers.items()}
    plain = taken["plain SQLAlchemy"]
    rows = [
        [name, microseconds(one), f"{plain[0] / one:.1f}x", microseconds(many), f"{plain[1] / many:.1f}x"]
        for name, (one, many) in taken.items()
    ]
    title = f"Microseconds per row (medians of {ROUNDS} reads), and the speed against session.get, or one SELECT for {BATCH} rows"
    show_table(title, ["read from", "one row", "speed", f"a row of {BATCH}", "speed"], rows)


def seconds_per_row(read: Read, rows: int) -> float:
    """Give the median of many reads, each of other rows."""
    chance, taken = random.Random(3), []
    for _ in range(ROUNDS):
        numbers = chance.sample(range(1, CUSTOMERS + 1), rows)
        start = time.perf_counter()
        read(numbers)
        taken.append((time.perf_counter() - start) / rows)
    return statistics.median(taken)


def store_get(store: Store) -> Read:
    return lambda numbers: store.get(Customer, numbers[0])


def store_batch(store: Store) -> Read:
    return lambda numbers: store.batch_get(Customer, numbers)


def plain_get(tiers: Tiers) -> Read:
    def read(numbers: Sequence[int]) -> object:
        with Session(tiers.database.engine) as session:
            return session.get(Customer, numbers[0])

    return read


def plain_select(tiers: Tiers) -> Read:
    def read(numbers: Sequence[int]) -> object:
        with Session(tiers.database.engine) as session:
            return session.scalars(select(Customer).where(Customer.id.in_(numbers))).all()

    return read
