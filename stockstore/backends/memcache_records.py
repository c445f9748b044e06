"""Requests by TLS, cut where memcached can be trusted to read on."""

from collections.abc import Iterator
from typing import Final

RECORD: Final = 16384
"""Bytes that one record of TLS holds, and that memcached reads at once."""
_LENGTH_AT: Final = {b"ms": 2, b"set": 4, b"add": 4, b"cas": 4}
"""Which word of a command is the length of the value that follows it."""


def records(request: bytes) -> Iterator[bytes]:
    r"""Give the parts of a request that are to be sent as records of their own: whole commands, or one that is longer than a record.

    memcached waits for its socket, and not for what has been decrypted: the beginning of a command at the end of a record is not read
    before another record comes, and the client waits for its answer in vain (so with 1.6.18; plain connections have no such gap).

    >>> [part[:12] for part in records(b"set a 0 0 16000\r\n" + bytes(16000) + b"\r\nms b 1 T9\r\nx\r\nset c 0 0 900\r\n" + bytes(900) + b"\r\nmn\r\n")]
    [b'set a 0 0 16', b'set c 0 0 90']
    """
    start = end = 0
    while end < len(request):
        following = _end_of_command(request, end)
        if following - start > RECORD and end > start:
            yield request[start:end]
            start = end
        end = following
    yield request[start:]


def _end_of_command(request: bytes, at: int) -> int:
    end = request.index(b"\r\n", at)
    words = request[at:end].split(b" ", 5)
    length_at = _LENGTH_AT.get(words[0])
    return end + 2 + (int(words[length_at]) + 2 if length_at else 0)
