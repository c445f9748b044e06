"""Takes away the markers of writers that died between their marker and its release."""

import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from stockstore.cells import tickets_of
from stockstore.coherence.protocol import Evidence
from stockstore.errors import ConfigurationError
from stockstore.locks import fork_safe_lock

_EVERY: Final = 1.0
_REMEMBERED: Final = 10_000
_DECIDED: Final = float("-inf")
_log: Final = logging.getLogger(__name__)


class Resolvable(Protocol):
    """A tier whose markers others may have put."""

    def resolve(self, texts: Sequence[str], ticket: bytes) -> object:
        """Take a ticket's marker from key texts; no value follows."""


class Resolver:
    """Asks a database about the writers whose markers this process has met for some time.

    One may serve several tiers and any number of threads. It asks about a ticket at most once a second, about all that are due at once,
    on a connection of its own; who meets a marker that another thread is asking about goes on without it.

    Args:
        evidence: Tells which transactions have ended.
        after: For how many seconds, by this process's clock, a marker was met before its writer is doubted.
    """

    def __init__(self, evidence: Evidence, *, after: float = _EVERY) -> None:
        """Start with no marker met."""
        if not after >= 0:
            raise ConfigurationError(f"after is a number of seconds from 0 on, not {after!r}")
        self._evidence = evidence
        self._after = after
        self._lock = fork_safe_lock()
        # When each ticket may be asked about next; the least recently met is forgotten first.
        self._asks: OrderedDict[bytes, float] = OrderedDict()
        self._foreign_logged = False
        self._failing = False

    def met(self, tier: Resolvable, cells: Mapping[str, bytes]) -> int:
        """Note markers that a reader met, and resolve those of writers that have ended; never raises for a server's sake.

        Args:
            tier: Where they stand.
            cells: The marked cells by their keys.

        Returns:
            How many tickets were resolved.
        """
        try:
            texts = self._texts_by_ticket(cells)
            over = self._decided(texts) if texts else ()
            for ticket in over:
                tier.resolve(texts[ticket], ticket)
        except Exception as error:  # noqa: BLE001 - the read that met the marker has its answer already
            self._report(error)
            return 0
        return len(over)

    def _texts_by_ticket(self, cells: Mapping[str, bytes]) -> dict[bytes, list[str]]:
        texts: dict[bytes, list[str]] = {}
        for text, cell in cells.items():
            for ticket in tickets_of(cell):
                if self._evidence.knows(ticket):
                    texts.setdefault(ticket, []).append(text)
                else:
                    self._report_foreign(text, ticket)
        return texts

    def _decided(self, tickets: Iterable[bytes]) -> list[bytes]:
        known, due = self._due(tickets)
        if due:
            found = self._evidence.decided(due)
            self._failing = False
            with self._lock:
                self._asks.update(dict.fromkeys(found, _DECIDED))
            known.extend(found)
        return known

    def _due(self, tickets: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Give the tickets that are known to be decided, and those to ask about, which nobody else asks about for a second."""
        known, due, now = [], [], time.monotonic()
        with self._lock:
            for ticket in tickets:
                at = self._asks.setdefault(ticket, now + self._after)
                self._asks.move_to_end(ticket)
                if at == _DECIDED:
                    known.append(ticket)
                elif at <= now:
                    self._asks[ticket] = now + _EVERY
                    due.append(ticket)
            while len(self._asks) > _REMEMBERED:
                self._asks.popitem(last=False)
        return known, due

    def _report(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            _log.warning("markers of writers cannot be resolved now, and their keys are read from the database: %s", error)

    def _report_foreign(self, text: str, ticket: bytes) -> None:
        if not self._foreign_logged:
            self._foreign_logged = True
            _log.info("the marker %r on %r is not of the database of %r, and is left to those that know it", ticket, text, self._evidence)
