"""Commands to Redis: the same as command.c."""

from collections.abc import Sequence


def pack_command(command: Sequence[str | bytes], /) -> bytes:
    """Give a command as Redis's protocol (RESP) has it: the number of its parts, and each after its number of bytes."""
    parts = [part if isinstance(part, bytes) else part.encode() for part in command]
    return b"*%d\r\n%b" % (len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]))
