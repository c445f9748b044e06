"""What a cached object costs beside the object itself, counted by tracemalloc."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, Final

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from bench.context import Context, expect
from bench.report import Row, Target, at_most, sized
from bench.samples import Article, Product, User, fields, fill
from stockstore import ProcessMemoryStore

SUBJECT: Final = "process memory, bytes for each object"


def rows(context: Context) -> Iterator[Row]:
    count = context.size(10_000, 2_000)
    one, two = _plain(Product, count), _plain(Article, count)
    yield _bytes("a plain object, beyond the object", one, (300, "allowed"), at_most(1))
    yield _bytes("each further key of it", two - one, (150, "allowed"), at_most(1))
    yield from _mapped(count)


def _bytes(what: str, ours: float, peer: tuple[float, str], target: Target | None = None) -> Row:
    return sized(SUBJECT, what, ours, peer, "B", target)


def grown(make: Callable[[], Any], count: int) -> tuple[float, Any]:
    """Give the bytes that each of so many objects added to memory, and what was made."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = make()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / count, made


def _plain(cls: Callable[..., Any], count: int) -> float:
    objects = [cls(**fields(number)) for number in range(count)]
    store = ProcessMemoryStore()
    store.put(cls(**fields(count)))
    size, _ = grown(lambda: store.batch_put(objects), count)
    expect("what was put", store.get(type(objects[7]), 7) is objects[7], wanted=True)
    return size


def _mapped(count: int) -> Iterator[Row]:
    engine = create_engine("sqlite://")
    fill(engine, count)
    store = ProcessMemoryStore()
    with Session(engine) as session:
        store.put(session.get_one(User, 1))
    instance, users = grown(lambda: _load(engine), count)
    row, _ = grown(lambda: store.batch_put(users), count)
    expect("a cached row", store.get(User, 7) is not None, wanted=True)
    yield _bytes("a mapped row of 10 columns", row, (instance, "the mapped instance"), at_most(0.3))
    engine.dispose()


def _load(engine: Any) -> list[User]:
    with Session(engine) as session:
        return list(session.scalars(select(User)))
