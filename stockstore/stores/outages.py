"""Warnings of a server that does not answer: as long as it does not, each read of each request would log one."""

import logging
import time
from typing import Final

from stockstore.locks import fork_safe_lock

EVERY: Final = 1.0
"""Seconds between two warnings of one wording."""

_now = time.monotonic


class Outages:
    """Logs the first warning at once, and then one a second, which tells how many were left out before it."""

    def __init__(self) -> None:
        """Have told of nothing yet."""
        self._lock = fork_safe_lock()
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, log: logging.Logger, message: str, *arguments: object) -> None:
        """Log a warning, unless one of the same wording, whatever its arguments, was logged within the last second."""
        with self._lock:
            now = _now()
            if now < self._next.get(message, now):
                self._left_out[message] = self._left_out.get(message, 0) + 1
                return
            self._next[message] = now + EVERY
            left_out = self._left_out.pop(message, 0)
        log.warning("%s%s", message % arguments, f" (and {left_out} more since the last such warning)" if left_out else "")
