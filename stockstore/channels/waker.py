"""What ends the wait of a thread."""

import socket
from contextlib import suppress


class Waker:
    """What ends a wait of the thread."""

    def __init__(self) -> None:
        """Make a pair of sockets; raises OSError where there are none."""
        self._mine, self._theirs = socket.socketpair()
        self._mine.setblocking(False)
        self._theirs.setblocking(False)

    def fileno(self) -> int:
        """Give what becomes readable once somebody wakes."""
        return self._mine.fileno()

    def wake(self) -> None:
        """End the wait of the moment, or the next one."""
        with suppress(OSError):
            self._theirs.send(b"\0")

    def clear(self) -> None:
        """Forget who has woken."""
        with suppress(OSError):
            while self._mine.recv(4096):
                pass

    def sleep(self, seconds: float) -> None:
        """Wait for so long, or until somebody wakes."""
        # A selector would be one more file, where it may be for want of files that the thread waits.
        self._mine.settimeout(seconds)
        with suppress(OSError):
            self._mine.recv(4096)
        self._mine.setblocking(False)

    def close(self) -> None:
        """Give the sockets back."""
        self._mine.close()
        self._theirs.close()
