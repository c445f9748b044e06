"""Keys at their limits, in cache stores."""

import pytest

from stockstore import MappingStore


class Note:
    """One key, of text."""

    __keys__ = ["id", "title"]

    def __init__(self, id: str, title: str) -> None:  # noqa: A002 - the attribute's name
        self.id, self.title = id, title


@pytest.mark.parametrize("length", [249, 250, 251])
def test_every_way_to_an_object_uses_one_text_for_a_key_at_the_limit(length: int) -> None:
    """What batches of like objects put and get, single look-ups by alternate keys and deletes find too."""
    cells: dict[str, bytes] = {}
    store = MappingStore(cells)
    store.put(Note("", ""))
    longest = "i" * (length - min(map(len, cells)))
    cells.clear()
    store.put(Note(longest, longest))
    assert store.get(Note, longest) is not None
    assert store.batch_get(Note, [{"id": longest}, {"title": longest}])[1] is not None
    assert store.delete(Note, longest)
    assert store.get(Note, longest) is None
    assert not store.contains(Note, title=longest)
