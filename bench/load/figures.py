"""What the clients have found, as figures and as a table."""

import itertools
import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.load.client import Result


def figures(
    results: Sequence[Result],
    without: Sequence[Result] | None,
    seconds: float,
    tiers: Mapping[str, tuple[int, int]],
    earlier: Sequence[tuple[int, int, int]] = (),
) -> dict[str, Any]:
    """Give the figures of the rounds of one shop, and its rate beside that of the shop without caches in the same rounds.

    ``earlier`` are the writes before the first round: of them, too, a row may be ignorant.
    """
    total = Result()
    for result in results:
        total.add(result)
    stale = sorted(staleness(total.stale, [*earlier, *total.writes]))
    return {
        "requests per second": round(statistics.median(result.requests / seconds for result in results), 1),
        "the same, to that without caches": _ratio(results, without) if without else None,
        "requests": total.requests,
        "processor of the workers, per request (ms)": round(total.cpu / total.requests * 1e3, 3),
        **{
            f"{kind} {name} (ms)": _at(sorted(total.seconds[kind]), part)
            for kind in total.seconds
            for name, part in (("p50", 0.5), ("p99", 0.99))
        },
        "hit ratio": {name: round(hits / (hits + misses), 4) if hits + misses else None for name, (hits, misses) in tiers.items()},
        "rows read": total.rows,
        "stale rows": len(stale),
        "staleness, 99th percentile of all rows (ms)": _percentile_of_all(stale, total.rows),
        "staleness, 99th percentile of the stale ones (ms)": _at(stale, 0.99) if stale else 0.0,
        "staleness, largest (ms)": round(stale[-1] * 1e3, 2) if stale else 0.0,
        "writes": len(total.writes),
        "writes refused": total.refused,
        "errors": len(total.errors),
        "error": total.errors[0] if total.errors else None,
    }


def staleness(stale: Iterable[tuple[int, int, int]], writes: Iterable[tuple[int, int, int]]) -> list[float]:
    """Give for each stale row for how many seconds a newer version had been acknowledged when it was asked for.

    >>> staleness([(7, 1, 5_000_000_000)], [(7, 3, 4_500_000_000), (7, 2, 4_000_000_000), (7, 1, 1), (8, 9, 1)])
    [1.0]
    """
    acknowledged: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, version, moment in writes:
        acknowledged[place].append((version, moment))
    known = {place: _since(changes) for place, changes in acknowledged.items()}
    return [(start - known[place][1][bisect_right(known[place][0], version)]) / 1e9 for place, version, start in stale]


def _since(changes: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Give a row's versions in order, and for each the moment at which it or a newer one was acknowledged first."""
    changes.sort()
    moments = list(itertools.accumulate((moment for _, moment in reversed(changes)), min))
    return [version for version, _ in changes], moments[::-1]


def _percentile_of_all(stale: Sequence[float], rows: int) -> float:
    fresh = rows - len(stale)
    at = min(int(rows * 0.99), rows - 1)
    return 0.0 if at < fresh else round(stale[at - fresh] * 1e3, 2)


def _at(values: Sequence[float], part: float) -> float | None:
    return round(values[min(int(len(values) * part), len(values) - 1)] * 1e3, 2) if values else None


def _ratio(results: Sequence[Result], without: Sequence[Result]) -> float:
    return round(statistics.median(ours.requests / plain.requests for ours, plain in zip(results, without, strict=True)), 2)


def render(report: Mapping[str, Any]) -> str:
    """Give the report as tables that a person can read, one for each server."""
    lines = [report["title"], ""]
    for server, shops in report["servers"].items():
        tables = {cache: _flat(shop) for cache, shop in shops.items()}
        rows = [[server, *shops], *([name, *(_shown(shop.get(name)) for shop in tables.values())] for name in _names(tables.values()))]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        lines += [f"the first error with {cache}: {shop['error']}" for cache, shop in shops.items() if shop["error"]]
        lines.append("")
    return "\n".join(lines)


def _flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Give figures with the hit ratios among them."""
    shown: dict[str, Any] = {}
    for name, value in figures.items():
        if name == "hit ratio":
            shown |= {f"hit ratio of {tier}": ratio for tier, ratio in value.items()}
        elif name != "error":
            shown[name] = value
    return shown


def _names(shops: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for shop in sorted(shops, key=len, reverse=True) for name in shop))


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:,}"
