"""The thread that listens to a channel, one for a process and address."""

import atexit
import logging
import math
import os
import selectors
import threading
import time
import weakref
from collections.abc import Hashable
from contextlib import closing, suppress
from typing import Final

from stockstore.channels.base import Channel, Contact, Heard
from stockstore.channels.subscription import Subscription
from stockstore.channels.waker import Waker
from stockstore.locks import fork_safe_lock

BEATS: Final = 4
"""Beats within the shortest ``max_staleness``."""
LONGEST: Final = 0.5
"""Seconds between two beats at the most; so long a thread may outlive the last store that listens."""
RETRY: Final = 0.05
RETRY_AT_MOST: Final = 1.0
"""Seconds between two attempts to connect, from the first one on."""
GATHER: Final = 0.004
"""Seconds that a message waits for others at the most, where one has just come: many writers wake nobody more often."""
LASTING: Final = 0.2
"""Seconds after which a connection counts as one that worked."""

_log: Final = logging.getLogger(__name__)
_clock: Final = time.monotonic
_now = time.monotonic
_NEVER: Final = math.inf


class Receiver:
    """Hears a channel for all contacts of this process.

    It is kept by its contacts alone: once there is none its thread ends.
    """

    def __init__(self, channel: Channel) -> None:
        """Start nothing."""
        self.channel = channel
        self._contacts: weakref.WeakSet[Contact] = weakref.WeakSet()
        self._lock = fork_safe_lock()
        self._pid = 0
        self._waker: Waker | None = None
        self._start_at = -math.inf
        self._is_puzzled = False
        _receivers.add(self)

    def begin(self, contact: Contact) -> None:
        """Have a contact told, by a thread of this process."""
        if self._pid == os.getpid() and contact in self._contacts:
            return
        with self._lock:
            self._contacts.add(contact)
            if self._pid != os.getpid():
                if _clock() >= self._start_at:
                    self._start()
            elif self._waker is not None:
                self._waker.wake()

    def _start(self) -> None:
        self.forget_thread()
        try:
            self._waker = _begin_thread(weakref.ref(self))
        except (OSError, RuntimeError) as error:  # there are no sockets or threads any more, or the interpreter is about to end
            self._waker, self._start_at = None, _clock() + RETRY_AT_MOST
            self.fail()
            _log.warning("%r cannot be heard; process memory is passed by until it can: %s", self.channel, error)
        else:
            self._pid = os.getpid()

    def forget_thread(self) -> None:
        """Be without a thread, as in a forked process."""
        self._pid, self._waker, self._start_at = 0, None, -math.inf
        for contact in self._all():
            contact.forget()

    def _all(self) -> list[Contact]:
        """Give the contacts of the moment."""
        while True:
            # Another thread may add one meanwhile, and has the lock for longer than a look takes.
            with suppress(RuntimeError):
                return list(self._contacts)

    def leave(self, contact: Contact) -> None:
        """Tell a contact no more."""
        with self._lock:
            self._contacts.discard(contact)
            contact.forget()
            if not self._contacts and self._waker is not None:
                self._waker.wake()

    def end(self) -> None:
        """Have the thread end; the next look at a contact starts another one."""
        with self._lock:
            contacts = self._all()
        for contact in contacts:
            self.leave(contact)

    # -- for the thread -------------------------------------------------------------------------

    def wants(self, thread: Waker) -> bool:
        """Whether a thread is to go on, as the one of this process, and since anybody listens."""
        with self._lock:
            if self._waker is thread and not self._contacts:
                self._pid, self._waker = 0, None
            return self._waker is thread

    def fail(self) -> None:
        """Let nobody wait for a subscription that could not be had, nor believe that a lost one would have told of everything."""
        for contact in self._all():
            contact.fresh_until = -math.inf
            contact.settled.set()

    def subscribed(self) -> None:
        """Have all contacts flushed before anything is fresh."""
        for contact in self._all():
            contact.flushed_at = _NEVER

    def flush_new(self, reason: str) -> bool:
        """Flush the contacts that this subscription has not flushed yet, and say whether there were any."""
        new = [contact for contact in self._all() if contact.flushed_at == _NEVER]
        for contact in new:
            contact.listener.flush(reason)
            contact.flushed_at = _now()
        return bool(new)

    def flush(self, reason: str) -> None:
        """Flush all contacts."""
        for contact in self._all():
            contact.listener.flush(reason)

    def puzzle(self, said: bytes) -> None:
        """Flush all contacts for a message that means nothing, and say so once: anybody may publish here."""
        level, self._is_puzzled = logging.DEBUG if self._is_puzzled else logging.WARNING, True
        _log.log(level, "%r carried what no writer sends; process memory is emptied: %r", self.channel, said[:80])
        self.flush("gap")

    def tell(self, message: Heard) -> None:
        """Tell all contacts of a message."""
        for contact in self._all():
            contact.listener.heard(message.texts, message.ticket)

    def confirm(self, moment: float) -> None:
        """Note that all that was published before a moment has been told."""
        for contact in self._all():
            if contact.flushed_at <= moment:
                contact.fresh_until = moment + contact.max_staleness
                contact.settled.set()

    def interval(self) -> float:
        """Give the seconds between two beats."""
        return min([LONGEST, *(contact.max_staleness / BEATS for contact in self._all())])


_receivers: "Final[weakref.WeakSet[Receiver]]" = weakref.WeakSet()
_by_address: "Final[weakref.WeakValueDictionary[Hashable, Receiver]]" = weakref.WeakValueDictionary()
_lock: Final = fork_safe_lock()


def receiver_of(channel: Channel) -> Receiver:
    """Give the receiver of a channel, of which there is one in a process for an address."""
    with _lock:
        receiver = _by_address.get(channel.address)
        if receiver is None:
            receiver = _by_address[channel.address] = Receiver(channel)
        return receiver


def _begin_thread(asked: "weakref.ref[Receiver]") -> Waker:
    waker = Waker()
    try:
        threading.Thread(target=_run, args=[asked, waker], name="stockstore channel", daemon=True).start()
    except BaseException:
        waker.close()
        raise
    return waker


def _run(asked: "weakref.ref[Receiver]", waker: Waker) -> None:
    """Subscribe again and again, as long as anybody listens; nothing here keeps the receiver, and so the stores, alive."""
    pause, reason = RETRY, "start"
    while (channel := _channel_of(asked, waker)) is not None:
        began = _clock()
        try:
            _listen(asked, waker, channel, reason)
        except Exception as error:  # noqa: BLE001 - a driver's
            _report(asked, channel, error)
            pause = RETRY if _clock() > began + LASTING else min(2 * pause, RETRY_AT_MOST)
            waker.sleep(pause)
            reason = "connection"
    waker.close()


def _channel_of(asked: "weakref.ref[Receiver]", waker: Waker) -> Channel | None:
    receiver = asked()
    return receiver.channel if receiver is not None and receiver.wants(waker) else None


def _listen(asked: "weakref.ref[Receiver]", waker: Waker, channel: Channel, reason: str) -> None:
    line = channel.open()
    with closing(line), selectors.DefaultSelector() as selector:
        for one in (waker, line):
            selector.register(one, selectors.EVENT_READ)
        subscription, pace = Subscription(line, reason), _Pace()
        if (receiver := asked()) is not None:
            receiver.subscribed()
        while receiver is not None and receiver.wants(waker):
            wait = subscription.tend(receiver)
            # Not held while it waits: a store that nobody else has goes.
            del receiver
            pace.before(wait)
            ready = [key.fileobj for key, _ in selector.select(wait)]
            if waker in ready:
                waker.clear()
            elif ready:
                pace.after()
            if (receiver := asked()) is not None and line in ready:
                subscription.receive(receiver)


class _Pace:
    """Has messages that come one after another wait for each other."""

    def __init__(self) -> None:
        self._woken_at, self._often = -math.inf, False

    def before(self, wait: float) -> None:
        """Wait before the look for messages, where they come often: who waits when the first one is there is woken twice."""
        if self._often:
            time.sleep(min(wait, GATHER))

    def after(self) -> None:
        """Wait for others, where one has just come before this one."""
        since = _clock() - self._woken_at
        self._often = since < 2 * GATHER
        if since < GATHER:
            time.sleep(GATHER - since)
        self._woken_at = _clock()


def _report(asked: "weakref.ref[Receiver]", channel: Channel, error: Exception) -> None:
    if (receiver := asked()) is not None:
        receiver.fail()
        _log.warning("%r is out of reach; process memory is passed by until it is heard again: %s", channel, error)


def _after_fork() -> None:
    for receiver in list(_receivers):
        receiver.forget_thread()


def _at_exit() -> None:
    for receiver in list(_receivers):
        receiver.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
