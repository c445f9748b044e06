"""Puts on one memcached node, and clears."""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

from pymemcache.exceptions import MemcacheUnknownError

from stockstore.backends.coherent import Item
from stockstore.backends.generations import fresh_token, heads_of, stamps_of, token_key, token_keys
from stockstore.backends.memcache_connection import Connection
from stockstore.backends.memcache_exchange import Steps
from stockstore.backends.memcache_looks import RAW, known_stamps, remember
from stockstore.backends.memcache_texts import (
    MARKED,
    NEVER,
    NOOP,
    NOOP_ANSWER,
    TOO_LARGE,
    UNMARKED,
    attempts,
    complain,
    delete,
    expiry,
    failures,
    get,
    glance,
    put,
    quiet_swaps,
    refusals,
    remove,
)
from stockstore.cells import VALUE

_ABSENT = b"EN"
_PRESENT = b"HD f%d c" % UNMARKED
_MARKER = b"HD f%d c" % MARKED


class Written(NamedTuple):
    """What became of a batch of writes.

    Attributes:
        answers: The answers to the writes that went ahead.
        refused: The keys of the others that the server would not keep, with its answers.
        stamps: The stamps, after the writes, of the heads asked for.
    """

    answers: list[bytes]
    refused: dict[str, bytes]
    stamps: dict[str, bytes]


def set_steps(connection: Connection, items: Sequence[Item], known: dict[str, bytes]) -> Steps[None]:
    """Put whole cells, whatever stands there; one round trip."""
    refused = (yield from write_steps(connection, items, known)).refused
    if refused:
        yield delete(refused)
        refusals(list(refused), connection.lines(len(refused)))
        complain(refused, TOO_LARGE)


def write_steps(
    connection: Connection,
    items: Sequence[Item],
    known: dict[str, bytes],
    ahead: Sequence[bytes] = (),
    heads_ahead: Sequence[str] = (),
    *,
    quiet: bool = False,
) -> Steps[Written]:
    """Put whole cells, along with other writes that go ahead of them, which may be quiet ones.

    What is written with known tokens is followed, in the same request, by a look at them. Where they differ, the
    cells just written are unreadable for good, since tokens are never used again, and are written anew.
    """
    keys = [key for key, _, _ in items]
    heads = heads_of(keys)
    own, tokens = token_keys(heads), token_keys([*heads, *heads_ahead])
    answers: list[bytes] = []
    for _ in attempts():
        stamps = yield from known_stamps(connection, heads, known)
        yield b"".join(ahead) + (NOOP if quiet else b"") + _sets(items, heads, stamps) + (get(tokens) if tokens else b"")
        answers += connection.lines_before(NOOP_ANSWER) if quiet else connection.lines(len(ahead))
        refused = refusals(keys, connection.lines(len(keys)))
        found = connection.values() if tokens else {}
        remember(known, own, found)
        if stamps_of(heads, found, connection.life) == stamps:
            break
        ahead = ()
    return Written(answers, refused, stamps_of(heads_ahead, found, connection.life))


def put_steps(connection: Connection, items: Sequence[Item], aliases: Sequence[Item], known: dict[str, bytes]) -> Steps[None]:
    """Put values where no marker stands, and aliases anywhere, in two round trips.

    The server knows no conditions but those of ``add`` and ``cas``, so a glance has to tell first what is there.
    """
    values = {item[0]: item for item in items}
    rejected: dict[str, bytes] = {}
    for _ in attempts():
        uniques, stamps = yield from _glance_steps(connection, list(values), known)
        written = yield from write_steps(connection, aliases, known, [_swaps(values, uniques, stamps)], quiet=True)
        aliases, rejected = (), rejected | written.refused
        changed, refusal = failures(written.answers)
        if refusal:
            rejected |= yield from _refused_steps(connection, {key: uniques[key] for key in uniques if key not in changed}, refusal)
        values = {key: values[key] for key in changed}
        if not values:
            break
    complain(rejected, TOO_LARGE)


def _refused_steps(connection: Connection, uniques: Mapping[str, bytes], refusal: bytes) -> Steps[dict[str, bytes]]:
    """Remove what stands as it was before a quiet store, of which some were refused, and give what is absent now, with the server's answer."""
    removals = [remove(key, unique) for key, unique in uniques.items() if unique]
    yield b"".join(removals) + glance(uniques)
    connection.lines(len(removals))
    found = _uniques(list(uniques), connection.lines(len(uniques)))
    return {key: refusal for key, unique in found.items() if not unique}


def clear_steps(connection: Connection, prefix: str, known: dict[str, bytes]) -> Steps[None]:
    """Make every cell under a prefix unreadable, but markers."""
    key = token_key(prefix)
    known[key] = token = fresh_token()
    yield put(b"set", key, token, NEVER)
    complain(refusals([key], connection.lines(1)), "nothing was cleared; give it more memory (-m)")


def _glance_steps(connection: Connection, keys: Sequence[str], known: dict[str, bytes]) -> Steps[tuple[dict[str, bytes], dict[str, bytes]]]:
    """Give what a ``cas`` of each key has to name, nothing for absent, but of markers; and the stamps."""
    heads = heads_of(keys)
    tokens = token_keys(heads)
    for _ in attempts():
        yield from known_stamps(connection, heads, known)
        yield glance(keys) + get(tokens)
        lines = connection.lines(len(keys))
        found = connection.values()
        if remember(known, tokens, found):
            break
    return _uniques(keys, lines), stamps_of(heads, found, connection.life)


def _uniques(keys: Sequence[str], lines: Sequence[bytes]) -> dict[str, bytes]:
    skip = len(_PRESENT)
    uniques: dict[str, bytes] = {}
    for key, line in zip(keys, lines, strict=True):
        if line.startswith(_PRESENT):
            uniques[key] = line[skip:]
        elif line == _ABSENT:
            uniques[key] = b""
        elif not line.startswith(_MARKER):
            raise MemcacheUnknownError(f"it answered {line[:80]!r} to a meta get; memcached 1.6.10 or later is needed")
    return uniques


def _swaps(values: Mapping[str, Item], uniques: Mapping[str, bytes], stamps: Mapping[str, bytes]) -> bytes:
    items = [values[key] for key in uniques]
    begins = {head: VALUE + stamp for head, stamp in stamps.items()}
    # A batch is mostly of one class.
    each = repeat(begins.popitem()[1]) if len(begins) == 1 else [begins[head] for head in heads_of(uniques)]
    return quiet_swaps(zip(items, uniques.values(), each))  # noqa: B905 - one for all


def _sets(items: Sequence[Item], heads: Sequence[str], stamps: Mapping[str, bytes]) -> bytes:
    expiries = {lifetime: expiry(lifetime) for lifetime in {item[2] for item in items}}
    begins = {head: RAW + stamp for head, stamp in stamps.items()}
    sets = [put(b"set", key, begins[head] + cell, expiries[lifetime]) for (key, cell, lifetime), head in zip(items, heads, strict=True)]
    return b"".join(sets)
