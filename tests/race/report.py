"""What a race has shown, as text and as numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.race.checker import AT_REST_SORTS, BOUNDED_SORTS, NON_LINEARIZABLE, NON_LINEARIZABLE_BEYOND, SORTS, STALE, STRICT_WRONG, Verdict
from tests.race.drain import Rest
from tests.race.job import UNREACHABLE

_MILLION: Final = 1_000_000
_RATIOS: Final = {"hit": "hits", "bypass": "bypasses"}
GATED: Final = (*SORTS, *AT_REST_SORTS, "errors", "hung processes")
"""What has to be zero."""


def gates(protocol: str, faults: Sequence[str], on_unreachable: str | None, *, bounded: bool) -> tuple[list[str], str]:
    """Give what has to be zero in a set-up, and why not all of it; ``bounded``: reads may be behind for a while."""
    gated = [*GATED, *BOUNDED_SORTS] if bounded else list(GATED)
    if bounded:
        gated = [name for name in gated if name not in {STALE, NON_LINEARIZABLE}]
    if UNREACHABLE & set(faults) and on_unreachable != "abort" and not protocol.startswith("naive"):
        return (
            [name for name in gated if name not in {STALE, NON_LINEARIZABLE, *BOUNDED_SORTS}],
            f"a cache out of reach does not stop commits here (on_unreachable={on_unreachable or 'default'}), so staleness is published, not judged",
        )
    if protocol == "fast":
        gated = [name for name in gated if name not in {NON_LINEARIZABLE, NON_LINEARIZABLE_BEYOND, STRICT_WRONG}]
        return gated, "fast promises nothing between a COMMIT and its acknowledgement"
    return gated, ""


def numbers(verdict: Verdict, rest: Rest | None, counts: Mapping[str, int], faults: Mapping[str, int], seconds: float) -> dict[str, Any]:
    """Give the figures by their names; those of what was left at rest only where it was looked at."""
    figures: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "reads": verdict.reads,
        "reads per second": round(verdict.reads / seconds) if seconds else 0,
        "writes attempted": counts.get("writes attempted", 0),
        **{name: verdict.found[name] for name in SORTS},
        "stale after acknowledgement per million": _per_million(verdict.found[STALE], verdict.reads),
        "non-linearizable per million": _per_million(verdict.found[NON_LINEARIZABLE], verdict.reads),
        "largest staleness (ms)": _milliseconds(max(verdict.ages, default=0)),
        **(_bounded(verdict, rest, counts) if verdict.bound else {}),
        **({"stale at rest": len(rest.stale), "lost writes": len(rest.lost), "markers left": rest.markers} if rest else {}),
        **_ratios(counts, ""),
    }
    figures["counts"] = {name: number for name, number in counts.items() if " " not in name or name.split()[0] not in {"kill", "pause"}}
    figures["kills by failpoint"] = _after(counts, "kill ")
    figures["pauses by failpoint"] = _after(counts, "pause ")
    figures["faults injected"] = dict(faults)
    return figures


def _bounded(verdict: Verdict, rest: Rest | None, counts: Mapping[str, int]) -> dict[str, Any]:
    return {
        "staleness p50 (ms)": _milliseconds(verdict.percentile(0.5)),
        "staleness p99 (ms)": _milliseconds(verdict.percentile(0.99)),
        "staleness p99.9 (ms)": _milliseconds(verdict.percentile(0.999)),
        "max_staleness (ms)": _milliseconds(verdict.bound),
        **{name: verdict.found[name] for name in BOUNDED_SORTS},
        "strict reads": verdict.strict_reads,
        **({"processes looked into at rest": rest.memories, "objects in their memories at rest": rest.held} if rest else {}),
        **_ratios(counts, "memory "),
    }


def _ratios(counts: Mapping[str, int], of: str) -> dict[str, float]:
    """Give what share of what a tier was asked for it had, and of what it was passed by."""
    asked = sum(counts.get(f"{of}{name}", 0) for name in ("hits", "misses", "bypasses"))
    return {f"{of}{ratio} ratio": round(counts.get(f"{of}{name}", 0) / asked, 4) if asked else 0.0 for ratio, name in _RATIOS.items()}


def _milliseconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 2)


def _per_million(number: int, of: int) -> float:
    return round(number * _MILLION / of, 1) if of else 0.0


def _after(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): number for name, number in counts.items() if name.startswith(prefix)}


def failing(report: Mapping[str, Any]) -> list[str]:
    """Name what should be zero and is not; a race in which nothing happened shows nothing."""
    idle = [f"no {name}" for name in ("reads", "writes attempted") if not report["figures"][name]]
    return idle + [name for name in report["gated"] if report["figures"].get(name)]


def render(report: Mapping[str, Any]) -> str:
    """Give a report as a table that a person can read."""
    lines = [report["title"], "=" * len(report["title"]), ""]
    for name, value in report["figures"].items():
        if isinstance(value, Mapping):
            lines += ["", name, *(f"    {key:<36}{number:>12,}" for key, number in sorted(value.items()))]
        else:
            lines.append(f"{name:<40}{_shown(value):>12}{_judged(report, name, value)}")
    lines += ["", *(f"Note: {note}." for note in report["notes"])]
    lines += [f"Example: {example}" for example in report["examples"]]
    return "\n".join([*lines, "", _conclusion(report), ""])


def _conclusion(report: Mapping[str, Any]) -> str:
    if wrong := failing(report):
        return f"NOT ZERO: {', '.join(wrong)}"
    if report["stopped"]:
        return f"Ended by {report['stopped']}: what was measured so far is zero where it has to be."
    return "All that has to be zero is zero."


def _shown(value: float) -> str:
    return f"{value:,}"


def _judged(report: Mapping[str, Any], name: str, value: float) -> str:
    if name not in report["gated"]:
        return ""
    return "   <- has to be 0" if value else "   as it has to be"


def merged(counts: Sequence[Mapping[str, int]]) -> Counter[str]:
    """Add counts."""
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return total
