"""Rows whose primary key has several columns: one and many of them are read in passes, as those of one column are."""

import re
from enum import IntEnum
from typing import Any

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from stockstore import ProcessMemoryStore, UnknownKeyError
from stockstore.stores.cache import CacheStore
from tests.stores.memory.readings import Clock, counts


class Level(IntEnum):
    """Equals a number, and is another key."""

    ONE = 1


class Base(DeclarativeBase):
    """The registry of these classes."""


class Line(Base):
    """Names its primary key in another order than its table does, and neither is the alphabet's."""

    __tablename__ = "lines_by_several_names"
    __keys__ = [("order", "number", "place"), "text"]
    place: Mapped[str] = mapped_column(primary_key=True)
    order: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture
def store() -> ProcessMemoryStore:
    """A store of lines whose values may be taken for each other's."""
    store = ProcessMemoryStore(lifetime=60)
    store.batch_put([Line(order=order, number=number, place="p", text=f"{order}/{number}") for order in (1, 2) for number in (1, 2)])
    return store


def form(kind: type, order: int, number: int) -> Any:
    """Give a key."""
    return (order, number, "p") if kind is tuple else {"place": "p", "number": number, "order": order}


KINDS = pytest.mark.parametrize("kind", [tuple, dict])
WANTED = [(1, 2), (2, 1), (1, 1), (1, 2)]


@KINDS
@pytest.mark.parametrize("attached", [True, False])
def test_hits_are_read_in_passes(store: ProcessMemoryStore, monkeypatch: pytest.MonkeyPatch, kind: type, attached: bool) -> None:
    """Nothing else is asked; each is counted, and in a session one key is one object."""
    monkeypatch.delattr(CacheStore, "batch_get")
    with Session() as session:
        into = session if attached else None
        found = store.batch_get(Line, [form(kind, *each) for each in WANTED], session=into)
        assert [line and line.text for line in found] == ["1/2", "2/1", "1/1", "1/2"]
        assert (found[0] is found[3]) is attached
        one = store.get(Line, form(kind, 2, 2), session=into)
    assert one is not None
    assert (one.order, one.number, one.place, one.text) == (2, 2, "p", "2/2")
    assert counts(store) == {"puts": 4, "hits": 5}


@KINDS
def test_what_is_not_plain_is_read_one_by_one(clock: Clock, store: ProcessMemoryStore, kind: type) -> None:
    """With misses, mixed forms and values of other types each answer stands where its key does; what has expired is none."""
    keys = [form(kind, 1, 2), form(kind, 7, 7), {"text": "2/1"}, [1, 1, "p"], form(kind, True, 2.0), form(kind, 2, "1")]  # type: ignore[arg-type]
    assert [line and line.text for line in store.batch_get(Line, keys)] == ["1/2", None, "2/1", "1/1", "1/2", None]
    assert [line and line.text for line in store.batch_get(Line, [form(dict, 1, 2), form(tuple, 2, 1)])] == ["1/2", "2/1"]
    assert store.batch_get(Line, [form(kind, Level.ONE, 2)]) == [None]
    assert counts(store) == {"puts": 4, "hits": 6, "misses": 3}
    clock.now += 60
    assert store.batch_get(Line, [form(kind, *each) for each in WANTED]) == [None] * 4


@pytest.mark.parametrize(
    "key", [(1, 2), (1, 2, "p", 3), 1, "p", {"order": 1, "number": 2}, {"order": 1, "number": 2, "text": "1/2"}], ids=repr
)
def test_wrong_keys_are_refused(store: ProcessMemoryStore, key: Any) -> None:
    """Alone, among right ones and among others of their form."""
    for keys in ([key], [(1, 1, "p"), key], [form(dict, 1, 1), key], [key, key]):
        with pytest.raises(UnknownKeyError, match=re.escape("Line")):
            store.batch_get(Line, keys)
    assert counts(store) == {"puts": 4}
