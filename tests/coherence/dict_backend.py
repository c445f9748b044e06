"""The states of the protocol in one dictionary under a lock: a second implementation beside those on servers."""

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence

from stockstore.backends.coherent import CoherentBackend, Item, Leased
from stockstore.cells import (
    ALIAS,
    GENERATION_SIZE,
    JOINED,
    LEASE,
    MARKER,
    NO_GENERATION,
    NO_ID,
    SOLE,
    UNCOMPARED,
    VALUE,
    generation_of,
    is_marker,
    tickets_of,
)
from stockstore.errors import CacheUnreachable


class DictBackend(CoherentBackend):
    """Forgets nothing by itself.

    Attributes:
        cells: What stands where; tests look at it, and evict from it.
        down: Whether every step fails.
        calls: The steps that were asked for, by name.
        before: Called before each step with its name, outside the lock.
    """

    def __init__(self) -> None:
        self.cells: dict[str, bytes] = {}
        self.down = False
        self.calls: list[str] = []
        self.before: Callable[[str], object] = lambda step: None
        self._lock = threading.RLock()

    def _asked(self, step: str) -> None:
        self.calls.append(step)
        self.before(step)
        if self.down:
            raise CacheUnreachable(f"the dictionary is out of reach for {step}")

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give what is there."""
        self._asked("get")
        with self._lock:
            return {key: self.cells[key] for key in keys if key in self.cells}

    def follow_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give what is there, values in place of the aliases that point to them."""
        self._asked("follow")
        with self._lock:
            return {key: self._followed(self.cells[key]) for key in keys if key in self.cells}

    def _followed(self, cell: bytes) -> bytes:
        found = self.cells.get(cell[1:].decode(errors="replace"), b"") if cell.startswith(ALIAS) else b""
        return found if found.startswith(VALUE) else cell

    def lease_many(self, seen: Mapping[str, bytes | None], token: bytes, generation: str) -> Leased:
        """Lease what is absent, or what the caller saw."""
        self._asked("lease")
        with self._lock:
            if generation:
                self.cells.setdefault(generation, UNCOMPARED + secrets.token_bytes(GENERATION_SIZE))
            current = generation_of(self.cells.get(generation)) if generation else NO_GENERATION
            granted = {key for key, cell in seen.items() if current is not None and self._free(key, cell)}
            self.cells.update(dict.fromkeys(granted, LEASE + NO_ID + token))
            return Leased({key: self.cells[key] for key in seen if key in self.cells and key not in granted}, frozenset(granted), current)

    def _free(self, key: str, seen: bytes | None) -> bool:
        cell = self.cells.get(key)
        return cell is None or (cell == seen and not cell.startswith((LEASE, MARKER)))

    def fill_many(self, items: Sequence[Item], token: bytes, aliases: Sequence[Item] = ()) -> int:
        """Put values where the lease stands."""
        self._asked("fill")
        with self._lock:
            mine = {key: UNCOMPARED + body for key, body, _ in items if self.cells.get(key) == LEASE + NO_ID + token}
            self.cells.update(mine)
            self._point(aliases)
            return len(mine)

    def _point(self, aliases: Sequence[Item]) -> None:
        self.cells.update({key: cell for key, cell, _ in aliases})

    def put_many(self, items: Sequence[Item], aliases: Sequence[Item] = ()) -> None:
        """Put values where no marker stands."""
        self._asked("put")
        with self._lock:
            self.cells.update({key: UNCOMPARED + body for key, body, _ in items if not is_marker(self.cells.get(key))})
            self._point(aliases)

    def mark_many(
        self, keys: Sequence[str], ticket: bytes, shared: Sequence[str] = (), generations: Sequence[str] = ()
    ) -> dict[str, bytes]:
        """Put markers, joining those that stand."""
        self._asked("mark")
        with self._lock:
            for key in (*keys, *shared):
                cell = self.cells.get(key, b"")
                others = [other for other in tickets_of(cell) if other != ticket]
                kind = JOINED if others or cell.startswith(MARKER + JOINED) else SOLE
                self.cells[key] = MARKER + kind + b"|".join([*others, ticket])
            for key in generations:
                self.cells.setdefault(key, UNCOMPARED + secrets.token_bytes(GENERATION_SIZE))
            tokens = {key: generation_of(self.cells[key]) for key in generations}
            return {key: token for key, token in tokens.items() if token is not None}

    def release_many(
        self,
        keys: Sequence[str],
        ticket: bytes,
        *,
        committed: bool,
        values: Sequence[Item] = (),
        aliases: Sequence[Item] = (),
        renews: bool = True,
    ) -> int:
        """Take markers, and put values where they were alone."""
        self._asked("release")
        with self._lock:
            bodies = {key: body for key, body, _ in values}
            self._point(aliases)
            return sum(self._release(key, ticket, bodies.get(key) if committed else None, committed=committed) for key in keys)

    def _release(self, key: str, ticket: bytes, body: bytes | None, *, committed: bool) -> bool:
        cell = self.cells.get(key, b"")
        tickets = tickets_of(cell)
        if ticket not in tickets:
            if committed and not is_marker(cell):
                self.cells.pop(key, None)
            return False
        rest = [other for other in tickets if other != ticket]
        if rest:
            self.cells[key] = MARKER + JOINED + b"|".join(rest)
        elif body is not None and cell.startswith(MARKER + SOLE):
            self.cells[key] = UNCOMPARED + body
        else:
            del self.cells[key]
        return True

    def invalidate_many(self, keys: Sequence[str]) -> int:
        """Remove all but markers, which no value will follow."""
        self._asked("invalidate")
        with self._lock:
            return sum(self._invalidate(key) for key in keys)

    def _invalidate(self, key: str) -> bool:
        cell = self.cells.get(key, b"")
        if is_marker(cell):
            self.cells[key] = MARKER + JOINED + cell[2:]
            return False
        self.cells.pop(key, None)
        return cell.startswith(VALUE)

    def clear(self, prefix: str) -> None:
        """Invalidate what starts so."""
        self.invalidate_many([key for key in self.cells if key.startswith(prefix)])

    def close(self) -> None:
        """Do nothing."""
