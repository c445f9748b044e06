"""Strict reads of SQLAlchemy's ShardedSession: a memory that may be old answers none."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from stockstore import ProcessMemoryStore, Store
from tests.read_through.test_shard_statements import ALL, ITEMS, UNSEEN, Read, Shards, by_execution_option, listed, shards
from tests.stores.listed import Item, Owner

__all__ = ["shards"]
STRICT: Any = {"stockstore_strict": True}
BLUE: Any = {"shard_id": "blue"}


@pytest.fixture
def cache(namespace: str) -> Store:
    """A memory that nobody tells of anything, and which is believed for longer than a test takes."""
    return ProcessMemoryStore(channel=None, max_staleness=600, namespace=namespace)


def by_key(session: Session) -> list[str]:
    """Get by the key and the token."""
    return [session.get_one(Item, 1, identity_token="blue", execution_options=STRICT).title]


def by_statement(session: Session) -> list[str]:
    """Name the shard beside the statement."""
    asked = ITEMS.where(Item.id.in_([1, 2]))
    return [item.title for item in session.scalars(asked, execution_options=STRICT, bind_arguments=BLUE)]


def by_code(session: Session) -> list[str]:
    """Ask by a declared key."""
    return [item.title for item in session.scalars(select(Item).where(Item.code == "blue2"), execution_options=STRICT, bind_arguments=BLUE)]


def by_index(session: Session) -> list[str]:
    """Ask by an index."""
    return [item.title for item in session.scalars(ITEMS.where(Item.owner_id == 1).execution_options(**STRICT), bind_arguments=BLUE)]


def refreshed(session: Session) -> list[str]:
    """Get what has expired."""
    owner = session.get_one(Owner, 1, identity_token="blue")
    session.expire(owner)
    return [session.get_one(Owner, 1, identity_token="blue", execution_options=STRICT).name]


@pytest.mark.parametrize("read", [by_key, by_statement, by_code, by_index, refreshed])
def test_by_the_options_of_a_read(shards: Shards, read: Callable[[Session], list[str]]) -> None:
    """It gives what the shard has; what is asked otherwise is in memory still."""
    for usual in (by_execution_option, listed):
        shards.warm(usual)
    shards.change_unseen()
    for _ in range(2):
        assert set(shards.read(read)) == {UNSEEN}
        assert shards.read(by_execution_option) == ["blue"]
        assert shards.read(listed) == ["blue", "blue"]


@pytest.mark.parametrize("read", ALL, ids=lambda read: read.__name__)
def test_by_the_options_of_a_session(shards: Shards, read: Read) -> None:
    """All that it reads is strict. Sessions have options from SQLAlchemy 2.1 on."""
    assert shards.warm(read) == ALL[read]
    shards.change_unseen()
    if "execution_options" in signature(Session).parameters:
        maker: Any = shards.maker
        for _ in range(2):
            with maker(execution_options=STRICT) as session:
                assert set(read(session)) == {UNSEEN}
    assert shards.read(read) == ALL[read]
