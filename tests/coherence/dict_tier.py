"""A tier as the protocol describes it, on a dictionary: a second implementation beside the library's own."""

from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

from stockstore.coherence.protocol import Announcer, Answer, Record, Standing, Writes
from stockstore.errors import CacheUnreachable
from stockstore.keys import Key, keys_of
from stockstore.stores.snapshots import Snapshot

_tokens = count()


class Lease(NamedTuple):
    """A cell that waits for its reader."""

    record: Record
    token: int


class Marker(NamedTuple):
    """A cell of writers."""

    tickets: tuple[bytes, ...]
    joined: bool


class DictTier:
    """One cell per record, aliases beside them; what it is asked and told is written down."""

    def __init__(self, name: str = "", *, remote: bool = False, log: list[Any] | None = None) -> None:
        """Start empty."""
        self.name = name
        self.remote = remote
        self.cells: dict[Record, Snapshot | Lease | Marker] = {}
        self.aliases: dict[Record, Record] = {}
        self.log: list[Any] = [] if log is None else log
        self.down: BaseException | None = None
        self.owed: list[tuple[frozenset[Record], bytes | None]] = []
        self.deaf = False
        self.kept: int | None = None
        self.announcer: Announcer | None = None

    carrier = None

    def vouch(self, claim: object, carrier: object) -> None:
        """Note nothing."""

    def give_back(self, leases: object) -> None:
        """Note nothing."""

    def standing(self) -> Standing:
        """Tell that it is one process's."""
        return Standing("strict", "one dictionary")

    def holds(self, cls: type) -> bool:
        """Take everything."""
        del cls
        return True

    def readable(self, cls: type) -> bool:
        """Bypass the tier for all classes while it owes something."""
        del cls
        return not self.owed and not self.deaf

    def passed_by(self, cls: type, count: int) -> None:
        """Note nothing."""

    def lease(self, cls: type, keys: Sequence[Key], *, session: object = None) -> list[Answer[Snapshot]]:
        """Answer key by key."""
        del session
        self._note("lease", list(keys))
        return [self._lease(cls, key) for key in keys]

    def _lease(self, cls: type, key: Key) -> Answer[Snapshot]:
        plan, native, _ = keys_of(cls).lookup(key)
        record = (plan, native) if plan is keys_of(cls).identity else self.aliases.get((plan, native))
        if record is None:
            return Answer(None)
        cell = self.cells.get(record)
        if isinstance(cell, Marker):
            return Answer(None, marked=True)
        if isinstance(cell, Lease):
            return Answer(None)
        if cell is not None:
            return Answer(cell) if cell.native(plan) == native else Answer(None)
        self.cells[record] = lease = Lease(record, next(_tokens))
        return Answer(None, lease)

    def fill(self, filled: Sequence[tuple[object, Snapshot]]) -> int:
        """Keep what still has its lease and is the record that was leased."""
        self._note("fill", [snapshot.key() for _, snapshot in filled])
        return sum(self._fill(lease, snapshot) for lease, snapshot in filled)

    def _fill(self, lease: object, snapshot: Snapshot) -> bool:
        assert isinstance(lease, Lease)
        kept = self.cells.get(lease.record) is lease and _record(snapshot) == lease.record
        if kept:
            self._keep(snapshot)
        return kept

    def _keep(self, snapshot: Snapshot) -> None:
        self.cells[_record(snapshot)] = snapshot
        for plan in keys_of(snapshot.cls).alternates:
            native = snapshot.native(plan)
            if native is not None:
                self.aliases[plan, native] = _record(snapshot)

    def locate(self, writes: Writes) -> frozenset[Record]:
        """Give the records."""
        return frozenset(writes.records)

    def texts(self, places: object) -> list[str]:
        """Give the records as text where others can reach them."""
        return sorted(plan.record_text("n", native) for plan, native in _records(places)) if self.remote else []

    def told(self, places: object) -> list[str]:
        """Give the records as text."""
        return sorted(plan.record_text("n", native) for plan, native in _records(places))

    def mark(self, places: object, ticket: bytes) -> None:
        """Put a marker over anything, and join the markers that are there."""
        self._note("mark", ticket)
        for record in _records(places):
            cell = self.cells.get(record)
            before = cell.tickets if isinstance(cell, Marker) else ()
            self.cells[record] = Marker((*before, ticket), bool(before))

    def release(self, places: object, ticket: bytes, *, committed: bool, snapshots: Sequence[Snapshot] = ()) -> int | None:
        """Take a marker; a value follows on the only one."""
        self._note("release", committed, [snapshot.key() for snapshot in snapshots])
        values = {_record(snapshot): snapshot for snapshot in snapshots}
        for record in _records(places):
            cell = self.cells.get(record)
            if not isinstance(cell, Marker) or ticket not in cell.tickets:
                if committed and not isinstance(cell, Marker):
                    self.cells.pop(record, None)
                continue
            rest = tuple(other for other in cell.tickets if other != ticket)
            if rest:
                self.cells[record] = Marker(rest, True)
            else:
                del self.cells[record]
                if committed and not cell.joined and record in values:
                    self._keep(values[record])
        return self.kept

    def invalidate(self, places: object) -> None:
        """Remove values and leases; keep markers, without a value to follow."""
        self._note("invalidate")
        for record in _records(places):
            cell = self.cells.get(record)
            if isinstance(cell, Marker):
                self.cells[record] = Marker(cell.tickets, True)
            else:
                self.cells.pop(record, None)

    def owe(self, places: object, ticket: bytes | None = None) -> None:
        """Remember."""
        self.owed.append((_records(places), ticket))

    def _note(self, *what: object) -> None:
        self.log.append((self.name, *what))
        if self.down is not None:
            raise self.down


DOWN = CacheUnreachable("the dictionary is away")


def _record(snapshot: Snapshot) -> Record:
    plan = keys_of(snapshot.cls).identity
    native = snapshot.native(plan)
    assert native is not None
    return plan, native


def _records(places: object) -> frozenset[Record]:
    assert isinstance(places, frozenset)
    return places
