"""What every backend does."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Literal, TypeAlias, TypeVar

from stockstore.aio.bridge import greenlet_spawn
from stockstore.errors import CacheUnreachable, ConfigurationError

T = TypeVar("T")
IO: TypeAlias = Literal["blocking", "awaited", "either"]
"""How a driver waits for a server: it blocks the thread, it is awaited by an event loop, or it does as its caller can."""

_ALIAS = b"A"
_KEY_LIMIT = 250


class PartlyUnreachable(CacheUnreachable):
    """Some of several servers did not answer a read.

    Attributes:
        found: What the others gave.
        lost: The keys of which nothing is known.
    """

    def __init__(self, message: str, found: dict[str, bytes], lost: Collection[str]) -> None:
        """Keep what was found."""
        super().__init__(message)
        self.found = found
        self.lost = frozenset(lost)


class Backend(ABC):
    """A place that keeps bytes under text keys.

    Keys are printable ASCII without white space, at most 250 bytes, and read
    ``"namespace:class label:names:values"``. All operations are batches, and an empty batch does
    no I/O. A server that does not answer, refuses, or answers nonsense is
    :class:`~stockstore.errors.CacheUnreachable`, raised from the driver's error; of a batch that
    raised, any part may have been done.

    Attributes:
        io: How the driver waits for the server.
    """

    io: IO = "either"

    @abstractmethod
    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the values of those keys that are present; one round trip per node."""

    async def get_many_awaited(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Do as :meth:`get_many`, in a coroutine; a backend whose ``io`` is ``"awaited"`` may know how to do without a greenlet."""
        return await greenlet_spawn(self.get_many, keys)

    @abstractmethod
    def set_many(self, items: Sequence[tuple[str, bytes, int]]) -> None:
        """Keep values: (key, value, server lifetime in whole seconds, more than 0).

        Every write was acknowledged when this returns. A value may be kept longer than its
        lifetime, never shorter by the server's own clock, unless the server runs out of memory.
        """

    @abstractmethod
    def delete_many(self, keys: Sequence[str]) -> int:
        """Drop keys and tell how many of them were there; one round trip per node."""

    def follow_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give values as :meth:`get_many` does, but follow aliases.

        A value that starts with ``b"A"`` is an alias: its rest is the text of another key, and that
        key's value, if there is one, is given under the asked key. One hop only.
        """
        found = self.get_many(keys)
        targets = {key: target_of(value) for key, value in found.items() if value.startswith(_ALIAS)}
        if not targets:
            return found
        wanted = dict.fromkeys(target for target in targets.values() if target)
        records = self.get_many(list(wanted))
        followed = {key: records.get(target) for key, target in targets.items()}
        return {key: value for key, value in (found | followed).items() if value is not None}

    def look(self, keys: Sequence[str], *, follow: bool = False) -> list[bytes | None]:
        """Give what :meth:`get_many` gives, or :meth:`follow_many`, in the positions of the keys, ``None`` for what is absent."""
        found = self.follow_many(keys) if follow else self.get_many(keys)
        return list(map(found.get, keys))

    def at_home(self, work: Callable[[], T]) -> T:
        """Do work that uses the backend, for a thread of the library's own, where the driver can be used: by default here."""
        return work()

    @abstractmethod
    def clear(self, prefix: str) -> None:
        """Drop every key that starts with ``"namespace:"`` or ``"namespace:class label:"``."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @abstractmethod
    def close(self) -> None:
        """Close the connections that this backend opened; twice is fine.

        A client that the backend was given stays open.
        """


def checked_timeouts(**timeouts: float) -> None:
    """Refuse time-outs that are no seconds.

    Raises:
        ConfigurationError: One is no number, or not above zero and finite.
    """
    for name, seconds in timeouts.items():
        if type(seconds) not in (int, float) or not 0 < seconds < math.inf:
            raise ConfigurationError(f"{name} is a number of seconds above 0, not {seconds!r}")


def target_of(alias: bytes) -> str:
    """Give the key an alias points to, or nothing where it is no legal key.

    A key goes into the request's text, so whoever can write to the server could otherwise put a
    command of their own into ours.
    """
    text = alias[1:].decode(errors="replace")
    legal = text.isascii() and text.isprintable() and " " not in text and text.count(":") > 1 and len(text) <= _KEY_LIMIT
    return text if legal else ""
