"""The backend that keeps nothing."""

from stockstore.backends import NullBackend


def test_nothing_is_kept() -> None:
    """Every operation works, and nothing is ever there."""
    backend = NullBackend()
    backend.set_many([("n:C:id:i1", b"value", 60)])
    assert backend.get_many(["n:C:id:i1"]) == {}
    assert backend.follow_many(["n:C:id:i1"]) == {}
    assert backend.delete_many(["n:C:id:i1"]) == 0
    backend.clear("n:")
    backend.close()
