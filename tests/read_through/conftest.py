"""Sessions that read through the caches, on the shop's tables."""

import pytest

from tests.read_through.served import Served
from tests.sync.conftest import Attach, attach, cache, db, other, other_engine, shop_tables

__all__ = ["attach", "cache", "db", "other", "other_engine", "served", "shop_tables"]


@pytest.fixture
def served(attach: Attach) -> Served:
    """A database, a chain above it, and sessions that read through it."""
    return Served(attach(read_through=True))
