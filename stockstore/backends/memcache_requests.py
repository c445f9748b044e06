"""The batches of one memcached node: each step yields a request, and is resumed to read its answer."""

import math
import time
from collections.abc import Container, Generator, Mapping, Sequence
from typing import TypeAlias, TypeVar

from pymemcache.exceptions import MemcacheServerError, MemcacheUnknownError

from stockstore.backends.generations import all_cells, fresh_token, heads_of, live_values, stamps_of
from stockstore.backends.memcache_connection import Connection

_Result = TypeVar("_Result")
Steps: TypeAlias = Generator[bytes, None, _Result]
Item: TypeAlias = tuple[str, bytes, int]

_RELATIVE_LIMIT = 30 * 24 * 60 * 60  # a longer lifetime is read as a Unix time
_LAST_MOMENT = 2**31 - 1  # and a later time as one long past
_MANY_TOKENS = 10_000
_DELETED = frozenset({b"DELETED", b"NOT_FOUND"})


def get_steps(connection: Connection, keys: Sequence[str]) -> Steps[dict[str, bytes]]:
    """Read values together with the tokens that they must carry."""
    heads = heads_of(keys)
    yield _get([*keys, *all_cells(heads)])
    return live_values(keys, heads, connection.values())


def delete_steps(connection: Connection, keys: Sequence[str]) -> Steps[int]:
    """Drop values and count those that could still be read."""
    heads = heads_of(keys)
    yield _get([*keys, *all_cells(heads)]) + _delete(keys)
    live = live_values(keys, heads, connection.values())
    answers = _checked(connection.lines(len(keys)), _DELETED)
    return sum(answer == b"DELETED" and key in live for key, answer in zip(keys, answers, strict=True))


def set_steps(connection: Connection, items: Sequence[Item], known: dict[str, bytes]) -> Steps[None]:
    """Write values; ``known`` are the tokens last seen on this node.

    A write with known tokens is followed, in the same request, by a look at the cells. Where they differ, the
    values just written are unreadable for good, since tokens are never used again, and are written anew.
    """
    heads = heads_of([key for key, _, _ in items])
    refused = yield from _set_with_known(connection, items, heads, known)
    if refused is None:
        tokens = yield from _read_or_make_cells(connection, heads)
        _remember(known, tokens)
        yield _set(items, heads, tokens)
        refused = _refused(connection, items)
    if refused:
        yield from _drop_and_complain(connection, items, refused)


def clear_steps(connection: Connection, prefix: str, known: dict[str, bytes]) -> Steps[None]:
    """Make every value under a prefix unreadable."""
    known[prefix] = token = fresh_token()
    yield _cell(b"set", prefix, token)
    _checked(connection.lines(1), {b"STORED"})


def _set_with_known(
    connection: Connection, items: Sequence[Item], heads: Sequence[str], known: dict[str, bytes]
) -> Steps[dict[str, bytes] | None]:
    """Give what was refused; None where not all tokens are known, or they are no longer right."""
    cells = all_cells(heads)
    tokens = {cell: known.get(cell, b"") for cell in cells}
    if not all(tokens.values()):
        return None
    yield _set(items, heads, tokens) + _get(cells)
    refused = _refused(connection, items)
    return refused if connection.values() == tokens else None


def _read_or_make_cells(connection: Connection, heads: Sequence[str]) -> Steps[dict[str, bytes]]:
    # Only a fresh token may be added: one seen before may have been cleared since.
    cells = all_cells(heads)
    yield b"".join(_cell(b"add", cell, fresh_token()) for cell in cells) + _get(cells)
    _checked(connection.lines(len(cells)), {b"STORED", b"NOT_STORED"})
    tokens = connection.values()
    if not all(tokens.get(cell) for cell in cells):
        raise MemcacheServerError("it does not keep even a few bytes; give it more memory (-m)")
    return tokens


def _remember(known: dict[str, bytes], tokens: dict[str, bytes]) -> None:
    if len(known) > _MANY_TOKENS:
        known.clear()
    known.update(tokens)


def _refused(connection: Connection, items: Sequence[Item]) -> dict[str, bytes]:
    """Give the keys that the server would not keep, with its answers."""
    lines = connection.lines(len(items))
    if lines.count(b"STORED") == len(items):
        return {}
    refused = {key: line for (key, _, _), line in zip(items, lines, strict=True) if line.startswith(b"SERVER_ERROR")}
    _checked([line for line in lines if line not in refused.values()], {b"STORED"})
    return refused


def _drop_and_complain(connection: Connection, items: Sequence[Item], refused: dict[str, bytes]) -> Steps[None]:
    yield _delete(list(refused))
    _checked(connection.lines(len(refused)), _DELETED)
    key, line = next(iter(refused.items()))
    size = max(len(value) for other, value, _ in items if other == key)
    advice = "that key is absent now; keep smaller values, or raise the server's -I"
    raise MemcacheServerError(f"it refused {key!r} with {size} bytes ({line.decode(errors='replace')}): {advice}")


def _checked(lines: list[bytes], expected: Container[bytes]) -> list[bytes]:
    for line in lines:
        if line not in expected:
            kind = MemcacheServerError if line.startswith(b"SERVER_ERROR") else MemcacheUnknownError
            raise kind(f"it answered {line[:80]!r}")
    return lines


def _get(keys: Sequence[str]) -> bytes:
    return f"get {' '.join(keys)}\r\n".encode()


def _delete(keys: Sequence[str]) -> bytes:
    return "".join(f"delete {key}\r\n" for key in keys).encode()


def _cell(verb: bytes, cell: str, token: bytes) -> bytes:
    return b"%b %b 0 0 %d\r\n%b\r\n" % (verb, cell.encode(), len(token), token)


def _set(items: Sequence[Item], heads: Sequence[str], tokens: Mapping[str, bytes]) -> bytes:
    stamps = stamps_of(set(heads), tokens)
    expiries = {lifetime: _expiry(lifetime) for _, _, lifetime in items}
    return b"".join(
        [
            b"set %b 0 %d %d\r\n%b%b\r\n" % (key.encode(), expiries[lifetime], len(value) + len(stamps[head]), stamps[head], value)
            for (key, value, lifetime), head in zip(items, heads, strict=True)
        ]
    )


def _expiry(lifetime: int) -> int:
    """Give the server's form of a lifetime in seconds.

    One second more, because the server counts in ticks and may otherwise expire early by one. What lies
    behind the last moment the server knows does not expire there at all.
    """
    if lifetime < _RELATIVE_LIMIT:
        return lifetime + 1
    moment = math.ceil(time.time()) + lifetime + 1
    return moment if moment <= _LAST_MOMENT else 0
