"""The hook, attached to every session of one test."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.orm import Mapper, Session

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore, Store
from stockstore.mapped import sessions, tables
from stockstore_ext.sqlalchemy import SessionSync
from tests.orm_suite.warming import warm

_FOR_GOOD: Final = (
    (Session, sessions, ("after_flush", "after_transaction_end", "do_orm_execute")),
    (Mapper, tables, ("after_mapper_constructed",)),
)


@contextmanager
def hooked(mode: str, cache: str) -> Iterator[dict[str, int]]:
    """Attach for one test, by caches that are empty, since its tables hold other rows under the keys of the last one's; give what is counted."""
    counts: dict[str, int] = {}
    if mode == "none":
        yield counts
        return
    _listen_for_good()
    store = _store(cache)
    options: dict[str, Any] = {} if mode == "write" else {"read_through": True}
    sync = SessionSync(store, **options)
    fired = _counting(sync)
    if mode == "warm":
        warm(sync, store.tiers[0])
    sync.attach()
    try:
        yield counts
    finally:
        sync.detach()
        counts |= fired
        counts |= _counted(store)
        store.close()


def _listen_for_good() -> None:
    """Listen again by what the library listens with from its import on, and SQLAlchemy's fixtures have removed."""
    for target, module, names in _FOR_GOOD:
        for name in names:
            listener = getattr(module, f"_{name}")
            if not event.contains(target, name, listener):
                event.listen(target, name, listener)


def _store(url: str) -> ChainedStore:
    # Class-level fixtures have made SQLAlchemy's engine by now.
    from sqlalchemy.testing import config

    namespace = uuid.uuid4().hex
    cache: Store = RedisStore(url, namespace=namespace) if url else ProcessMemoryStore(max_staleness=None, namespace=namespace)
    return ChainedStore([cache, SqlAlchemyStore(engine=config.db)])


def _counting(sync: SessionSync) -> Counter[str]:
    """Count how often each listener is called."""
    counts: Counter[str] = Counter()

    def counted(name: str, listener: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(listener)  # by its module a hook knows its own
        def count(*arguments: Any) -> Any:
            counts[name] += 1
            return listener(*arguments)

        return count

    listeners = sync._sessions._listeners
    listeners.update({name: counted(name, listener) for name, listener in listeners.items()})
    return counts


def _counted(store: ChainedStore) -> dict[str, int]:
    chain = store.stats()
    stats = chain.tiers[0]
    counts = {"hits": stats.hits, "misses": stats.misses, "fills": stats.fills, "refused fills": stats.refused_fills}
    for reason, number in (*stats.bypasses.items(), *chain.bypasses.items()):
        counts[f"bypassed: {reason}"] = counts.get(f"bypassed: {reason}", 0) + number
    return {name: number for name, number in counts.items() if number}
