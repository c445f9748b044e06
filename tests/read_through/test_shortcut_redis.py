"""The short way to what Redis holds takes one round trip, and whatever else stands there is judged as the longer way does."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.msgpack import Encoder
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from stockstore.errors import CacheUnreachable
from stockstore.keys import keys_of
from stockstore.mapped import plan_of
from stockstore_ext.sqlalchemy.read_through.guesses import Guesses
from tests.read_through.test_shortcut import KEYS, LIST, listed, shown
from tests.stores.listed import Item, Owner
from tests.sync.conftest import ON_REDIS, ON_SQLITE
from tests.sync.paths import Path

__all__ = ["listed"]
pytestmark = [ON_SQLITE, ON_REDIS]


@pytest.fixture
def round_trips(listed: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a server is asked from now on."""
    asked: list[str] = []
    exchange: Any = listed.store.tiers[0].backend._exchange  # type: ignore[attr-defined]
    ask = exchange._ask

    def asking(connection: object, *command: Any) -> Any:
        asked.append(str(command[0]))
        return ask(connection, *command)

    monkeypatch.setattr(exchange, "_ask", asking)
    return asked


def test_round_trips(listed: Path, round_trips: list[str]) -> None:
    """A hit takes one, a list along with its rows; what is missing is leased and filled without a second look."""

    def asked(read: Callable[[Session], object]) -> list[str]:
        round_trips.clear()
        with listed.maker() as session:
            read(session)
        return list(round_trips)

    assert asked(lambda session: session.get(Item, 1)) == ["MGET"]
    assert asked(lambda session: session.scalars(KEYS).all()) == ["MGET"]
    assert asked(lambda session: session.scalars(LIST).all()) == ["MGET"]
    for read in (lambda session: session.get(Item, 2), lambda session: session.scalars(KEYS).all()):
        listed.sync.invalidate(Item, [2])
        assert asked(read) == ["MGET", "EVALSHA", "EVALSHA"]
    store: Any = listed.store.tiers[0]
    asked(lambda session: session.scalars(LIST).all())  # the list went with the row
    store.batch_delete(Item, [2])
    assert asked(lambda session: session.scalars(LIST).all()) == ["EVALSHA"] * 2
    # Of a list that was read before its rows are asked for at once, and where it does not stand there, it is asked for once more.
    for absent in (lambda: store.backend.delete_many([_list_cell(listed)[1]]), store.clear):
        assert [asked(lambda session: session.scalars(LIST).all()) for _ in range(2)] == [["MGET"]] * 2
        absent()
        assert asked(lambda session: session.scalars(LIST).all()) == ["MGET", "EVALSHA", "EVALSHA"]
        assert asked(lambda session: session.scalars(LIST).all()) == ["EVALSHA"]
    store.batch_delete(Item, [2])
    assert asked(lambda session: session.scalars(LIST).all()) == ["MGET", "EVALSHA", "EVALSHA"]
    assert asked(lambda session: session.scalars(LIST).all()) == ["MGET"]


@pytest.mark.parametrize("guess", [[2], [2, 4, 6], [4, 2], [1, 3], []])
def test_what_a_list_held_before_is_not_believed(
    listed: Path, round_trips: list[str], monkeypatch: pytest.MonkeyPatch, guess: list[int]
) -> None:
    """Rows are asked for by what their list held when it was last read, and are those of the list as it is now."""
    monkeypatch.setattr(Guesses, "of", lambda _self, _text: Encoder().encode(guess))
    with listed.other.begin() as connection:
        connection.execute(text("UPDATE listed_items SET title = 'unseen'"))
    round_trips.clear()
    with listed.maker() as session:
        found = session.scalars(LIST).all()
        assert {(item.id, item.owner_id, item.title) for item in found} == {(2, 1, "old"), (4, 1, "old")}
    assert round_trips == (["MGET", "EVALSHA"] if guess else ["EVALSHA"])


def test_round_trips_of_frequent_misses(listed: Path, round_trips: list[str]) -> None:
    """Where single rows are missing again and again, they are leased along with the read."""
    path = listed
    path.seed(*(Item(id=n, owner_id=1) for n in range(100, 120)))
    with path.maker() as session:
        for number in range(100, 120):
            round_trips.clear()
            session.get(Item, number)
        assert round_trips == ["EVALSHA", "EVALSHA"]
    with path.other.begin() as connection:
        connection.execute(text("UPDATE listed_items SET title = 'unseen'"))
    for number in range(100, 120):
        with path.maker() as session:
            round_trips.clear()
            assert session.get_one(Item, number).title == "old"
            assert len(round_trips) == 1
    for _ in range(3):
        with path.maker() as session:
            assert session.get(Item, 999) is None


@pytest.mark.parametrize("ends", ["written", "written and evicted", "written by one who may not count", "flushed"])
def test_a_list_is_filled_with_the_rows_that_nobody_has_written_meanwhile(listed: Path, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """The rows that one SELECT read with their list are kept, but for what may have been written since."""
    store: Any = listed.store.tiers[0]
    backend, fill = store.backend, store.backend.fill_list
    store.clear()

    may_not_count = ends.endswith("may not count")

    def late(*given: Any) -> Any:
        if may_not_count:
            backend.client.acl_setuser("default", enabled=True, commands=["-exists", "-bitfield"])
        with listed.maker() as session:
            session.get_one(Item, 2).title = "new"
            session.commit()
        backend.client.acl_setuser("default", enabled=True, commands=["+@all"])
        if ends == "written and evicted" or may_not_count:
            backend.client.delete(given[0][1][0][:-1] + "2")
        elif ends == "flushed":
            backend.client.flushdb()
        return fill(*given)

    monkeypatch.setattr(backend, "fill_list", late)
    with listed.maker() as session:
        assert {item.title for item in session.scalars(LIST).all()} == {"old"}
    with listed.other.begin() as connection:
        connection.execute(text("UPDATE listed_items SET title = 'unseen'"))
    with listed.maker() as session:
        found = {number: session.get_one(Item, number).title for number in (4, 2)}
    assert found == {4: "unseen" if ends == "flushed" or may_not_count else "old", 2: "new" if ends == "written" else "unseen"}


def _list_cell(listed: Path) -> tuple[Any, str]:
    """Give the backend, and the key under which a list stands."""
    store: Any = listed.store.tiers[0]
    plan = next(plan for plan in keys_of(Item).indexes if plan.names == ("owner_id",))
    return store.backend, plan.record_text(store._namespace(), 1)


CELLS: dict[str, Callable[[bytes], bytes]] = {
    "damaged": lambda cell: cell[:-1] + b"\xc1",
    "no numbers": lambda cell: cell[:34] + b"\x92\xa1a\xa1b",
    "no list": lambda cell: cell[:34] + b"\x05",
    "empty": lambda cell: cell[:34],
    "of another shape": lambda cell: cell[:26] + b"12345678" + cell[34:],
    "of another generation": lambda cell: cell[:18] + b"12345678" + cell[26:],
    "of another format": lambda cell: cell[:9] + b"\x07" + cell[10:],
    "of another life": lambda cell: cell[:1] + b"12345678" + cell[9:],
    "expired": lambda cell: cell[:10] + struct.pack(">d", 1.0) + cell[18:],
    "names a row that is gone": lambda cell: cell[:34] + b"\x93\x02\x04\x09",
    "names another's row": lambda cell: cell[:34] + b"\x93\x01\x02\x04",
    "short": lambda _: b"V",
    "leased by another": lambda cell: b"L" + cell[1:9] + b"t" * 16,
    "marked": lambda _: b"W-ticket",
}


@pytest.mark.parametrize("name", CELLS)
def test_other_lists(listed: Path, name: str) -> None:
    """Whatever stands where a list was, the rows are those of the database, and a marker stays."""
    backend, text_ = _list_cell(listed)
    cell = backend.get_many([text_])[text_]
    assert cell[26:34] != plan_of(Item).fingerprint
    backend._client.set(text_, CELLS[name](cell))
    for _ in range(3):
        assert shown(listed.maker, LIST) == shown(lambda: Session(listed.other), LIST)
    if name == "marked":
        assert backend._client.get(text_) == b"W-ticket"


def test_odd_numbers(listed: Path) -> None:
    """Keys below zero, and such as floats do not tell apart, are listed too; the rows of the latter take a look of their own."""
    path, numbers = listed, [-(2**53) + 1, -5, 0, 2**53 - 1]
    path.seed(*(Owner(id=n) for n in (7, 8)), *(Item(id=n, owner_id=7) for n in numbers), *(Item(id=2**53 + n, owner_id=8) for n in (0, 1)))
    for owner, expected in ((7, numbers), (8, [2**53, 2**53 + 1])):
        statement = select(Item).where(Item.owner_id == owner).order_by(Item.id)
        for _ in range(3):
            assert [dict(columns)["id"] for _, columns in shown(path.maker, statement)] == expected
        with path.other.begin() as connection:
            connection.execute(text("UPDATE listed_items SET title = 'unseen'"))
        assert {columns["title"] for _, columns in shown(path.maker, statement)} == {"old"}
        with path.other.begin() as connection:
            connection.execute(text("UPDATE listed_items SET title = 'old'"))


def test_server_that_does_not_answer(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is read then, and the server is not asked twice; or the error is raised, as the store says."""
    store: Any = listed.store.tiers[0]
    asked: list[object] = []

    def refuse(*arguments: object) -> None:
        asked.append(arguments)
        raise CacheUnreachable("down")

    for name in ("look", "get_many", "follow_list", "lease_many"):
        monkeypatch.setattr(store.backend, name, refuse)
    for statement in (KEYS, LIST):
        assert shown(listed.maker, statement) == shown(lambda: Session(listed.other), statement)
    with listed.maker() as session:
        assert session.get_one(Item, 1).id == 1
    assert len(asked) == 3
    store._on_error = "raise"
    for statement in (KEYS, LIST):
        with pytest.raises(CacheUnreachable):
            shown(listed.maker, statement)
