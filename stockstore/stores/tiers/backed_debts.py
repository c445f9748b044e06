"""What the server of a shared cache could not be told."""

from collections.abc import Mapping
from functools import partial
from typing import TypeAlias

from stockstore.backends.coherent import CoherentBackend
from stockstore.coherence.recovery import Recovery
from stockstore.keys import KeyPlan
from stockstore.stores.backed import BackendStore
from stockstore.stores.generations import generation_text
from stockstore.stores.tiers.backed_places import BackendPlaces

_Item: TypeAlias = tuple[str, bytes | None]
"""A key, and the ticket under which it was marked."""


class BackendDebts:
    """Invalidations and releases that a server gets as soon as it answers again; until then nothing is read for their classes.

    Attributes:
        recovery: What is owed, and the thread that tells it.
    """

    def __init__(self, store: BackendStore, backend: CoherentBackend) -> None:
        """Owe nothing."""
        self._store = store
        self._backend = backend
        self.recovery: Recovery[_Item, None] = Recovery()

    def are_settled(self, cls: type) -> bool:
        """Whether nothing is owed for a class."""
        return not self.recovery.owes() or self.recovery.settled(cls, self._store._namespace())

    def add(self, places: BackendPlaces, ticket: bytes | None) -> None:
        """Owe the removal of what stands at places, and, with a ticket, its release."""
        for plan in places.prefixes:
            self._add(places, plan, None)
        by_plan: dict[KeyPlan, dict[_Item, None]] = {}
        owed = [(plan, text) for (plan, _), text in (*places.records.items(), *places.lists.items())]
        for plan, text in [*owed, *places.wide.items()]:
            by_plan.setdefault(plan, {})[text, ticket] = None
        for plan, items in by_plan.items():
            self._add(places, plan, items)

    def _add(self, places: BackendPlaces, plan: KeyPlan, items: dict[_Item, None] | None) -> None:
        prefix, mapped = generation_text(places.namespace, plan), places.is_mapped(plan)
        self.recovery.add(places.roots[plan], places.namespace, items, partial(self._tell, plan, prefix, mapped))

    def _tell(self, plan: KeyPlan, prefix: str, mapped: bool, items: Mapping[_Item, None] | None) -> None:
        try:
            self._backend.at_home(partial(self._deliver, prefix, mapped, items))
        finally:
            self._store._close_again()
        tickets = sum(ticket is not None for _, ticket in items or ())
        self._store._note("release", plan, tickets, "owed")
        self._store._note("invalidate", plan, 1 if items is None else len({text for text, _ in items}), "owed")

    def _deliver(self, prefix: str, mapped: bool, items: Mapping[_Item, None] | None) -> None:
        if items is None:
            # Without its generation no row of the hierarchy is read.
            if mapped:
                self._backend.invalidate_many([prefix])
            else:
                self._backend.clear(prefix)
            return
        by_ticket: dict[bytes | None, list[str]] = {}
        for text, ticket in items:
            by_ticket.setdefault(ticket, []).append(text)
        self._backend.invalidate_many(list(dict.fromkeys(text for text, _ in items)))
        for ticket, texts in by_ticket.items():
            if ticket is not None:
                self._backend.release_many(texts, ticket, committed=True, renews=False)
