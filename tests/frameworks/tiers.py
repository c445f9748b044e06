"""A chain whose first tier is one request's alone."""

from dataclasses import dataclass
from typing import NamedTuple

from stockstore import ChainedStore, ProcessMemoryStore, ThreadLocalStore


@dataclass
class Item:
    __keys__ = ["id", "name"]
    id: int
    name: str


class Tiers(NamedTuple):
    """A chain, and its tiers."""

    requests: ThreadLocalStore
    below: ProcessMemoryStore
    chain: ChainedStore

    def kept(self) -> list[int]:
        """Give the ids that stand in the caller's own tier."""
        return [found.id for found in self.requests.batch_get(Item, [1, 2]) if found is not None]
