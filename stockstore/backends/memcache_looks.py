"""How cells lie on a memcached server, and what is read of them.

``V`` and ``L`` have their server id, which is the class's stamp (see ``generations``), where it belongs. A
marker carries, behind its two tags, the stamp as of its mark, and any other cell is an ``R``, the stamp, and
the cell itself; neither is shown to anyone.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import methodcaller
from typing import NamedTuple

from pymemcache.exceptions import MemcacheServerError

from stockstore.backends.generations import fresh_token, heads_of, stamps_of, token_keys
from stockstore.backends.memcache_connection import Connection
from stockstore.backends.memcache_exchange import Steps
from stockstore.backends.memcache_lives import Lives
from stockstore.backends.memcache_texts import NEVER, get, gets, put, refusals
from stockstore.cells import BODY_AT, ID_SIZE, LEASE, MARKER, VALUE

RAW = b"R"
_IN_PLACE = (VALUE, LEASE)
_REST_AT = 2 + ID_SIZE
_MANY_TOKENS = 10_000
_FEW = 10  # what is read to be changed and put; of a larger batch the numbers take a tenth of the time


def pack_marker(kind: bytes, stamp: bytes, tickets: Iterable[bytes]) -> bytes:
    """Give what lies there for a marker."""
    return MARKER + kind + stamp + b"|".join(tickets)


def stamp_of_marker(wire: bytes) -> bytes:
    """Give the stamp of the class as it was when a marker was put."""
    return wire[2:_REST_AT]


def cell_of(wire: bytes, stamp: bytes) -> bytes | None:
    """Give the cell that lies there under the stamp of the moment; a marker is one whatever its stamp."""
    if wire.startswith(MARKER):
        return wire[:2] + wire[_REST_AT:]
    if not stamp or not wire.startswith(stamp, 1):
        return None
    return wire if wire.startswith(_IN_PLACE) else wire[BODY_AT:] if wire.startswith(RAW) else None


class Seen(NamedTuple):
    """What is under one key.

    Attributes:
        wire: What lies there, empty for nothing.
        cell: What that is at the moment, empty for absent.
        stamp: The stamp of the key's class, empty where there is none.
        unique: What a ``cas`` has to name, empty for nothing.
    """

    wire: bytes
    cell: bytes
    stamp: bytes
    unique: bytes


class Look(NamedTuple):
    """What was seen at one moment: what lies under the keys, what a ``cas`` of each has to name, and each head's stamp."""

    wires: dict[str, bytes]
    uniques: dict[str, bytes]
    stamps: dict[str, bytes]

    def seen(self, keys: Collection[str]) -> Iterator[tuple[str, Seen]]:
        """Give what is under some keys."""
        for key, head in zip(keys, heads_of(keys), strict=True):
            wire, stamp = self.wires.get(key, b""), self.stamps.get(head, b"")
            yield key, Seen(wire, cell_of(wire, stamp) or b"", stamp, self.uniques.get(key, b""))


def read_look(connection: Connection, heads: Iterable[str]) -> Look:
    """Read the answer to one ``gets`` that asked for the tokens of these heads, too."""
    wires, uniques = connection.unique_values()
    return Look(wires, uniques, stamps_of(heads, wires, connection.life))


def get_steps(connection: Connection, keys: Sequence[str], known: dict[str, bytes], lives: Lives) -> Steps[dict[str, bytes]]:
    """Read cells together with the tokens that tell whether they are present; of a few, where this process puts, keep in mind what a put has to name."""
    heads = heads_of(keys)
    tokens = token_keys(heads)
    life = lives.get(connection.life) if len(keys) <= _FEW else None
    if life is None:
        yield get([*keys, *tokens])
        found = connection.values()
    else:
        yield gets([*keys, *tokens])
        found, uniques = connection.unique_values()
        life.note_all(found, uniques)
        # Else a put could replace what is readable by what is not, before it finds that out.
        remember(known, tokens, found)
    stamps = stamps_of(heads, found, connection.life)
    for token in tokens:
        found.pop(token, None)
    if len(set(heads)) == len(stamps) == 1:
        value = VALUE + stamps[heads[0]]
        if all(map(methodcaller("startswith", value), found.values())):
            return found
    cells = {key: cell_of(found[key], stamps.get(head, b"")) for key, head in zip(keys, heads, strict=True) if key in found}
    return {key: cell for key, cell in cells.items() if cell is not None}


def known_stamps(connection: Connection, heads: Sequence[str], known: dict[str, bytes]) -> Steps[dict[str, bytes]]:
    """Give stamps by the tokens last seen on this node; where one was never seen, or is gone, read or make it."""
    keys = token_keys(heads)
    tokens = {key: known.get(key, b"") for key in keys}  # other threads change what is known
    if not all(tokens.values()):
        # Only a fresh token may be added: one seen before may have been cleared since.
        yield b"".join([put(b"add", key, fresh_token(), NEVER) for key in keys]) + get(keys)
        refusals(keys, connection.lines(len(keys)))
        tokens = connection.values()
        if not remember(known, keys, tokens) or not all(tokens.values()):
            raise MemcacheServerError("it does not keep even a few bytes; give it more memory (-m)")
    return stamps_of(heads, tokens, connection.life)


def remember(known: dict[str, bytes], keys: Iterable[str], found: dict[str, bytes]) -> bool:
    """Note the tokens as they are now, and tell whether all are there."""
    if len(known) > _MANY_TOKENS:
        known.clear()
    missing = [key for key in keys if key not in found]
    known.update({key: found[key] for key in keys if key in found})
    for key in missing:
        known.pop(key, None)
    return not missing
