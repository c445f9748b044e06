"""Eight threads on one store: what locks would cost."""

import random
from collections.abc import Callable, Iterator
from threading import Lock, Thread
from typing import Final

from cachetools import TTLCache

from bench.context import Context
from bench.measure import Effort, Way, race
from bench.report import Row, at_least
from bench.samples import Product, fields
from stockstore import ProcessMemoryStore

SUBJECT: Final = "process memory, 8 threads, 95 % reads (time per operation, ratio of the rates)"
_THREADS: Final = 8
_COUNT: Final = 10_000
_READS: Final = 0.95

Get = Callable[[int], object]
Put = Callable[[Product], object]


def rows(context: Context) -> Iterator[Row]:
    operations = context.size(200_000, 40_000)
    contenders = {"stockstore": _store(), "a dict with a lock": _locked_dict(), "cachetools TTLCache with a lock": _locked_cachetools()}
    ways = {}
    for name, (get, put) in contenders.items():
        ways[f"{name}, 1"] = Way(_run(get, put, operations, 1), times=operations)
        ways[f"{name}, 8"] = Way(_run(get, put, operations, _THREADS), times=operations)
    times = race(ways, Effort(context.size(15, 3), 0))
    for name in contenders:
        alone, together = f"{name}, 1", f"{name}, 8"
        target = at_least(0.9) if name == "stockstore" else None
        ratio = times.ratio(alone, together)
        yield Row(SUBJECT, name, times.median(together), times.median(alone), "itself in one thread", "s", ratio, target=target)


def _run(get: Get, put: Put, operations: int, threads: int) -> Callable[[], None]:
    parts = [_script(operations // threads, seed) for seed in range(threads)]

    def work(script: list[tuple[int, Product | None]]) -> None:
        for number, product in script:
            if product is None:
                get(number)
            else:
                put(product)

    def run() -> None:
        workers = [Thread(target=work, args=(script,)) for script in parts]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return run


def _script(operations: int, seed: int) -> list[tuple[int, Product | None]]:
    chance = random.Random(seed)
    numbers = (chance.randrange(_COUNT) for _ in range(operations))
    return [(number, None if chance.random() < _READS else _PRODUCTS[number]) for number in numbers]


_PRODUCTS: Final = [Product(**fields(number)) for number in range(_COUNT)]


def _store() -> tuple[Get, Put]:
    store = ProcessMemoryStore()
    store.batch_put(_PRODUCTS)
    return lambda number: store.get(Product, number), store.put


def _locked_dict() -> tuple[Get, Put]:
    kept, lock = {product.id: product for product in _PRODUCTS}, Lock()
    return _under(lock, kept)


def _locked_cachetools() -> tuple[Get, Put]:
    cache: TTLCache[int, Product] = TTLCache(2 * _COUNT, 3600)
    cache.update({product.id: product for product in _PRODUCTS})
    return _under(Lock(), cache)


def _under(lock: Lock, kept: "dict[int, Product] | TTLCache[int, Product]") -> tuple[Get, Put]:
    def get(number: int) -> object:
        with lock:
            return kept.get(number)

    def put(product: Product) -> None:
        with lock:
            kept[product.id] = product

    return get, put
