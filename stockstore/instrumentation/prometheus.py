"""Events as metrics of Prometheus."""

from typing import TYPE_CHECKING

from stockstore.errors import ConfigurationError
from stockstore.instrumentation.events import Event
from stockstore.instrumentation.names import COUNTERS, OUTBOX_LAG, OUTBOX_ROWS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_LABELS = ("store", "cls", "reason")


class PrometheusHook:
    """Counts events in a registry of ``prometheus_client``; the names stand in the guide's page on metrics.

    Args:
        registry: Where the metrics are registered, the client's own by default.
        prefix: What their names begin with.

    Raises:
        ConfigurationError: The client is not installed, or the registry is none, or has such metrics already.
    """

    def __init__(self, registry: "CollectorRegistry | None" = None, *, prefix: str = "stockstore") -> None:
        """Register the metrics."""
        try:
            from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
        except ImportError as error:
            raise ConfigurationError("PrometheusHook needs prometheus-client: pip install 'stockstore[prometheus]'") from error
        home = REGISTRY if registry is None else registry
        if not isinstance(home, CollectorRegistry):
            raise ConfigurationError(f"registry is a CollectorRegistry of prometheus_client, or None, not {registry!r}")
        try:
            self._counters = {kind: Counter(f"{prefix}_{name}", text, _LABELS, registry=home) for kind, (name, text) in COUNTERS.items()}
            self._rows = Gauge(f"{prefix}_{OUTBOX_ROWS[0]}", OUTBOX_ROWS[1], ["store"], registry=home)
            self._lag = Gauge(f"{prefix}_{OUTBOX_LAG[0]}_seconds", OUTBOX_LAG[1], ["store"], registry=home)
        except ValueError as error:
            raise ConfigurationError(f"use one PrometheusHook per registry, or another prefix=: {error}") from error

    def __call__(self, event: Event, /) -> None:
        """Count an event."""
        if event.kind == "outbox lag":
            self._rows.labels(event.store).set(event.count)
            self._lag.labels(event.store).set(event.seconds)
        else:
            self._counters[event.kind].labels(event.store, event.cls, event.reason).inc(event.count)
