"""A shop that is listened to."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from stockstore import ChainedStore, ProcessMemoryStore, RedisStore, SqlAlchemyStore
from stockstore.evidence import Outbox
from stockstore.instrumentation import hooked
from stockstore_ext.sqlalchemy import SessionSync
from tests.instrumentation.metered import Base, MakeShop, Shop
from tests.servers.redis import RedisServer


@pytest.fixture
def make_shop(postgres_engine: Engine, start_redis: Callable[..., RedisServer], namespace: str) -> Iterator[MakeShop]:
    """A function of SessionSync's options that gives a shop without parts, which tells all that happens from then on."""
    Base.metadata.create_all(postgres_engine)
    Outbox().create(postgres_engine)
    with ExitStack() as stack:
        stack.callback(Outbox().definition.drop, postgres_engine)
        stack.callback(Base.metadata.drop_all, postgres_engine)

        def make(**options: object) -> Shop:
            server = start_redis()
            redis = RedisStore(server.url, namespace=namespace)
            chain = stack.enter_context(
                ChainedStore([ProcessMemoryStore(max_staleness=None), redis, SqlAlchemyStore(engine=postgres_engine)])
            )
            sessions: sessionmaker[Session] = sessionmaker(postgres_engine, class_=type("Metered", (Session,), {}))
            sync = SessionSync(chain, **options).attach(sessions)  # type: ignore[arg-type]
            stack.callback(sync.detach)
            shop = Shop(postgres_engine, server, chain, sync, sessions)
            stack.enter_context(hooked(shop.events.append))
            return shop

        yield make
