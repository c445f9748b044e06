"""What the parts of the coherence protocol offer one another."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from stockstore.keys import IndexPlan, Key, KeyPlan, ListLookup, Native, keys_of
from stockstore.keys.declared import identity_class

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

Record: TypeAlias = tuple[KeyPlan, Native]
"""Where an object stands: the key of its hierarchy's root, and its value; or a list of such, by its place beside them."""


class Portable(Protocol):
    """One object on its way between tiers."""

    @property
    def cls(self) -> type:
        """Its exact class."""

    @property
    def shared(self) -> bool:
        """Whether others may see it."""


S = TypeVar("S", bound=Portable)
S_co = TypeVar("S_co", bound=Portable, covariant=True)


class Writes:
    """What a transaction has written, as far as it is known: records one by one, or whole classes.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class User:
    ...     __keys__ = ["id"]
    ...     id: int
    >>> writes = Writes()
    >>> writes.add(User, {"id": 1})
    >>> [native for plan, native in writes.records]
    [1]
    """

    def __init__(self, tenant: str | None = None) -> None:
        """Start with nothing written.

        Args:
            tenant: Whose rows these are, where tenants have rows of their own.
        """
        self.tenant = tenant
        self.records: dict[Record, tuple[object, ...]] = {}
        """Each record with its key values, in the order of the plan's names."""
        self.lists: dict[Record, ListLookup] = {}
        """The lists that rows were added to or taken from: several writers may have to do with one of them at the same time."""
        self.placed: dict[tuple[Record, IndexPlan], tuple[object, ...] | None] = {}
        """Records with their values of an index, by which the program has them listed: the row itself, as the database has made it, may tell
        other ones. ``None`` where they have come into a list."""
        self.classes: dict[KeyPlan, type] = {}
        """Hierarchies of which any record may have changed, with their root classes."""
        self.roots: dict[KeyPlan, type] = {}
        """The root class of every plan above."""
        self.inserted: dict[KeyPlan, type] = {}
        """Hierarchies with new records of unknown keys: nothing in a cache is wrong by them, but the writer's own reads must not fill it."""
        self._tentative: set[tuple[KeyPlan, bool]] = set()

    def __bool__(self) -> bool:
        """Whether anything was written."""
        return bool(self.records or self.classes or self.lists)

    def add(self, cls: type, key: Key) -> None:
        """Note one record, by the identity of its hierarchy; for a mapped class the primary key."""
        lookup = keys_of(cls).lookup(key)
        self.records[lookup.plan, lookup.native] = lookup.values
        self.roots[lookup.plan] = identity_class(cls)

    def add_list(self, lookup: ListLookup) -> None:
        """Note that a row has come into a list, or has left it."""
        plan = keys_of(lookup.plan.owner).identity
        self.lists[plan, lookup.place] = lookup
        self.roots[plan] = identity_class(lookup.plan.owner)

    def add_class(self, cls: type) -> None:
        """Note that any record of a class's hierarchy may have changed."""
        plan = keys_of(cls).identity
        self.classes[plan] = self.roots[plan] = identity_class(cls)
        self._tentative.discard((plan, False))

    def add_inserted(self, cls: type) -> None:
        """Note that a class has new records whose keys are not known."""
        plan = keys_of(cls).identity
        self.inserted[plan] = identity_class(cls)
        self._tentative.discard((plan, True))

    def add_tentatively(self, cls: type, *, inserted: bool) -> None:
        """Do as :meth:`add_class` or :meth:`add_inserted`, until :meth:`drop_tentative` tells that the records are noted one by one."""
        plan = keys_of(cls).identity
        if plan not in (self.inserted if inserted else self.classes):
            (self.add_inserted if inserted else self.add_class)(cls)
            self._tentative.add((plan, inserted))

    def keep_tentative(self) -> None:
        """Take what was noted tentatively as certain."""
        self._tentative.clear()

    def drop_tentative(self) -> None:
        """Forget what was noted tentatively."""
        for plan, inserted in self._tentative:
            del (self.inserted if inserted else self.classes)[plan]
        self._tentative.clear()

    def update(self, other: "Writes") -> None:
        """Note all that another set has noted."""
        self.records.update(other.records)
        self.lists.update(other.lists)
        self.placed.update(other.placed)
        self.classes.update(other.classes)
        self.roots.update(other.roots)
        self.inserted.update(other.inserted)
        self._tentative -= {*((plan, False) for plan in other.classes), *((plan, True) for plan in other.inserted)}

    def wide_roots(self, *, tentative: bool) -> set[type]:
        """Give the root classes of which any record may be one of the writer's, with those noted tentatively or without."""
        wide = {(plan, False): cls for plan, cls in self.classes.items()} | {(plan, True): cls for plan, cls in self.inserted.items()}
        return {cls for place, cls in wide.items() if tentative or place not in self._tentative}

    def touches(self, record: Record) -> bool:
        """Whether a record may have changed."""
        return record in self.records or record in self.lists or record[0] in self.classes or record[0] in self.inserted

    def by_root(self) -> "Iterator[tuple[type, list[tuple[object, ...]]]]":
        """Give the root classes with the key values of their records, but those of whole classes."""
        groups: dict[KeyPlan, list[tuple[object, ...]]] = {}
        if len(self.roots) == 1 and self.records and not self.classes:
            groups = {plan: list(self.records.values()) for plan in self.roots}
        for (plan, _), values in () if groups else self.records.items():
            if plan not in self.classes:
                groups.setdefault(plan, []).append(values)
        return ((self.roots[plan], values) for plan, values in groups.items())


class Outcome(Enum):
    """How a transaction ended, as far as the writer knows."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"


class Answer(NamedTuple, Generic[S_co]):
    """What a tier has under a key.

    Attributes:
        snapshot: The object, if there is one that may be read.
        lease: What the tier wants back with the object that a lower tier gives; ``None``: it is not to be filled.
        marked: A writer is at work on it: no tier above may be filled either.
        silent: The tier did not answer, so that nobody knows whether a writer is at work on it.
    """

    snapshot: S_co | None
    lease: object | None = None
    marked: bool = False
    silent: bool = False


class Announcer(Protocol):
    """Tells the memory of other processes what was written, where no shared cache tells them."""

    def within(self, connection: "Connection", texts: Sequence[str], ticket: bytes) -> bool:
        """Tell it as a part of the writer's transaction, so that it is heard exactly if that commits; ``False`` where that cannot be."""

    def afterwards(self, texts: Sequence[str], ticket: bytes) -> None:
        """Tell it now; never raises for its server's sake."""


class Standing(NamedTuple):
    """What a tier can promise by itself: ``"strict"``, ``"bounded 1 s"``, ``"fast"`` or ``"weak"``, and why."""

    level: str
    reason: str


class Tier(Protocol[S]):
    """A cache above an origin, as the protocol sees it. Every step is a batch."""

    @property
    def remote(self) -> bool:
        """Whether its markers outlive the process, so that they need evidence by which others can resolve them."""

    @property
    def announcer(self) -> Announcer | None:
        """What tells the memory of other processes of the writes here; ``None`` where nobody needs to."""

    @property
    def carrier(self) -> object | None:
        """The tier itself, where a channel tells process memory above of all that is marked and invalidated in it."""

    def vouch(self, claim: object, carrier: object) -> None:
        """Note of a lease, or of the places of a write, that a carrier below was asked under it, or told of it."""

    def standing(self) -> Standing:
        """Tell what the tier promises; may ask its server."""

    def holds(self, cls: type) -> bool:
        """Whether it keeps objects of a class."""

    def readable(self, cls: type) -> bool:
        """Whether it may be asked for a class; not while it owes removals that it could not be told of."""

    def passed_by(self, cls: type, count: int) -> None:
        """Note reads that it was not asked for, as it was not readable."""

    def lease(self, cls: type, keys: Sequence[Key], *, session: "Session | None" = None) -> list[Answer[S]]:
        """Give what is there, and leases on what is not, in the positions of the keys."""

    def give_back(self, leases: Iterable[object]) -> None:
        """Know of leases that nothing will be filled under them; no I/O."""

    def fill(self, filled: Sequence[tuple[object, S]]) -> int:
        """Keep what a lower tier gave, where the lease still stands; give how many were kept. Never raises for its server's sake."""

    def locate(self, writes: Writes) -> object:
        """Give where writes stand in this tier, in the caller's namespace; no I/O."""

    def texts(self, places: object) -> list[str]:
        """Give places as key texts that another process can invalidate; none for process memory."""

    def told(self, places: object) -> list[str]:
        """Give places as the key texts by which an announcer names them."""

    def mark(self, places: object, ticket: bytes) -> None:
        """Put markers; raises CacheUnreachable."""

    def release(self, places: object, ticket: bytes, *, committed: bool, snapshots: Sequence[S] = ()) -> int | None:
        """Take markers away, and keep exactly what was committed; raises CacheUnreachable.

        Gives how many could be kept, where others were not for want of a generation; ``None``: all that nobody else wrote.
        """

    def invalidate(self, places: object) -> None:
        """Remove what stands at places; raises CacheUnreachable."""

    def owe(self, places: object, ticket: bytes | None = None) -> None:
        """Invalidate (and release) as soon as the server answers again; until then the tier is not read for these classes."""


class Evidence(Protocol):
    """How the fate of a writer's transaction is found out."""

    @property
    def needs_row(self) -> bool:
        """Whether a writer's ticket has to be in the outbox before it marks anything."""

    def ticket(self, connection: "Connection", transaction: str | None = None) -> bytes | None:
        """Name the open transaction of a connection, by the database's id of it if that is known; ``None`` where it has written nothing."""

    def ask(self, connection: "Connection", transaction: str | None = None) -> "Callable[[], bytes | None]":
        """Give what does as :meth:`ticket`, to be called before anything else is executed on the connection."""

    def statement_ticket(self, connection: "Connection") -> bytes | None:
        """Name the next statement of an AUTOCOMMIT connection; ``None`` where nothing can tell its end."""

    def knows(self, ticket: bytes) -> bool:
        """Whether a ticket is of this database, and of a form that is understood; no I/O."""

    def decided(self, tickets: Collection[bytes]) -> set[bytes]:
        """Give those tickets whose transactions have ended, either way, and those alone; asks on a connection of its own."""
