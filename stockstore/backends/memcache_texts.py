"""What memcached is asked in its text protocol, and what it may answer."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence

from pymemcache.exceptions import MemcacheServerError, MemcacheUnknownError

UNMARKED, MARKED = 0, 1
"""The flags that the server keeps beside a cell: whether a writer's marker stands there."""

NEVER = 0
AT_ONCE = -1  # memcached cannot compare and delete, but what it stores by ``cas`` may expire on the spot

TOO_LARGE = "nothing is kept under it now; keep smaller values, or raise the server's -I or -m"

_PATIENCE = 2.0
_RELATIVE_LIMIT = 30 * 24 * 60 * 60  # a longer lifetime is read as a Unix time
_LAST_MOMENT = 2**31 - 1  # and a later time as one long past
_ANSWERS = frozenset({b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND", b"DELETED"})


def get(keys: Iterable[str]) -> bytes:
    """Ask for values."""
    return f"get {' '.join(keys)}\r\n".encode()


def gets(keys: Iterable[str]) -> bytes:
    """Ask for values with what a later ``cas`` has to name."""
    return f"gets {' '.join(keys)}\r\n".encode()


def glance(keys: Iterable[str]) -> bytes:
    """Ask for the flags, and for what a later ``cas`` has to name, without the values."""
    joined = " f c\r\nmg ".join(keys)
    return f"mg {joined} f c\r\n".encode() if joined else b""


def delete(keys: Iterable[str]) -> bytes:
    """Remove keys."""
    return "".join([f"delete {key}\r\n" for key in keys]).encode()


def put(verb: bytes, key: str, wire: bytes, expires: int, flags: int = UNMARKED) -> bytes:
    """Store by ``set`` or ``add``."""
    return b"%b %b %d %d %d\r\n%b\r\n" % (verb, key.encode(), flags, expires, len(wire), wire)


def swap(key: str, unique: bytes, wire: bytes, expires: int, flags: int = UNMARKED) -> bytes:
    """Store in place of what was read; where nothing was, add."""
    if not unique:
        return put(b"add", key, wire, expires, flags)
    return b"cas %b %d %d %d %b\r\n%b\r\n" % (key.encode(), flags, expires, len(wire), unique, wire)


def meta_set(key: str, unique: bytes, wire: bytes, expires: int) -> bytes:
    """Store as :func:`swap` does, and have what the next ``cas`` has to name told."""
    return b"ms %b %d c T%d %b\r\n%b\r\n" % (key.encode(), len(wire), expires, b"C" + unique if unique else b"ME", wire)


def meta_sets(keys: Sequence[str], uniques: Sequence[bytes], head: bytes, rests: Sequence[bytes], expires: int) -> bytes:
    """Store many at once in place of what was read, each the same bytes and a rest."""
    # Column by column, which takes half as long as to go key by key.
    lengths, begin = list(map(len, rests)), len(head)
    sizes = {length: b" %d c T%d C" % (begin + length, expires) for length in set(lengths)}
    parts = [b"", b"", b"", b"\r\n" + head, b"", b"\r\nms "] * len(keys)
    parts[0::6] = map(str.encode, keys)
    parts[1::6] = map(sizes.__getitem__, lengths)
    parts[2::6] = uniques
    parts[4::6] = rests
    parts[-1] = b"\r\n"
    return b"ms " + b"".join(parts)


def remove(key: str, unique: bytes) -> bytes:
    """Remove what was read, and nothing else."""
    return swap(key, unique, b"", AT_ONCE)


def attempts() -> Iterator[None]:
    """Go on for two seconds, then raise: others may be faster a few times, not for ever."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        yield
    raise MemcacheServerError(f"others changed the same cells for {_PATIENCE:.0f} s without a pause")


def expiry(lifetime: int) -> int:
    """Give the server's form of a lifetime in seconds.

    One second more, because the server counts in ticks and may otherwise expire early by one. What lies
    behind the last moment the server knows does not expire there at all.
    """
    if lifetime < _RELATIVE_LIMIT:
        return lifetime + 1
    moment = math.ceil(time.time()) + lifetime + 1
    return moment if moment <= _LAST_MOMENT else NEVER


def refusals(keys: Sequence[str], lines: Sequence[bytes]) -> dict[str, bytes]:
    """Give the keys that the server would not keep, with its answers.

    Raises:
        MemcacheUnknownError: An answer is none to a write.
    """
    if _ANSWERS.issuperset(lines):
        return {}
    refused = {key: line for key, line in zip(keys, lines, strict=True) if line.startswith(b"SERVER_ERROR")}
    if strange := next((line for line in lines if line not in _ANSWERS and line not in refused.values()), None):
        raise MemcacheUnknownError(f"it answered {strange[:80]!r} to a write")
    return refused


def complain(refused: dict[str, bytes], advice: str) -> None:
    """Raise what tells of refused keys, if there are any."""
    if refused:
        key, line = next(iter(refused.items()))
        others = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise MemcacheServerError(f"it refused {key!r}{others} ({line.decode(errors='replace')}): {advice}")
