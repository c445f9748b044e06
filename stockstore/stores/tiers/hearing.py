"""How process memory hears of what other processes write."""

import math
from collections.abc import Hashable
from functools import partial
from typing import Final, cast
from weakref import WeakKeyDictionary

from stockstore.aio.bridge import in_greenlet
from stockstore.aio.threads import in_thread
from stockstore.channels.base import Channel
from stockstore.coherence.protocol import Announcer
from stockstore.stores.local import LocalStore
from stockstore.stores.tiers.backed import BackendTier
from stockstore.stores.tiers.ears import Ear, OwnTickets

START: Final = 0.02
"""Seconds for which the first reader waits until a channel is subscribed, which takes a few milliseconds; until then the tiers below answer."""


class Hearing:
    """The channels of one memory: its own, and those of the shared caches below it.

    Attributes:
        own: The tickets of this memory's own writes, of which it need not be told.
        announcer: Where its writes are told of, if the tiers below do not.
    """

    def __init__(self, store: LocalStore) -> None:
        """Listen to the channel that the store was given."""
        self._store = store
        self.own = OwnTickets()
        self._ears: dict[Hashable, Ear] = {}
        self._carriers: WeakKeyDictionary[BackendTier, Ear] = WeakKeyDictionary()
        self._late: Ear | None = None
        self.announcer: Announcer | None = None
        if store.channel is not None:
            ear = self._listen(store.channel, is_exact=False)
            self._late = None if store.channel.is_early else ear
            self.announcer = None if store.channel.is_early else cast("Announcer", store.channel)

    def hear(self, carrier: BackendTier) -> None:
        """Listen to the channel of a shared cache below, if the store is to."""
        channel = carrier.channel
        if channel is None or carrier in self._carriers or self._store.max_staleness is None:
            return
        known = self._store.channel
        if known.address != channel.address if known is not None else not self._store.finds_channel:
            return
        exact = self._store._namespace_setting == carrier._store._namespace_setting
        self._carriers[carrier] = self._listen(channel, is_exact=exact)

    def _listen(self, channel: Channel, *, is_exact: bool) -> Ear:
        ear = self._ears.get(channel.address)
        if ear is None:
            ear = self._ears[channel.address] = Ear(self._store, self.own, repr(channel), is_exact=is_exact)
            self._store.listen(channel.join(ear, self._store.max_staleness or math.inf))
        ear.is_exact = ear.is_exact and is_exact
        return ear

    def hears(self) -> bool:
        """Whether all that others have written ``max_staleness`` ago was heard, or nothing need be; begins to listen, and waits for that once."""
        store = self._store
        if store.is_fresh():
            return True
        contact = store.contact
        if contact is None or contact.settled.is_set():
            return False
        if in_greenlet():
            in_thread(partial(contact.wait, START), whole=False)
        else:
            contact.wait(START)
        return store.is_fresh()

    def limit_by(self, carrier: object, limit: float | None) -> float | None:
        """For how many seconds after its lease something is believed for which a carrier vouches, where it is for ``limit`` otherwise."""
        if self._late is not None:
            return None
        if limit is None or not isinstance(carrier, BackendTier) or carrier not in self._carriers:
            return limit
        return carrier.limited(None)

    def described(self) -> str:
        """Name what is heard; nothing where there is no channel."""
        return ", ".join(sorted({repr(ear) for ear in self._ears.values()}))
