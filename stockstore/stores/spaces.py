"""The shelves of process memory: dictionaries by namespace, class and key."""

from collections.abc import Callable
from typing import Any, TypeAlias

from stockstore.backends.local import LocalCells
from stockstore.backends.local_nodes import Node, Shelf
from stockstore.keys import KeyPlan, Native, keys_of

Cells: TypeAlias = dict[Native, Node[Native, Any]]
AliasKeys: TypeAlias = tuple[Native | None, ...]

_NOTHING: Cells = {}
_SWEEP_AT = 1000
"""Dictionaries made before those of tenants without records are looked for."""


class LocalSpaces:
    """The shelves of one store, or of one context of it."""

    def __init__(self, maxsize: int) -> None:
        """Start empty."""
        self.cells: LocalCells[Native, Any] = LocalCells(maxsize)
        self._dicts: dict[tuple[str, KeyPlan, bool], Cells] = {}
        self._shelves: dict[tuple[str, type], Shelf[Native, Any]] = {}
        self._making = False
        self._sweep_at = _SWEEP_AT
        self.sweeps = 0
        # Told of a sweep's end, under the lock of the cells.
        self.on_sweep: Callable[[], None] | None = None
        self._labels: dict[str, dict[KeyPlan, None]] = {}
        self._names: set[str] = set()

    def found(self, namespace: str, plan: KeyPlan, *, alias: bool) -> Cells:
        """Give the records under an identity, or those that a key points to, for reading: nothing is made for a namespace that is only asked for."""
        return self._dicts.get((namespace, plan, alias), _NOTHING)

    def records(self, namespace: str, plan: KeyPlan) -> Cells:
        """Give the records under an identity."""
        cells = self._dicts.get((namespace, plan, False))
        if cells is None:
            self.know(namespace, plan)
            cells = self._dicts.setdefault((namespace, plan, False), {})
        return cells

    def know(self, namespace: str, plan: KeyPlan) -> None:
        """Remember a namespace, and the label of an identity, before anything can stand there."""
        self._names.add(namespace)
        self._labels.setdefault(plan.label, {})[plan] = None

    def labelled(self, label: str) -> list[KeyPlan]:
        """Give the identities of a label under which anything may stand; two classes may have one name."""
        return list(self._labels.get(label, ()))

    def aliases(self, namespace: str, plan: KeyPlan) -> Cells:
        """Give the records that a key points to."""
        cells = self._dicts.get((namespace, plan, True))
        return self._dicts.setdefault((namespace, plan, True), {}) if cells is None else cells

    def may_mean(self, text: str) -> bool:
        """Whether anything that a key text names may stand here: of most classes that others write, one process has nothing."""
        label = text.split(":", 2)[1:2]
        return not label or not label[0] or label[0] in self._labels

    def shelf(self, namespace: str, cls: type, plans: tuple[KeyPlan, ...]) -> Shelf[Native, Any]:
        """Give the shelf for objects of exactly this class."""
        shelf = self._shelves.get((namespace, cls))
        return self._new_shelf(namespace, cls, plans) if shelf is None else shelf

    def _new_shelf(self, namespace: str, cls: type, plans: tuple[KeyPlan, ...]) -> Shelf[Native, Any]:
        with self.cells.lock:
            # Not while one is being made, whose dictionaries are empty: a finalizer may use the store in the middle of it.
            if len(self._dicts) > self._sweep_at and not self._making:
                self._sweep(namespace)
            self._making = True
            try:
                aliases = tuple(self.aliases(namespace, plan) for plan in plans)
                return self._shelves.setdefault(
                    (namespace, cls), Shelf(self.records(namespace, keys_of(cls).identity), aliases, (namespace, keys_of(cls).identity))
                )
            finally:
                self._making = False

    def _sweep(self, namespace: str) -> None:
        """Forget the tenants, but one, that have no records left."""
        try:
            kept = {name for (name, _, _), cells in list(self._dicts.items()) if cells} | {namespace}
            for place in [place for place in list(self._dicts) if place[0] not in kept]:
                self._dicts.pop(place, None)
            for owner in [owner for owner in list(self._shelves) if owner[0] not in kept]:
                self._shelves.pop(owner, None)
            self._names -= self._idle(kept)
            self._sweep_at = max(_SWEEP_AT, 2 * len(self._dicts))
        finally:
            # Last: who was given a dictionary meanwhile is to ask again.
            self.sweeps += 1
            if self.on_sweep is not None:
                self.on_sweep()

    def _idle(self, kept: set[str]) -> set[str]:
        """Give the namespaces that may be forgotten."""
        return self._names - kept

    def put(
        self, namespace: str, cls: type, plans: tuple[KeyPlan, ...], native: Native, value: object, expires: float | None, keys: AliasKeys
    ) -> int:
        """Keep a record under its key and its aliases, and give how many were evicted for it."""
        evicted = 0
        while True:
            sweeps = self.sweeps
            evicted += self.cells.put(self.shelf(namespace, cls, plans), native, value, expires, keys)
            # A sweep in between may have forgotten the shelf.
            if sweeps == self.sweeps:
                return evicted

    def places(self) -> "list[tuple[str, KeyPlan, bool]]":
        """Give the namespace and key of every dictionary, and whether it is one of aliases."""
        return list(self._dicts)
