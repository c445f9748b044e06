"""A chain of process memory, Redis and PostgreSQL with a SessionSync, and what was told of it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from stockstore import ChainedStore
from stockstore.instrumentation import Event
from stockstore_ext.sqlalchemy import SessionSync
from tests.servers.redis import RedisServer


class Base(DeclarativeBase):
    pass


class Part(Base):
    __tablename__ = "metered_parts"
    __keys__ = ["id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@dataclass
class Shop:
    """A chain in use."""

    engine: Engine
    server: RedisServer
    chain: ChainedStore
    sync: SessionSync
    sessions: "sessionmaker[Session]"
    events: list[Event] = field(default_factory=list)

    def told(self) -> dict[tuple[str, str, str], int]:
        """Give what was told since the last call: tier, kind and reason with the sum of counts."""
        names = dict(zip(map(repr, self.chain.tiers), ("memory", "redis", "database"), strict=True)) | {repr(self.engine.url): "outbox"}
        sums: Counter[tuple[str, str, str]] = Counter()
        for event in self.events:
            sums[names[event.store], event.kind, event.reason] += event.count
        self.events.clear()
        return dict(sums)

    def write(self, *parts: int, name: str = "new") -> None:
        """Commit new names of parts by a session."""
        with self.sessions.begin() as session:
            for part in parts:
                session.get_one(Part, part).name = name

    def add(self, *parts: int) -> None:
        """Put parts into the database past every cache."""
        with self.engine.begin() as connection:
            connection.execute(insert(Part), [{"id": part, "name": "old"} for part in parts])


MakeShop = Callable[..., Shop]
