"""One batch of look-ups in a shared cache: what is a hit, what can be leased, and where a writer is at work."""

import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from stockstore.backends.base import target_of
from stockstore.backends.coherent import Leased
from stockstore.cells import ALIAS, LEASE, VALUE, is_marker
from stockstore.coherence.protocol import Answer
from stockstore.instrumentation import Kind
from stockstore.keys import Lookup, Native, keys_of
from stockstore.stores.alike import snapshots_in
from stockstore.stores.backed import BackendStore
from stockstore.stores.cell_reader import CellReader, Unusable
from stockstore.stores.generations import generation_text, tokens_in
from stockstore.stores.snapshots import RowSnapshot, Snapshot

REPLACE_SECONDS: Final = 10.0
REMEMBERED: Final = 10_000

_now = time.monotonic


class Replaced:
    """When this process last replaced which key's value of another release: two releases that run side by side do not thrash."""

    def __init__(self) -> None:
        """Start with none."""
        self._last: OrderedDict[str, float] = OrderedDict()

    def may(self, text: str) -> bool:
        """Whether a key's value may be replaced, which is noted then."""
        last = self._last.get(text)
        if last is not None and _now() < last + REPLACE_SECONDS:
            return False
        self._last[text] = _now()
        self._last.move_to_end(text)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
        return True


class Leasing(Protocol):
    """A batch of reads that wants leases."""

    wanted: dict[str, dict[str, bytes | None]]

    def refuse(self, generation: str, leased: Leased) -> None:
        """Judge what stands where no lease was granted."""


class BackendLease(NamedTuple):
    """A key that holds the token of its reader, and the generation that a fill has to carry; of a list also the watch on its rows."""

    text: str
    token: bytes
    generation: bytes
    watch: bytes = b""


def by_token(filled: Sequence[tuple[object, Snapshot]]) -> dict[bytes, list[tuple[BackendLease, Snapshot]]]:
    """Give what is to be filled by the tokens of the leases, each of which has one generation."""
    groups: dict[bytes, list[tuple[BackendLease, Snapshot]]] = {}
    for lease, snapshot in filled:
        assert isinstance(lease, BackendLease)
        groups.setdefault(lease.token, []).append((lease, snapshot))
    return groups


class _One:
    """One look-up, and what came of it."""

    __slots__ = ("lookup", "lost", "marked", "snapshot", "target", "texts", "why")

    def __init__(self, lookup: Lookup, texts: list[str]) -> None:
        self.lookup = lookup
        self.texts = texts
        self.snapshot: Snapshot | None = None
        self.lost = self.marked = False
        self.target = ""
        self.why = ""


class Look:
    """One batch of look-ups of a class on its way.

    Attributes:
        texts: The keys to be read.
        direct: Whether none of them may be an alias.
        wanted: The keys to be leased, each with what was seen there, by the key of their generation.
        marked: The cells in which markers were met.
        lost: The keys of which nothing is known, as their server does not answer: they are asked for nothing more.
    """

    def __init__(self, store: BackendStore, cls: type, lookups: Sequence[Lookup], replaced: Replaced) -> None:
        """Find the keys."""
        self._store, self._cls, self._replaced = store, cls, replaced
        self._keys, self._namespace = keys_of(cls), store._namespace()
        self.direct = not store._may_be_pointed_at(cls) and all(lookup.plan is self._keys.identity for lookup in lookups)
        self._rows = store._generation_texts(self._namespace, cls)
        self._lookups, self._each = lookups, list[_One]()
        self._alike = self._keys.identity.texts(self._namespace, self._natives()) if self.direct and self._rows and lookups else None
        if self._alike is None:
            self._split()
        texts = (text for one in self._each for text in one.texts) if self._alike is None else self._alike
        self.texts = list(dict.fromkeys([*texts, *self._rows.values()]))
        self.wanted: dict[str, dict[str, bytes | None]] = {}
        self.marked: dict[str, bytes] = {}
        self.lost: Collection[str] = frozenset()
        self._late: dict[str, Snapshot] = {}
        self._stopped: set[str] = set()
        self._hits: list[RowSnapshot] | None = None

    def _natives(self) -> list[Native]:
        return [lookup.native for lookup in self._lookups]

    def _split(self) -> None:
        """Have each look-up judged by itself."""
        place = partial(self._store._places, self._namespace, self._keys, direct=self.direct)
        self._each = [_One(lookup, list(place(lookup))) for lookup in self._lookups]

    # -- what was read --------------------------------------------------------------------------

    def take(self, cells: Mapping[str, bytes]) -> None:
        """Judge what was read."""
        self._hits = None if self._alike is None else self._all_hits(self._alike, cells)
        if self._hits is not None:
            return
        if self._alike is not None:
            self._split()
        self.marked = {text: cell for text, cell in cells.items() if is_marker(cell)}
        reader = self._store._reader(self._cls, tokens_in(self._rows, cells))
        stopped = any(text in self.marked for text in self._rows.values())
        for one in self._each:
            judged = {text: self._judge(reader, cell) for text in one.texts if (cell := cells.get(text)) is not None}
            one.snapshot = next((found for found in judged.values() if self._fits(one, found)), None)  # type: ignore[assignment]
            one.marked = stopped or any(text in self.marked for text in one.texts)
            one.why = "generation" if stopped else next((found.value for found in judged.values() if isinstance(found, Unusable)), "")
            one.lost = any(text in self.lost for text in (*one.texts, *self._rows.values()))
            if one.snapshot is None and not one.marked and not one.lost:
                self._want(one, cells, judged)

    def _all_hits(self, texts: Sequence[str], cells: Mapping[str, bytes]) -> list[RowSnapshot] | None:
        """Give the rows where all are plain hits: then there is nothing to lease, to tell of or to judge one by one."""
        generation = tokens_in(self._rows, cells)[self._keys.identity]
        return None if generation is None else snapshots_in(self._cls, list(map(cells.get, texts)), generation, self._natives())

    def _judge(self, reader: CellReader, cell: bytes) -> Snapshot | Unusable | None:
        found = reader.read(cell) if cell.startswith(VALUE) else None
        if found is Unusable.EXPIRED:
            self._store._counters.add(expirations=1)
        return found

    def _fits(self, one: _One, found: Snapshot | Unusable | None) -> bool:
        return found is not None and not isinstance(found, Unusable) and self._store._fits(self._cls, one.lookup, found)

    def _want(self, one: _One, cells: Mapping[str, bytes], judged: "Mapping[str, Snapshot | Unusable | None]") -> None:
        """Have the record of a look-up leased, where it is known which one that is."""
        if not one.texts:
            return
        text = one.texts[0]
        if one.lookup.plan is not self._keys.identity:
            self._want_target(one, cells.get(text))
        elif self._is_free(text, cells.get(text), judged.get(text)):
            one.target = text
            self.wanted.setdefault(self._rows.get(self._keys.identity, ""), {})[text] = cells.get(text)

    def _is_free(self, text: str, cell: bytes | None, found: Snapshot | Unusable | None) -> bool:
        """Whether a cell may give way to a lease: it is absent, or nobody can use what it holds."""
        if cell is None or not cell.startswith((VALUE, LEASE)):
            return True
        if found is Unusable.OTHER_SHAPE:
            return self._replaced.may(text)
        # Of another class of the hierarchy: the origin has nothing else for this key.
        return isinstance(found, Unusable) and found is not Unusable.OTHER_CLASS

    def _want_target(self, one: _One, cell: bytes | None) -> None:
        """Have the record leased that an alias points to, if it is one of this class: anybody may have written it."""
        target = target_of(cell) if cell is not None and cell.startswith(ALIAS) else ""
        prefixes = self._rows or {plan: generation_text(self._namespace, plan) for plan in self._store._cleared_with(self._cls)}
        generation = next((prefix for prefix in prefixes.values() if target.startswith(prefix)), None)
        if generation is not None:
            one.target = target
            self.wanted.setdefault(generation if self._rows else "", {}).setdefault(target, None)

    # -- what was leased ------------------------------------------------------------------------

    def refuse(self, generation: str, leased: Leased) -> None:
        """Judge what stands where no lease was granted."""
        if leased.generation is None:
            self._stopped.update(self.wanted[generation])
        tokens = {plan: leased.generation for plan, text in self._rows.items() if text == generation}
        reader = self._store._reader(self._cls, tokens)
        for text, cell in leased.cells.items():
            found = reader.read(cell) if cell.startswith(VALUE) else None
            if is_marker(cell):
                self.marked[text] = cell
            elif found is not None and not isinstance(found, Unusable):
                self._late[text] = found

    def answers(self, leases: Mapping[str, object]) -> list[Answer[Snapshot]]:
        """Give an answer for each look-up."""
        return [self._answer(one, leases) for one in self._each] if self._hits is None else list(map(Answer, self._hits))

    def reasons(self, answers: Sequence[Answer[Snapshot]]) -> "Counter[tuple[Kind, str]]":
        """Tell of the answers that give nothing what they are, and why."""
        if self._hits is not None:
            return Counter()
        nothing = [(one, answer) for one, answer in zip(self._each, answers, strict=True) if answer.snapshot is None]
        return Counter(self._reason(one, marked=answer.marked) for one, answer in nothing)

    def _reason(self, one: _One, *, marked: bool) -> "tuple[Kind, str]":
        if one.lost:
            return "bypass", "unreachable"
        return ("bypass", self._stop(one)) if marked else ("miss", one.why)

    def _stop(self, one: _One) -> str:
        return "generation" if one.target in self._stopped or (one.marked and one.why == "generation") else "marked"

    def _answer(self, one: _One, leases: Mapping[str, object]) -> Answer[Snapshot]:
        late = self._late.get(one.target)
        if one.snapshot is not None:
            return Answer(one.snapshot)
        if one.marked or one.target in self.marked or one.target in self._stopped:
            return Answer(None, marked=True)
        if late is not None and self._fits(one, late):
            return Answer(late)
        return Answer(None, leases.get(one.target))
