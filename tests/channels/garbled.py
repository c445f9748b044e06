"""What anybody may publish where writers do, and a listener that meets it."""

import logging
import queue
import time
from collections.abc import Callable, Sequence

import pytest

from stockstore.channels import Channel
from tests.servers.server import wait_until

LINES = [
    b"",
    b"hello",
    b"\n",
    b"\n\n",
    b"7",
    b"7\nt1",
    b"x\n\nn:C:id:i1",
    b"\xff\xfe\n\nn:C:id:i1",
    b"0\n\n\xff\xfe",
    b"1" * 5000 + b"\n\nn:C:id:i1",
]
"""Messages of no writer's, for Redis: too few lines, no number, one that Python does not read, and no ASCII."""
TEXT = "n:C:id:i1"


class Ear:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.told: queue.Queue[list[str]] = queue.Queue()
        self.flushes: list[str] = []

    def heard(self, texts: Sequence[str], ticket: bytes) -> None:
        """Keep it."""
        self.told.put(list(texts))

    def flush(self, reason: str) -> None:
        """Note why."""
        self.flushes.append(reason)


def check_garbled(
    channel: Channel, publish: Callable[[bytes], object], said: Sequence[bytes], true: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Have each of these messages empty memory, on the connection that there is and with one word to the log, and a true one be heard."""
    ear = Ear()
    contact = channel.join(ear, 1.0)
    contact.begin()
    wait_until(lambda: contact.fresh_until > time.monotonic(), "the channel")
    before = len(ear.flushes)
    with caplog.at_level(logging.WARNING, "stockstore"):
        for message in said:
            publish(message)
        publish(true)
        while ear.told.get(timeout=20) != [TEXT]:
            pass
    assert ear.flushes[before:].count("gap") >= len(said)
    assert "connection" not in ear.flushes
    confirmed = contact.fresh_until
    wait_until(lambda: contact.fresh_until > confirmed, "the next beat")
    contact.leave()
    # Memory that another test has left may hear it too.
    (warning,) = [found for found in caplog.messages if found.startswith(repr(channel)) and "no writer sends" in found]
    assert warning.endswith(f"{said[0]!r}")
