"""What process memory hears of channels."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from weakref import ref

from stockstore.instrumentation import emit, listening
from stockstore.keys.texts import read_texts
from stockstore.stores.claimed import ClaimedSpaces
from stockstore.stores.tiers.telling import tell_places

if TYPE_CHECKING:
    from stockstore.stores.local import LocalStore

TICKETS: Final = 10_000
"""Own tickets remembered; the message of an older one drops what its writer has kept."""
_log: Final = logging.getLogger(__name__)


class OwnTickets:
    """The tickets under which a memory has marked places itself: of these writes it need not be told."""

    def __init__(self) -> None:
        """Start with none."""
        self._tickets: OrderedDict[bytes, None] = OrderedDict()

    def add(self, ticket: bytes) -> None:
        """Remember one; of a write without a ticket, which has an empty one, everybody is told."""
        tickets = self._tickets
        if ticket:
            tickets[ticket] = None
        if len(tickets) > TICKETS:
            tickets.popitem(last=False)

    def forget(self) -> None:
        """Remember none of them."""
        self._tickets = OrderedDict()

    def __contains__(self, ticket: bytes) -> bool:
        """Whether it is one of them."""
        return ticket in self._tickets


class Ear:
    """What one memory hears of one channel.

    Attributes:
        is_exact: Whether memory and those who publish have the same setting of the namespace. Otherwise what is named is dropped in
            every namespace.
    """

    def __init__(self, store: "LocalStore", own: OwnTickets, name: str, *, is_exact: bool) -> None:
        """Keep no store alive."""
        self._name = name
        self._spaces: ClaimedSpaces = store._spaces
        self._store = ref(store)
        self._own = own
        self.is_exact = is_exact
        self._is_puzzled = False

    def __repr__(self) -> str:
        """Name the channel."""
        return self._name

    def heard(self, texts: Sequence[str], ticket: bytes) -> None:
        """Drop what is named, unless it is told of this memory's own write."""
        if ticket in self._own:
            return
        # What is leased from now on is asked for below after this write was marked there.
        texts = list(filter(self._spaces.may_mean, texts))
        if not texts:
            return
        keys = [key for key in read_texts(texts) if key is not None]
        if len(keys) < len(texts):
            # Once: anybody may publish there.
            level, self._is_puzzled = logging.DEBUG if self._is_puzzled else logging.WARNING, True
            _log.log(level, "a channel named what is no key; process memory is emptied: %r", [*texts][:3])
            self.flush("gap")
        records, classes = self._spaces.hear(keys, exact=self.is_exact)
        if listening and (store := self._store()) is not None:
            tell_places("hear", store, records, classes)

    def flush(self, reason: str) -> None:
        """Drop everything."""
        # In a forked process they are its parent's, of whose writes it has to be told.
        self._own.forget()
        self._spaces.flush()
        if listening and (store := self._store()) is not None:
            emit("flush", store, reason=reason)
