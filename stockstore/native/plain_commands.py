"""Commands to Redis without what is compiled: command.c gives the same bytes in a tenth of the time."""

from collections.abc import Sequence

try:
    from hiredis import pack_command as _pack
except ImportError:  # redis-py does without it too

    def pack_command(command: Sequence[str | bytes], /) -> bytes:
        """Give a command as Redis's protocol (RESP) has it: the number of its parts, and each after its number of bytes."""
        parts = [part if isinstance(part, bytes) else part.encode() for part in command]
        return b"*%d\r\n%b" % (len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]))

else:

    def pack_command(command: Sequence[str | bytes], /) -> bytes:
        """Give a command as Redis's protocol (RESP) has it."""
        packed: bytes = _pack(tuple(command))  # type: ignore[arg-type] # its types are for commands of one part
        return packed
