"""Where writes stand in a shared cache."""

from functools import cached_property
from operator import itemgetter
from typing import Any, Final

from stockstore.cells import NO_GENERATION
from stockstore.coherence.protocol import Record, Writes
from stockstore.keys import KeyPlan, Native, keys_of
from stockstore.stores.backed import BackendStore
from stockstore.stores.generations import generation_text

_PLAN: Final[Any] = itemgetter(0)
_NATIVE: Final[Any] = itemgetter(1)


class BackendPlaces:
    """The keys of what was written.

    Attributes:
        namespace: In which they stand.
        record_texts: The keys of records.
        lists: The keys of lists, which writers of other rows mark at the same time.
        wide: The keys of the generations of whole mapped hierarchies.
        prefixes: What the keys of whole plain classes begin with.
        roots: The root classes of all.
        tokens: The generations that values have to carry, as the marks found them.
        repeated: Whether the marks were sent twice, so that no value may follow.
    """

    def __init__(self, namespace: str, writes: Writes, store: BackendStore) -> None:
        """Find the keys; no I/O."""
        self.namespace = namespace
        self.roots = {plan: cls for plan, cls in writes.roots.items() if store.holds(cls)}
        alone = len(self.roots) == len(writes.roots)
        self._written = list(writes.records) if alone else [record for record in writes.records if record[0] in self.roots]
        self.record_texts: list[str] = _texts_of(namespace, self._written)
        whole = [plan for plan in writes.classes if plan in self.roots]
        # A list of a class that is written as a whole goes with its generation.
        listed = [(record, at) for record, at in writes.lists.items() if record[0] in self.roots and record[0] not in whole]
        self.lists = {record: at.plan.record_text(namespace, at.native) for record, at in listed}
        self.wide = {plan: generation_text(namespace, plan) for plan in whole if self.is_mapped(plan)}
        plain = {keys_of(kind).identity: kind for plan in whole if plan not in self.wide for kind in store._kinds_of(self.roots[plan])}
        self.prefixes = {plan: generation_text(namespace, plan) for plan in plain}
        self.roots |= plain
        self.tokens: dict[KeyPlan, bytes] = {}
        self.repeated = False

    @cached_property
    def records(self) -> dict[Record, str]:
        """The records with their keys; of use where values follow."""
        return dict(zip(self._written, self.record_texts, strict=True))

    def is_mapped(self, plan: KeyPlan) -> bool:
        """Whether records under an identity are rows."""
        return keys_of(self.roots[plan]).mapped

    @property
    def texts(self) -> list[str]:
        """The keys of records, lists and generations."""
        return [*self.record_texts, *self.lists.values(), *self.wide.values()]

    @property
    def places(self) -> list[Record]:
        """The records and lists."""
        return [*self._written, *self.lists]

    def generations(self) -> dict[KeyPlan, str]:
        """Give the keys of the generations that values of the records have to carry."""
        plans = dict.fromkeys(map(_PLAN, self._written))
        return {plan: generation_text(self.namespace, plan) for plan in plans if self.is_mapped(plan) and plan not in self.wide}

    def generation_for(self, plan: KeyPlan) -> bytes | None:
        """Give the generation for values of records; ``None`` where no value may follow."""
        if self.repeated or plan not in self.roots or plan in self.wide or plan in self.prefixes:
            return None
        return self.tokens.get(plan) if self.is_mapped(plan) else NO_GENERATION


def _texts_of(namespace: str, records: list[Record]) -> list[str]:
    plans = set(map(_PLAN, records))
    if len(plans) == 1:
        return _texts_of_one(namespace, plans.pop(), list(map(_NATIVE, records)))
    groups: dict[KeyPlan, list[Record]] = {}
    for record in records:
        groups.setdefault(record[0], []).append(record)
    found: dict[Record, str] = {}
    for plan, group in groups.items():
        found.update(zip(group, _texts_of_one(namespace, plan, list(map(_NATIVE, group))), strict=True))
    return [found[record] for record in records]


def _texts_of_one(namespace: str, plan: KeyPlan, natives: list[Native]) -> list[str]:
    return plan.texts(namespace, natives) or [plan.record_text(namespace, native) for native in natives]
