import logging
import sys
from collections.abc import Callable, Iterator
from typing import get_args

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from stockstore.errors import ConfigurationError
from stockstore.instrumentation import Event, Kind, hooked
from stockstore.instrumentation.logging import LoggingHook
from stockstore.instrumentation.names import COUNTERS
from stockstore.instrumentation.opentelemetry import OpenTelemetryHook
from stockstore.instrumentation.prometheus import PrometheusHook
from stockstore_ext.sqlalchemy.janitor import Janitor
from tests.instrumentation.metered import MakeShop, Part, Shop

CLS = "tests.instrumentation.metered.Part"
LAG = Event("outbox lag", "db", "", 3, "", 1.5)


@pytest.fixture
def traffic(make_shop: MakeShop) -> Callable[[], Shop]:
    """A function that reads two rows twice, and changes one that then waits in the outbox."""

    def flow() -> Shop:
        shop = make_shop(outbox=True)
        shop.add(1, 2)
        for _ in range(2):
            shop.chain.batch_get(Part, [1, 2])
        shop.write(1)
        Janitor(shop.engine, [shop.chain])._tell_lag()
        return shop

    return flow


def test_prometheus(traffic: Callable[[], Shop]) -> None:
    """The registry has the counts, by store, class and reason."""
    registry = CollectorRegistry()
    with hooked(PrometheusHook(registry)):
        shop = traffic()
    memory, redis, database = map(repr, shop.chain.tiers)

    def value(name: str, store: str, reason: str = "") -> float | None:
        return registry.get_sample_value(f"stockstore_{name}_total", {"store": store, "cls": CLS, "reason": reason})

    assert [value("misses", store) for store in (memory, redis, database)] == [2, 2, None]
    assert [value("hits", store) for store in (memory, redis, database)] == [2, None, 2]
    assert [value("fills", store) for store in (memory, redis)] == [2, 2]
    assert [value("marks", store) for store in (memory, redis)] == [1, 1]
    assert [value("releases", store, "committed") for store in (memory, redis)] == [1, 1]
    assert registry.get_sample_value("stockstore_outbox_rows", {"store": repr(shop.engine.url)}) == 1
    lag = registry.get_sample_value("stockstore_outbox_lag_seconds", {"store": repr(shop.engine.url)})
    assert lag is not None
    assert 0 < lag < 60
    assert b"# HELP stockstore_hits_total Reads that a store answered" in generate_latest(registry)


def readings(reader: InMemoryMetricReader) -> Iterator[tuple[tuple[str, str, str], float]]:
    """Give what was measured: name, store and reason, and the value."""
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            given = point.attributes or {}
            yield (metric.name, str(given["store"]), str(given.get("reason", ""))), point.value  # type: ignore[union-attr]


def test_opentelemetry(traffic: Callable[[], Shop]) -> None:
    """The SDK's reader has the counts."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with hooked(OpenTelemetryHook(provider.get_meter("test"))):
        shop = traffic()
    found = dict(readings(reader))
    provider.shutdown()
    memory, redis, database = map(repr, shop.chain.tiers)
    assert found.pop(("stockstore.outbox_lag", repr(shop.engine.url), "")) > 0
    assert found == {
        ("stockstore.hits", memory, ""): 2,
        ("stockstore.hits", database, ""): 2,
        ("stockstore.outbox_rows", repr(shop.engine.url), ""): 1,
        **{("stockstore.misses", store, ""): 2 for store in (memory, redis)},
        **{("stockstore.fills", store, ""): 2 for store in (memory, redis)},
        **{("stockstore.marks", store, ""): 1 for store in (memory, redis)},
        **{("stockstore.releases", store, "committed"): 1 for store in (memory, redis)},
        **{("stockstore.keeps", store, ""): 1 for store in (memory, redis)},
    }


def test_logging(caplog: pytest.LogCaptureFixture) -> None:
    """A line for each event, with the event itself; none below the level."""
    hook = LoggingHook(level=logging.INFO)
    with caplog.at_level(logging.INFO, "stockstore.events"):
        hook(Event("bypass", "RedisStore('x')", "shop.User", 2, "marked"))
        hook(LAG)
    with caplog.at_level(logging.WARNING, "stockstore.events"):
        hook(LAG)
    assert caplog.messages == ["bypass 2 shop.User (marked) at RedisStore('x')", "outbox lag 3 oldest 1.500 s at db"]
    assert caplog.records[1].__dict__["event"] is LAG


def test_every_kind_has_its_metric() -> None:
    """A kind of event without one would be lost by the sinks."""
    assert {*COUNTERS} == {*get_args(Kind)} - {"outbox lag"}


@pytest.mark.parametrize("kind", COUNTERS)
def test_every_kind_has_its_counter(kind: Kind) -> None:
    """Whatever is told is counted under a name of its own."""
    registry = CollectorRegistry()
    PrometheusHook(registry, prefix="mine")(Event(kind, "s", "c", 2, "r"))
    counted = {sample.name: sample.value for metric in registry.collect() for sample in metric.samples if sample.name.endswith("_total")}
    assert counted == {f"mine_{COUNTERS[kind][0]}_total": 2}


def test_one_hook_per_registry() -> None:
    """A second one of the same names is refused."""
    registry = CollectorRegistry()
    PrometheusHook(registry)
    with pytest.raises(ConfigurationError, match=r"one PrometheusHook per registry, or another prefix="):
        PrometheusHook(registry)


@pytest.mark.parametrize(
    ("hook", "library", "extra"),
    [(PrometheusHook, "prometheus_client", "prometheus"), (OpenTelemetryHook, "opentelemetry.metrics", "opentelemetry")],
)
def test_a_missing_library(hook: Callable[[], object], library: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match=rf"pip install 'stockstore\[{extra}\]'"):
        hook()


@pytest.mark.parametrize(
    ("hook", "what"),
    [
        (PrometheusHook, "registry is a CollectorRegistry of prometheus_client"),
        (OpenTelemetryHook, "meter is a Meter of opentelemetry.metrics"),
    ],
)
def test_a_home_that_is_none(hook: Callable[[object], object], what: str) -> None:
    """The error says what is taken."""
    with pytest.raises(ConfigurationError, match=rf"^{what}, or None, not 5$"):
        hook(5)
