"""Markers on one memcached node: put, taken away, and made to leave nothing behind."""

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from stockstore.backends.coherent import Item
from stockstore.backends.generations import heads_of, token_keys
from stockstore.backends.memcache_connection import STATS, Connection
from stockstore.backends.memcache_exchange import Steps
from stockstore.backends.memcache_looks import Look, Seen, known_stamps, pack_marker, read_look, remember, stamp_of_marker
from stockstore.backends.memcache_puts import Ahead, write_steps
from stockstore.backends.memcache_texts import (
    AT_ONCE,
    MARKED,
    NEVER,
    TOO_LARGE,
    UNMARKED,
    attempts,
    complain,
    delete,
    expiry,
    gets,
    put,
    refusals,
    swap,
)
from stockstore.cells import ALIAS, GENERATION_SIZE, JOINED, LEASE, MARKER, SOLE, VALUE, generation_of, is_marker, tickets_of

_NO_VALUE = (LEASE, ALIAS, MARKER)
_NO_MARK = "the keys were deleted where that was possible, but not marked; give the server more memory (-m)"


class Change(NamedTuple):
    """What is to stand in place of what was seen."""

    wire: bytes
    expires: int
    flags: int


_GONE = Change(b"", AT_ONCE, UNMARKED)
_Decide: TypeAlias = Callable[[str, Seen], Change | None]


def mark_steps(
    connection: Connection, keys: Sequence[str], ticket: bytes, shared: Sequence[str], generations: Sequence[str], known: dict[str, bytes]
) -> Steps[dict[str, bytes]]:
    """Mark, and give the generations that stand unmarked after that, made where they were absent; one round trip, one more where cells are shared."""
    stamps = yield from known_stamps(connection, heads_of([*keys, *shared, *generations]), known)
    heads = heads_of(keys)
    marks = [_mark(pack_marker(SOLE, stamps[head], [ticket])) for head in heads]

    def join(key: str, seen: Seen) -> Change | None:
        tickets = tickets_of(seen.cell)
        if ticket in tickets:
            return None
        stamp = stamps[heads_of([key])[0]]
        return _mark(pack_marker(JOINED if tickets else SOLE, stamp, [*tickets, ticket]))

    beside = [key for key in generations if key not in shared]
    ahead = [put(b"set", key, mark.wire, NEVER, MARKED) for key, mark in zip(keys, marks, strict=True)]
    # Where one stands, that stays.
    made = [
        put(b"add", key, VALUE + stamps[head] + secrets.token_bytes(GENERATION_SIZE), NEVER)
        for key, head in zip(beside, heads_of(beside), strict=True)
    ]
    batch = Batch(shared, join, ahead=[*ahead, *made])
    batch.beside = beside
    yield from batch.steps(connection, known)
    refused = batch.refused | refusals(keys, batch.answers[: len(keys)])
    if refused:
        yield delete(refused)
        connection.lines(len(refused))
        complain(refused, _NO_MARK)
    return {key: token for key, seen in batch.first.seen(batch.beside) if (token := generation_of(seen.cell)) is not None}


def release_steps(
    connection: Connection,
    keys: Sequence[str],
    ticket: bytes,
    values: Sequence[Item] | None,
    aliases: Sequence[Item],
    known: dict[str, bytes],
) -> Steps[int]:
    """Take markers away, in two round trips.

    Args:
        connection: Where.
        keys: What was marked.
        ticket: Whose markers.
        values: What was committed, of some of the keys; ``None`` where nothing was.
        aliases: Whole cells to be put along.
        known: The tokens last seen on this node.
    """

    def replace(key: str, seen: Seen) -> Change | None:
        cell = seen.cell
        if not is_marker(cell):
            return _GONE if cell and values is not None else None
        tickets, stamp = tickets_of(cell), stamp_of_marker(seen.wire)
        if ticket not in tickets:
            return None
        if len(tickets) > 1:
            return _mark(pack_marker(JOINED, stamp, [other for other in tickets if other != ticket]))
        # Under the stamp of the mark nobody reads the value if there was a clear, or another life began, since then.
        value = batch.values.get(key) if cell.startswith(SOLE, 1) else None
        return _GONE if value is None else Change(VALUE + stamp + value[1], expiry(value[2]), UNMARKED)

    batch = Batch(keys, replace)
    batch.values = {item[0]: item for item in values or ()}
    batch.aliases = aliases
    yield from batch.steps(connection, known)
    complain(batch.refused, TOO_LARGE)
    return sum(map(is_marker, batch.replaced.values()))


def invalidate_steps(connection: Connection, keys: Sequence[str], known: dict[str, bytes]) -> Steps[int]:
    """Remove what is no marker, and see to it that no value follows a marker; two round trips."""

    def remove(_: str, seen: Seen) -> Change | None:
        if not is_marker(seen.cell):
            return _GONE if seen.cell else None
        joined = pack_marker(JOINED, stamp_of_marker(seen.wire), tickets_of(seen.cell))
        return _mark(joined) if seen.cell.startswith(SOLE, 1) else None

    batch = Batch(keys, remove)
    yield from batch.steps(connection, known)
    complain(batch.refused, TOO_LARGE)
    return sum(not cell.startswith(_NO_VALUE) for cell in batch.replaced.values())


def loss_steps(connection: Connection) -> Steps[str | None]:
    """Say why the server may lose markers, if it may."""
    yield STATS + b"stats settings\r\n"
    facts = connection.facts() | connection.facts()
    if facts.get(b"cas_enabled") == b"no":
        return "memcached runs without comparison (-C), so that it keeps no marker from being overwritten; start it without -C"
    if facts.get(b"evictions") == b"on":
        return "memcached evicts markers, too, when it is full; see to it that it never is, or start it with -M"
    if facts.get(b"memory_file") and facts.get(b"pid") == b"1":
        return "a memcached that restarts with its memory (-e) inside a container cannot be told from before; start it without -e"
    return None


class Batch:
    """Changes that depend on what stands there: a look, a ``cas`` of each, and again where others were faster.

    Args:
        keys: What may be changed.
        decide: Gives the change of a key, ``None`` for none.
        ahead: Writes to be sent before the first look.

    Attributes:
        beside: Keys that are only looked at.
        values: What is left of the values; one that the server refuses is taken out, and its key decided anew.
        aliases: Whole cells that are written with the first changes.
        answers: The answers to the writes ahead.
        first: What was seen at first.
        replaced: The keys that were changed, each with the cell that stood there before.
        refused: The keys that the server would not change, with its answers.
    """

    def __init__(self, keys: Sequence[str], decide: _Decide, ahead: Sequence[bytes] = ()) -> None:
        self.beside: Sequence[str] = ()
        self.values: dict[str, Item] = {}
        self.aliases: Sequence[Item] = ()
        self.answers: list[bytes] = []
        self.first = Look({}, {}, {})
        self.replaced: dict[str, bytes] = {}
        self.refused: dict[str, bytes] = {}
        self._open: Collection[str] = keys
        self._decide = decide
        self._ahead = ahead

    def steps(self, connection: Connection, known: dict[str, bytes]) -> Steps[None]:
        """Do all, in two round trips where nobody else is at work."""
        self.first = look = yield from self._look_steps(connection, known)
        for _ in attempts():
            seen = dict(look.seen(self._open))
            changes = {key: change for key, one in seen.items() if (change := self._decide(key, one)) is not None}
            swaps = [swap(key, seen[key].unique, *change) for key, change in changes.items()]
            if not swaps and not self.aliases:
                return
            written = yield from write_steps(connection, self.aliases, known, Ahead(b"".join(swaps), len(swaps)))
            self.aliases = ()
            self.refused |= written.refused
            self._open = self._sort(seen, list(changes), written.answers)
            if not self._open:
                return
            look = yield from self._look_steps(connection, known)

    def _look_steps(self, connection: Connection, known: dict[str, bytes]) -> Steps[Look]:
        keys = [*self._open, *self.beside]
        heads = heads_of(keys)
        tokens = token_keys(heads)
        yield b"".join(self._ahead) + (gets([*keys, *tokens]) if keys else b"")
        self.answers += connection.lines(len(self._ahead))
        self._ahead = ()
        if not keys:
            return self.first
        look = read_look(connection, heads)
        remember(known, tokens, look.wires)
        return look

    def _sort(self, seen: Mapping[str, Seen], keys: Sequence[str], answers: Sequence[bytes]) -> list[str]:
        """Note what was done, and give the keys that are to be decided anew."""
        refused = refusals(keys, answers)
        self.refused |= refused
        done = [key for key, answer in zip(keys, answers, strict=True) if answer == b"STORED"]
        self.replaced |= {key: seen[key].cell for key in done}
        gone = {*done, *(key for key in refused if self.values.pop(key, None) is None)}
        return [key for key in keys if key not in gone]


def _mark(wire: bytes) -> Change:
    return Change(wire, NEVER, MARKED)
