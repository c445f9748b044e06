"""What lists held is remembered for a bounded number of them."""

import pytest

from stockstore_ext.sqlalchemy.read_through import guesses
from stockstore_ext.sqlalchemy.read_through.guesses import Guesses

pytestmark = pytest.mark.sa_agnostic


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than twice the bound are kept, those longest that are asked for, and none that is long."""
    monkeypatch.setattr(guesses, "_KEPT", 3)
    known = Guesses()
    known.note("wanted", b"1")
    known.note("long", bytes(2000))
    for number in range(20):
        known.note(str(number), b"2")
        assert known.of("wanted") == b"1"
        assert len(known._newer) + len(known._older) <= 6
    assert [known.of(text) for text in ("0", "long", "19")] == [None, None, b"2"]


def test_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forgotten is known no more, however long ago it was noted."""
    monkeypatch.setattr(guesses, "_KEPT", 1)
    known = Guesses()
    for text in ("older", "newer"):
        known.note(text, b"1")
    for text in ("older", "newer", "unknown"):
        known.forget(text)
        assert known.of(text) is None
