"""What a channel is: to memory that listens, and to the thread that receives."""

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from stockstore.channels.receiver import Receiver


class Listener(Protocol):
    """Memory that is told of writes, by a thread of the library's own; neither method raises, nor does any I/O."""

    def heard(self, texts: Sequence[str], ticket: bytes) -> None:
        """Drop what stands under key texts, and let no value follow of a read or write that has begun.

        Args:
            texts: Of records, lists, and of whole classes (``"namespace:class label:"``) or namespaces (``"namespace:"``).
            ticket: Of the writer's transaction; empty where it has none.
        """

    def flush(self, reason: str) -> None:
        """Drop everything, and let no value follow; ``"start"``, ``"connection"`` or ``"gap"`` tells why."""


class Heard(NamedTuple):
    """A message of a writer.

    Attributes:
        texts: Key texts.
        ticket: Of the writer's transaction; empty where it has none.
        number: One more than that of the message before; 0 where it is not known.
    """

    texts: Sequence[str]
    ticket: bytes = b""
    number: int = 0


class Garbled(NamedTuple):
    """A message that no writer here has sent: what it was to tell of is not known.

    Attributes:
        said: All of it.
    """

    said: bytes


class Proof(NamedTuple):
    """The answer to a beat: whatever was published before the beat was sent has been received before this.

    Attributes:
        number: That of the last message published before it; ``None`` where not all messages of the channel are numbered as one stream.
        missed: Whether a message is known not to have come that was published before.
    """

    number: int | None = None
    missed: bool = False


class Line(Protocol):
    """One subscription, confirmed by the server before it was given. One thread uses it; any method may raise any error of a driver."""

    def fileno(self) -> int:
        """Give the socket that becomes readable when there is something to receive."""

    def beat(self) -> None:
        """Send what will be answered by one :class:`Proof`; does not wait for that."""

    def receive(self) -> "Iterable[Heard | Garbled | Proof]":
        """Give what has come, in the order in which the server sent it; called where the socket is readable."""

    def close(self) -> None:
        """Hang up; never raises, and never says anything to the server that another process may still be talking to."""


class Freshness(Protocol):
    """Until when a memory may be believed."""

    @property
    def fresh_until(self) -> float:
        """On the monotonic clock."""

    @property
    def settled(self) -> threading.Event:
        """Set once it has been fresh, or could not be."""

    def begin(self) -> None:
        """Listen, cheap where it does."""

    def wait(self, seconds: float) -> None:
        """Wait once for the first subscription, for so long at the most; not where that has failed."""

    def leave(self) -> None:
        """Listen no more, until :meth:`begin`."""


class Freshnesses:
    """That of a memory that listens to two channels: it may be believed while it hears both."""

    def __init__(self, one: Freshness, other: Freshness) -> None:
        """Join them."""
        self._both = (one, other)

    @property
    def fresh_until(self) -> float:
        """On the monotonic clock."""
        return min(one.fresh_until for one in self._both)

    @property
    def settled(self) -> threading.Event:
        """That of the one which is not settled yet."""
        return min(self._both, key=lambda one: one.settled.is_set()).settled

    def begin(self) -> None:
        """Listen to both."""
        for one in self._both:
            one.begin()

    def wait(self, seconds: float) -> None:
        """Wait for both."""
        for one in self._both:
            one.wait(seconds)

    def leave(self) -> None:
        """Listen to neither."""
        for one in self._both:
            one.leave()


class Contact:
    """What a memory's readers look at.

    Attributes:
        fresh_until: On the monotonic clock: up to then whatever had been published ``max_staleness`` before was told to the listener.
            Minus infinity until it has subscribed.
        max_staleness: Seconds.
        listener: Who is told.
        flushed_at: When the subscription of the moment flushed it; infinity where that is still to come.
        settled: Set once it has been fresh, or could not be.
    """

    __slots__ = ("__weakref__", "_receiver", "flushed_at", "fresh_until", "listener", "max_staleness", "settled")

    def __init__(self, receiver: "Receiver", listener: Listener, max_staleness: float) -> None:
        """Hear nothing yet."""
        self._receiver = receiver
        self.listener = listener
        self.max_staleness = max_staleness
        self.forget()

    def forget(self) -> None:
        """Be as at first: nothing in memory is fresh."""
        self.fresh_until, self.flushed_at = -math.inf, math.inf
        # Not the one that was: a thread that a fork has left behind may have been at work on it.
        self.settled = threading.Event()

    def begin(self) -> None:
        """Have the thread run, anew in a forked process; cheap where it does."""
        self._receiver.begin(self)

    def wait(self, seconds: float) -> None:
        """Wait once for the first subscription, for so long at the most; not where that has failed."""
        if not self.settled.wait(seconds):
            self.settled.set()

    def leave(self) -> None:
        """Hear no more, until :meth:`begin`; what is in memory is not fresh then."""
        self._receiver.leave(self)


class Channel(ABC):
    """Where writers tell of what they write.

    Attributes:
        is_early: Whether a message comes before the commit that it tells of. Then only he may keep what the database gave for long
            who has also looked for the writer's marker in the shared cache that the channel belongs to.
    """

    is_early = True

    @property
    @abstractmethod
    def address(self) -> Hashable:
        """What tells channels apart: those that are equal share one thread and connection in a process."""

    @abstractmethod
    def open(self) -> Line:
        """Connect and subscribe, and wait until the server has confirmed it; raises any error of a driver."""

    def join(self, listener: Listener, max_staleness: float) -> Contact:
        """Have a listener told of writes as long as the contact is kept; starts nothing yet.

        Args:
            listener: Who is told.
            max_staleness: Seconds after which what was published has been told, or the contact is fresh no more.
        """
        from stockstore.channels.receiver import receiver_of

        return Contact(receiver_of(self), listener, max_staleness)
