"""What lists held when they were last read: by it their rows are asked for along with them."""

from typing import Final

_KEPT: Final = 4096
"""Lists after which those that nobody reads any more begin to go: at most twice as many are kept."""
_LONGEST: Final = 1024
"""The bytes of the longest list that is kept."""


class Guesses:
    """The primary keys that lists held, as they are written there; safe to share between threads.

    They are never believed: who asks for rows by them reads the list in the same step, and uses what he finds where that list holds the same.
    """

    def __init__(self) -> None:
        """Know no list yet."""
        self._newer: dict[str, bytes] = {}
        self._older: dict[str, bytes] = {}

    def of(self, text: str) -> bytes | None:
        """Give what a list held, by its key."""
        held = self._newer.get(text)
        if held is None and (held := self._older.get(text)) is not None:
            self.note(text, held)
        return held

    def note(self, text: str, held: bytes) -> None:
        """Remember what a list holds."""
        if len(held) > _LONGEST:
            return
        if len(self._newer) >= _KEPT:
            self._newer, self._older = {}, self._newer
        self._newer[text] = held

    def forget(self, text: str) -> None:
        """Guess no more."""
        self._newer.pop(text, None)
        self._older.pop(text, None)
