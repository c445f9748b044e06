"""Events as lines of a log."""

import logging
from typing import Final

from stockstore.instrumentation.events import Event

_LOGGER: Final = logging.getLogger("stockstore.events")


class LoggingHook:
    """Writes each event to a logger; the record has the event itself as ``record.event``.

    Args:
        logger: The logger, ``stockstore.events`` by default.
        level: The level of all events.
    """

    def __init__(self, logger: logging.Logger = _LOGGER, *, level: int = logging.DEBUG) -> None:
        """Keep the logger."""
        self._logger = logger
        self._level = level

    def __call__(self, event: Event, /) -> None:
        """Write a line."""
        if self._logger.isEnabledFor(self._level):
            self._logger.log(self._level, "%s", _line(event), extra={"event": event})


def _line(event: Event) -> str:
    parts = [event.kind, str(event.count), event.cls, event.reason and f"({event.reason})"]
    if event.kind == "outbox lag":
        parts.append(f"oldest {event.seconds:.3f} s")
    return f"{' '.join(filter(None, parts))} at {event.store}"
