"""Markers and leases that are kept in this process: the states of the protocol, in dictionaries."""

import os
import time
from collections.abc import Container, Iterable, Sequence
from itertools import repeat
from typing import Final, NamedTuple, TypeAlias

from stockstore.keys import KeyPlan, Native

Space: TypeAlias = tuple[str, KeyPlan]
"""A class in a namespace."""

LEASE_SECONDS: Final = 10.0
LEASES: Final = 10_000
"""Leases kept at the most; the oldest goes first, and its fill is refused."""

_now = time.monotonic


class Lease:
    """A reader's right to fill one place, or several, each until somebody else has to do with it.

    Attributes:
        key: The place in its space, the first one of several.
        since: On the monotonic clock.
        voucher: The shared cache that was asked under it, whose channel tells of what is written from then on.
    """

    __slots__ = ("key", "since", "space", "voucher")

    def __init__(self, space: Space, key: Native, since: float) -> None:
        """Begin at a moment."""
        self.space = space
        self.key = key
        self.since = since
        self.voucher: object = None


class Released(NamedTuple):
    """What a release found.

    Attributes:
        held: Whether the marker stood there.
        since: Since when, if it was the only one all the while: then a value may follow, which was true at that moment.
    """

    held: bool
    since: float | None


class _Mark:
    __slots__ = ("joined", "since", "tickets")

    def __init__(self, ticket: bytes) -> None:
        self.tickets = {ticket}
        self.joined = False
        self.since = _now()


class _All:
    """Contains everything."""

    def __contains__(self, _key: object) -> bool:
        return True


_ALL: Final = _All()


class Claims:
    """Who is at work on which place: a space, and a key in it.

    Nothing is locked here: each step is taken under a lock of the caller's, one at a time. A forked process starts with
    none, as the transactions and readers of its parent are not in it.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._marks: dict[Space, dict[Native, _Mark]] = {}
        self._wide: dict[Space, set[bytes]] = {}
        self._leases: dict[tuple[Space, Native], Lease] = {}

    def _here(self) -> None:
        if self._pid != os.getpid():
            self._forget()

    # -- readers --------------------------------------------------------------------------------

    def marked(self, space: Space, key: Native) -> bool:
        """Whether a writer is at work on a place."""
        return key in self._held(space)

    def _held(self, space: Space) -> Container[Native]:
        """Give the places of a space that writers are at work on."""
        self._here()
        return _ALL if space in self._wide else self._marks.get(space, ())

    def wide(self, space: Space) -> bool:
        """Whether a writer is at work on any place of a space."""
        self._here()
        return space in self._wide

    def lease(self, space: Space, key: Native) -> Lease | None:
        """Grant the one lease of a place, unless a writer is at work on it, or another reader has it."""
        return self.lease_many(space, [key])[0]

    def lease_many(self, space: Space, keys: Sequence[Native]) -> list[Lease | None]:
        """Do as :meth:`lease` with places of a space."""
        held, now = self._held(space), _now()
        return [None if key in held else self._granted(space, key, now) for key in keys]

    def _granted(self, space: Space, key: Native, now: float) -> Lease | None:
        place = space, key
        other = self._leases.pop(place, None)
        lease = Lease(space, key, now) if other is None or other.since + LEASE_SECONDS <= now else other
        self._leases[place] = lease
        self._bound()
        return None if lease is other else lease

    def _bound(self) -> None:
        while len(self._leases) > LEASES:
            del self._leases[next(iter(self._leases))]

    def lease_together(self, space: Space, keys: Sequence[Native]) -> Lease | None:
        """Grant one lease on several places, unless a writer is at work on one of them, or a reader has it."""
        held, places = self._held(space), list(zip(repeat(space), keys))
        if any([key in held for key in keys]) or not self._leases.keys().isdisjoint(places):  # noqa: C419 - twice as fast as a generator
            return None
        lease = Lease(space, keys[0], _now())
        self._leases.update(dict.fromkeys(places, lease))
        self._bound()
        return lease

    def spend(self, lease: Lease, keys: Iterable[Native]) -> list[Native]:
        """End a lease on several places, and give those of them that it still allows to be filled."""
        self._here()
        stood = [place for place in zip(repeat(lease.space), keys) if self._leases.get(place) is lease]
        for place in stood:
            del self._leases[place]
        return [key for _, key in stood]

    def stands(self, lease: Lease) -> bool:
        """Whether a lease still allows a fill."""
        return bool(self.standing([lease]))

    def standing(self, leases: Sequence[Lease]) -> set[Lease]:
        """Give those that still allow a fill."""
        self._here()
        return {lease for lease in leases if self._leases.get((lease.space, lease.key)) is lease}

    def drop_lease(self, space: Space, key: Native) -> None:
        """Take a place's lease from its reader, whoever that is."""
        self._leases.pop((space, key), None)

    # -- writers --------------------------------------------------------------------------------

    def mark(self, space: Space, key: Native, ticket: bytes) -> None:
        """Put a writer's marker on a place."""
        self._here()
        marks = self._marks.setdefault(space, {})
        mark = marks.setdefault(key, _Mark(ticket))
        mark.tickets.add(ticket)
        if mark.tickets != {ticket} or self._others(space, ticket):
            mark.joined = True
        self.drop_lease(space, key)

    def mark_all(self, space: Space, ticket: bytes) -> None:
        """Put a writer's marker on a whole space."""
        self._here()
        self._wide.setdefault(space, set()).add(ticket)
        for mark in self._marks.get(space, {}).values():
            if mark.tickets != {ticket}:
                mark.joined = True
        self._drop_leases(space)

    def release(self, space: Space, key: Native, ticket: bytes) -> Released:
        """Take a writer's marker from a place."""
        self._here()
        mark = self._marks.get(space, {}).get(key)
        if mark is None or ticket not in mark.tickets:
            return Released(held=False, since=None)
        since = self._since(space, mark, ticket)
        mark.tickets.discard(ticket)
        if not mark.tickets:
            self._unmark(space, key)
        return Released(held=True, since=since)

    def sole(self, space: Space, key: Native, ticket: bytes) -> bool:
        """Whether a writer's marker has been the only one of a place all the while."""
        self._here()
        mark = self._marks.get(space, {}).get(key)
        return mark is not None and self._since(space, mark, ticket) is not None

    def _since(self, space: Space, mark: _Mark, ticket: bytes) -> float | None:
        sole = mark.tickets == {ticket} and not mark.joined and not self._others(space, ticket)
        return mark.since if sole else None

    def _others(self, space: Space, ticket: bytes) -> bool:
        wide = self._wide.get(space)
        return wide is not None and wide != {ticket}

    def _unmark(self, space: Space, key: Native) -> None:
        marks = self._marks[space]
        del marks[key]
        if not marks:
            del self._marks[space]

    def release_all(self, space: Space, ticket: bytes) -> bool:
        """Take a writer's marker from a whole space, and say whether it stood there."""
        self._here()
        tickets = self._wide.get(space, set())
        held = ticket in tickets
        tickets.discard(ticket)
        if held and not tickets:
            del self._wide[space]
        return held

    # -- invalidation ---------------------------------------------------------------------------

    def invalidate(self, space: Space, key: Native) -> None:
        """Let nobody's lease be filled and no value follow a marker; the marker stays."""
        self._here()
        self.drop_lease(space, key)
        mark = self._marks.get(space, {}).get(key)
        if mark is not None:
            mark.joined = True

    def invalidate_many(self, space: Space, keys: Sequence[Native]) -> None:
        """Do as :meth:`invalidate` with places of a space."""
        self._here()
        if self._leases:
            for key in keys:
                self.drop_lease(space, key)
        marks = self._marks.get(space)
        for mark in map(marks.get, keys) if marks else ():
            if mark is not None:
                mark.joined = True

    def invalidate_all(self, space: Space) -> None:
        """As :meth:`invalidate`, for all of a space."""
        self._here()
        self._drop_leases(space)
        for mark in self._marks.get(space, {}).values():
            mark.joined = True

    def spaces(self) -> set[Space]:
        """Give the spaces that anybody is at work on."""
        return {*self._marks, *self._wide, *(space for space, _ in self._leases)}

    def _drop_leases(self, space: Space) -> None:
        for place in [place for place in self._leases if place[0] == space]:
            del self._leases[place]
