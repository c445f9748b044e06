"""What a writer has published: by the script that marks, or on a cluster by one message for all that many scripts have marked."""

import itertools
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from stockstore.backends.coherent import writing
from stockstore.backends.redis_advice import silence

_log: Final = logging.getLogger("stockstore.backends.redis")


_process = object()
"""This process: a forked one may have the number of the one that it was forked from, in a namespace of its own."""


def _after_fork() -> None:
    global _process  # noqa: PLW0603 - the process is what all in it have in common
    _process = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Numbers:
    """Names messages, ``"writer.number"``: so a receiver tells copies of one message from others, and sees that one is missing."""

    def __init__(self) -> None:
        """Be a writer of this process."""
        self._stream = self._begun()

    @staticmethod
    def _begun() -> "tuple[object, bytes, Iterator[int]]":
        return _process, secrets.token_hex(8).encode(), itertools.count(1)

    def next(self) -> bytes:
        """Give the name of the next message; a forked process is another writer."""
        process, writer, count = self._stream
        if process is not _process:
            _, writer, count = self._stream = self._begun()
        return b"%s.%d" % (writer, next(count))


class Message(NamedTuple):
    """What is to be published, once.

    Attributes:
        channel: Where.
        numbers: Those of the writer.
        ticket: Of his write; empty where it has none.
        texts: The keys.
        refused: Called with what a server says that does not let its user publish.
    """

    channel: bytes
    numbers: Numbers
    ticket: bytes
    texts: Sequence[str]
    refused: Callable[[str], None]

    def parts(self, most: int) -> "Iterator[Message]":
        """Give messages of so many keys at the most."""
        for start in range(0, len(self.texts), most):
            yield self._replace(texts=self.texts[start : start + most])

    def command(self) -> list[str | bytes]:
        """Give the command, with the next number: what was sent before may have been heard too soon, and is no copy of this."""
        return ["PUBLISH", self.channel, b"\n".join((self.numbers.next(), self.ticket, " ".join(self.texts).encode()))]


class Teller:
    """What one backend has published.

    Attributes:
        channel: Where; empty: nowhere.
    """

    def __init__(self, name: str, channel: bytes, *, scattered: bool) -> None:
        """Publish nothing yet.

        Args:
            name: Of the backend, for its log.
            channel: Where.
            scattered: Whether what is told of once is marked by several scripts.
        """
        self.channel = channel
        self._name = name
        self._scattered = scattered
        self._numbers = Numbers()
        self._refusal_said = False

    @property
    def in_script(self) -> list[bytes]:
        """Under which ticket and where a script publishes what it does; an empty channel where it does not."""
        return [writing.get(), b"" if self._scattered else self.channel]

    def message(self, texts: Sequence[str], ticket: bytes | None = None) -> Message | None:
        """Give what is to be published once scripts are done, ``None`` where these do it; without a ticket that of the write under way."""
        if not self._scattered or not texts or not self.channel:
            return None
        return Message(self.channel, self._numbers, writing.get() if ticket is None else ticket, list(dict.fromkeys(texts)), self._refused)

    def untold(self, answer: Any) -> Any:
        """Give a script's answer without what it says of a message that was refused."""
        if type(answer) is not list or not answer or type(answer[0]) is not list:
            return answer
        found, refusal = answer
        self._refused(refusal.decode("utf-8", "replace"))
        return found

    def silence(self, refusal: str) -> str:
        """Say what it means that messages are refused."""
        return silence(refusal, self.channel)

    def _refused(self, refusal: str) -> None:
        """Say so once."""
        if not self._refusal_said:
            self._refusal_said = True
            _log.warning("%s: %s", self._name, self.silence(refusal))
