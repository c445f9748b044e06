"""Leases and fills on one memcached node."""

import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stockstore.backends.coherent import LEASE_SECONDS, Item
from stockstore.backends.generations import heads_of, token_keys
from stockstore.backends.memcache_connection import Connection
from stockstore.backends.memcache_exchange import Steps
from stockstore.backends.memcache_looks import Look, known_stamps, read_look, remember
from stockstore.backends.memcache_puts import Ahead, write_steps
from stockstore.backends.memcache_texts import NEVER, TOO_LARGE, complain, expiry, gets, refusals, remove, swap
from stockstore.cells import GENERATION_SIZE, LEASE, MARKER, VALUE

_ROUNDS = 3  # a key that changed as often is another's
_NEVER_REPLACED = (LEASE, MARKER)


class Grant(NamedTuple):
    """A lease: the stamp it carries, and what a ``cas`` of it has to name."""

    stamp: bytes
    unique: bytes


class Held(NamedTuple):
    """The leases of one call on one node: on the same connection they need no second look."""

    connection: Connection
    grants: dict[str, Grant]


class Leases:
    """What a call for leases wants, and has found so far, on one node."""

    def __init__(self, seen: Mapping[str, bytes | None], token: bytes, generation: str) -> None:
        self.cells: dict[str, bytes] = {}
        self.grants: dict[str, Grant] = {}
        self.generation: bytes | None = None
        self.open: dict[str, bytes] = dict.fromkeys([*seen, generation] if generation else seen, b"")
        self._seen, self._token, self._key = seen, token, generation
        self._made = secrets.token_bytes(GENERATION_SIZE)

    def request(self, stamps: Mapping[str, bytes]) -> bytes:
        """Ask to put what is wanted where nothing is, or what was looked at before."""
        self._wanted = {
            key: VALUE + stamps[head] + self._made if key == self._key else LEASE + stamps[head] + self._token
            for key, head in zip(self.open, heads_of(self.open), strict=True)
        }
        return b"".join(
            [swap(key, unique, self._wanted[key], NEVER if key == self._key else LEASE_SECONDS) for key, unique in self.open.items()]
        )

    def sort(self, look: Look) -> None:
        """Tell what was granted, and what is to be replaced yet."""
        keys, self.open = list(self.open), {}
        for key, seen in look.seen(keys):
            if not seen.cell or self._is_unusable(key, seen.cell):
                self.open[key] = seen.unique
            elif key == self._key:
                self.generation = seen.cell
            elif seen.cell == self._wanted[key]:
                self.grants[key] = Grant(seen.stamp, seen.unique)
            else:
                self.cells[key] = seen.cell

    def _is_unusable(self, key: str, cell: bytes) -> bool:
        return cell == self._seen.get(key) and not cell.startswith(_NEVER_REPLACED)


def lease_steps(connection: Connection, leases: Leases, known: dict[str, bytes]) -> Steps[Held]:
    """Take leases, and read or make a generation; one round trip, one more for what was seen or is of an earlier life."""
    for _ in range(_ROUNDS):
        heads = heads_of(leases.open)
        tokens = token_keys(heads)
        stamps = yield from known_stamps(connection, heads, known)
        keys = list(leases.open)
        yield leases.request(stamps) + gets([*keys, *tokens])
        refusals(keys, connection.lines(len(keys)))
        look = read_look(connection, heads)
        remember(known, tokens, look.wires)
        leases.sort(look)
        if not leases.open:
            break
    return Held(connection, leases.grants)


def fill_steps(
    connection: Connection, items: Sequence[Item], token: bytes, aliases: Sequence[Item], held: Held | None, known: dict[str, bytes]
) -> Steps[int]:
    """Put values in place of leases, by one round trip on the connection that took them, by two on another."""
    if held is not None and held.connection is connection:
        grants = held.grants
    else:
        grants = yield from _find_grants(connection, list(dict.fromkeys(key for key, _, _ in items)), token)
    granted = [item for item in items if item[0] in grants]
    keys = [key for key, _, _ in granted]
    heads = heads_of(keys)
    swaps = [swap(key, grants[key].unique, VALUE + grants[key].stamp + body, expiry(lifetime)) for key, body, lifetime in granted]
    written = yield from write_steps(connection, aliases, known, Ahead(b"".join(swaps), len(swaps)), heads)
    complain(written.refused | refusals(keys, written.answers), TOO_LARGE)
    done = [(key, head) for key, head, answer in zip(keys, heads, written.answers, strict=True) if answer == b"STORED"]
    return sum(written.stamps.get(head) == grants[key].stamp for key, head in done)  # the others were cleared since


def withdraw_steps(connection: Connection, keys: Sequence[str], token: bytes) -> Steps[None]:
    """Give leases back."""
    grants = yield from _find_grants(connection, keys, token)
    yield b"".join([remove(key, grant.unique) for key, grant in grants.items()])
    connection.lines(len(grants))


def _find_grants(connection: Connection, keys: Sequence[str], token: bytes) -> Steps[dict[str, Grant]]:
    # The token is the caller's alone: where it stands the lease does, and is still that of the lease's moment.
    if not keys:
        return {}
    heads = heads_of(keys)
    yield gets([*keys, *token_keys(heads)])
    seen = read_look(connection, heads).seen(keys)
    return {key: Grant(one.stamp, one.unique) for key, one in seen if one.cell == LEASE + one.stamp + token}
