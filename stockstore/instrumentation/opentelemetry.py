"""Events as metrics of OpenTelemetry."""

from typing import TYPE_CHECKING

from stockstore.errors import ConfigurationError
from stockstore.instrumentation.events import Event
from stockstore.instrumentation.names import COUNTERS, OUTBOX_LAG, OUTBOX_ROWS

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter


class OpenTelemetryHook:
    """Counts events on a meter of OpenTelemetry; the names stand in the guide's page on metrics.

    Args:
        meter: Where the instruments are made; one called ``stockstore`` of the global provider by default.

    Raises:
        ConfigurationError: The API is not installed, or the meter is none.
    """

    def __init__(self, meter: "Meter | None" = None) -> None:
        """Make the instruments."""
        try:
            from opentelemetry.metrics import Meter, get_meter
        except ImportError as error:
            raise ConfigurationError("OpenTelemetryHook needs opentelemetry-api: pip install 'stockstore[opentelemetry]'") from error
        home = get_meter("stockstore") if meter is None else meter
        if not isinstance(home, Meter):
            raise ConfigurationError(f"meter is a Meter of opentelemetry.metrics, or None, not {meter!r}")
        self._counters = {kind: home.create_counter(f"stockstore.{name}", description=text) for kind, (name, text) in COUNTERS.items()}
        self._rows = home.create_gauge(f"stockstore.{OUTBOX_ROWS[0]}", description=OUTBOX_ROWS[1])
        self._lag = home.create_gauge(f"stockstore.{OUTBOX_LAG[0]}", unit="s", description=OUTBOX_LAG[1])

    def __call__(self, event: Event, /) -> None:
        """Count an event."""
        if event.kind == "outbox lag":
            self._rows.set(event.count, {"store": event.store})
            self._lag.set(event.seconds, {"store": event.store})
        else:
            self._counters[event.kind].add(event.count, {"store": event.store, "class": event.cls, "reason": event.reason})
