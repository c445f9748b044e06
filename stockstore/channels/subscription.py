"""What is done on one line: beats, their answers, and the order of messages."""

import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from stockstore.channels.base import Garbled, Heard, Line, Proof

if TYPE_CHECKING:
    from stockstore.channels.receiver import Receiver

SILENCE: Final = 2.0
"""Seconds without an answer after which a connection is given up."""

_clock: Final = time.monotonic
_now = time.monotonic


class _Beat(NamedTuple):
    """A beat that was not answered yet: when it was sent, on two clocks, and the number of the last message by then."""

    moment: float
    sent: float
    known: int | None


class Subscription:
    """One line, from its subscription to its loss."""

    def __init__(self, line: Line, reason: str) -> None:
        """Begin with a line; ``reason`` is what memory is told that is flushed first."""
        self._line = line
        self._reason = reason
        self._beats: deque[_Beat] = deque()
        self._beat_at = -1.0
        self._last: int | None = None

    def tend(self, receiver: "Receiver") -> float:
        """Flush and beat where it is time, and give the seconds until it is again; TimeoutError where nothing answers."""
        now = _clock()
        if receiver.flush_new(self._reason) or now >= self._beat_at:
            # The moment before the beat is sent: what is published after it may have to wait for the next one.
            self._beats.append(_Beat(_now(), now, self._last))
            self._line.beat()
            self._beat_at = now + receiver.interval()
        if self._beats and now > self._beats[0].sent + SILENCE:
            raise TimeoutError(f"no answer for {SILENCE:g} s")
        return max(0.0, self._beat_at - _clock())

    def receive(self, receiver: "Receiver") -> None:
        """Take what has come."""
        for item in self._line.receive():
            if isinstance(item, Heard):
                self._hear(receiver, item)
            elif isinstance(item, Garbled):
                receiver.puzzle(item.said)
            else:
                self._prove(receiver, item)

    def _hear(self, receiver: "Receiver", message: Heard) -> None:
        if message.number:
            if self._last is not None and message.number != self._last + 1:
                receiver.flush("gap")
            self._last = message.number
        receiver.tell(message)

    def _prove(self, receiver: "Receiver", proof: Proof) -> None:
        if not self._beats:
            raise ValueError("an answer to no question")
        beat = self._beats.popleft()
        if proof.missed:
            receiver.flush("gap")
        if proof.number is not None:
            self._compare(receiver, beat, proof.number)
        receiver.confirm(beat.moment)

    def _compare(self, receiver: "Receiver", beat: _Beat, number: int) -> None:
        """Flush where messages are missing, or the server has begun to count anew."""
        missing = self._last is not None and number > self._last
        anew = beat.known is not None and number < beat.known and self._last == beat.known
        if missing or anew:
            receiver.flush("gap")
        if self._last is None or missing or anew:
            self._last = number
