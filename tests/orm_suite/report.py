"""What a comparison has shown, as numbers and as text."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.orm_suite.compare import Comparison
from tests.orm_suite.run import Tests

_EVENTS = ("after_begin", "after_transaction_end", "before_flush", "after_flush", "do_orm_execute")
_SHOWN = 40


def numbers(comparison: Comparison, without: Tests, with_hook: Tests, seconds: float) -> dict[str, Any]:
    """Give the figures by their names."""
    hook: Counter[str] = Counter()
    for test in with_hook.values():
        hook.update(test.hook)
    return {
        "tests": len(without),
        "skipped by SQLAlchemy": sum(test.outcome == "skipped" for test in without.values()),
        "failing without the hook": sum(test.outcome.startswith("failed") for test in without.values()),
        "same result": comparison.identical,
        "differing": dict(Counter(entry["reason"] or "a value" for entry in comparison.differing.values())),
        "wrong": comparison.wrong,
        "hook fired": sum(hook[event] for event in _EVENTS),
        "by event": {event: hook[event] for event in _EVENTS},
        "tests with reads served": sum(bool(test.hook.get("hits")) for test in with_hook.values()),
        "caches": {name: number for name, number in sorted(hook.items()) if name not in _EVENTS},
        "seconds": round(seconds),
    }


def render(title: str, figures: Mapping[str, Any]) -> str:
    """Give the figures as a table that a person can read."""
    lines = [title, "=" * len(title), ""]
    for name, value in figures.items():
        if name == "wrong":
            lines.append(f"{'wrong':<44}{len(value):>10,}   {'<- has to be 0' if value else 'as it has to be'}")
        elif isinstance(value, Mapping):
            lines += [name, *(f"    {key:<60}{number:>10,}" for key, number in value.items())]
        else:
            lines.append(f"{name:<44}{value:>10,}")
    lines += ["", *(f"WRONG {name}\n      {what}" for name, what in list(figures["wrong"].items())[:_SHOWN])]
    return "\n".join([*lines, ""])
