"""Statements give the same of rows that were asked for before, which are kept decoded, as of rows that are seen for the first time."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from stockstore.mapped import plan_of
from tests.read_through.test_shortcut import KEYS, LIST, STATEMENTS, columns, listed, shown
from tests.stores.listed import Item, Owner
from tests.sync.conftest import ON_SQLITE
from tests.sync.paths import Path

__all__ = ["listed"]
pytestmark = [ON_SQLITE, pytest.mark.parametrize("cache", ["memory", "redis"], indirect=True)]


@pytest.fixture
def repeated(listed: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The rows that are found decoded from now on, of which none is known yet."""
    plan, found = plan_of(Item), list[Any]()
    plan.familiar._rows, plan.familiar._older, plan.familiar._seen = {}, {}, set()
    attach = plan.attach_familiar

    def noting(session: Session, rows: list[Any], *more: Any) -> list[Any]:
        found.extend(rows)
        return attach(session, rows, *more)

    monkeypatch.setattr(plan, "attach_familiar", noting)
    return found


@pytest.mark.parametrize("name", ["keys", "keys in an order", "list"])
def test_same(listed: Path, repeated: list[Any], name: str) -> None:
    """The first time, the second time and from then on."""
    expected = shown(lambda: Session(listed.other), STATEMENTS[name])
    for known in (0, 0, len(expected), len(expected)):
        repeated.clear()
        assert shown(listed.maker, STATEMENTS[name]) == expected
        assert len(repeated) == known


def test_loaders(listed: Path, repeated: list[Any]) -> None:
    """Those of relationships too."""
    statement = select(Owner).where(Owner.id.in_([1])).options(selectinload(Owner.items))

    def loaded() -> list[Any]:
        with listed.maker() as session:
            return [columns(item) for owner in session.scalars(statement) for item in owner.items]

    assert [loaded() for _ in range(4)] == [loaded()] * 4
    assert {row.values["id"] for row in repeated} == {2, 4}


def test_changed(listed: Path, repeated: list[Any]) -> None:
    """A row that was written is another row."""
    for title in ("one", "two"):
        for statement in (KEYS, LIST):
            for _ in range(4):
                shown(listed.maker, statement)
        with listed.maker() as session:
            session.get_one(Item, 2).title = title
            session.commit()
        for statement in (KEYS, LIST):
            for _ in range(4):
                assert [row["title"] for _, row in shown(listed.maker, statement) if row["id"] == 2] == [title]
    assert {row.values["title"] for row in repeated if row.values["id"] == 2} >= {"one", "two"}
