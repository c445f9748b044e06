"""The rows of the table, and how they are shown."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.measure import Ratio, Times

OURS: Final = "stockstore"
_HEADER: Final = ("what", "ours", "peer", "ratio (quartiles)", "target", "met?")
_SCALES: Final = ((1e-6, 1e-9, "ns"), (1e-3, 1e-6, "us"), (1.0, 1e-3, "ms"), (float("inf"), 1.0, "s"))


@dataclass(frozen=True)
class Target:
    """What the project promises of a ratio. ``faster`` turns it round: how many times faster than the peer we are."""

    limit: float
    at_least: bool = False
    faster: bool = False

    def met(self, ratio: float) -> bool:
        return ratio >= self.limit if self.at_least else ratio <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}x{' faster' if self.faster else ''}"


def at_most(limit: float) -> Target:
    return Target(limit)


def at_least(limit: float) -> Target:
    return Target(limit, at_least=True)


def times_faster(limit: float) -> Target:
    return Target(limit, at_least=True, faster=True)


@dataclass(frozen=True)
class Row:
    """One comparison. ``ratio`` is ours / peer, or peer / ours where ``faster``."""

    subject: str
    what: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    ratio: Ratio
    faster: bool = False
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.target.met(self.ratio.median)


def timed(subject: str, what: str, times: Times, peer: str, target: Target | None = None, *, ours: str = OURS, faster: bool = False) -> Row:
    """Make the row of two ways of a race."""
    faster = faster or (target is not None and target.faster)
    ratio = times.ratio(peer, ours) if faster else times.ratio(ours, peer)
    return Row(subject, what, times.median(ours), times.median(peer), peer, "s", ratio, faster, target)


def sized(subject: str, what: str, ours: float, peer: tuple[float, str], unit: str, target: Target | None = None) -> Row:
    """Make the row of two values that were measured once."""
    size, name = peer
    ratio = ours / size if size else float("nan")
    return Row(subject, what, ours, size, name, unit, Ratio(ratio, ratio, ratio), target=target)


def quantity(value: float, unit: str) -> str:
    if unit == "s":
        scale, name = next((scale, name) for limit, scale, name in _SCALES if value < limit)
        return f"{value / scale:.3g} {name}"
    return f"{value:,.1f} %" if unit == "%" else f"{value:,.0f} {unit}"


def cells_of(row: Row) -> tuple[str, ...]:
    ratio, suffix = row.ratio, "x faster" if row.faster else "x"
    spread = f" ({ratio.low:.3g}-{ratio.high:.3g})" if ratio.low != ratio.high else ""
    met = {True: "yes", False: "NO", None: ""}[row.met]
    peer = f"{quantity(row.peer, row.unit)}  {row.peer_name}"
    return row.what, quantity(row.ours, row.unit), peer, f"{ratio.median:.3g}{suffix}{spread}", str(row.target or ""), met


def table(rows: Sequence[Row]) -> str:
    """Give the whole table, one part for each subject."""
    cells = {subject: [cells_of(row) for row in rows if row.subject == subject] for subject in dict.fromkeys(row.subject for row in rows)}
    lines = [_HEADER, *(line for part in cells.values() for line in part)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
    return "\n".join(_lines(cells, widths))


def _lines(parts: dict[str, list[tuple[str, ...]]], widths: Sequence[int]) -> Iterable[str]:
    yield _line(_HEADER, widths)
    for subject, lines in parts.items():
        yield f"\n{subject} {'-' * (sum(widths) + 2 * len(widths) - len(subject) - 3)}"
        yield from (_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def markdown(rows: Sequence[Row]) -> str:
    """Give the same as tables of Markdown, one for each subject."""
    parts: list[str] = []
    for subject in dict.fromkeys(row.subject for row in rows):
        cells = [_HEADER, ("---",) * len(_HEADER), *(cells_of(row) for row in rows if row.subject == subject)]
        parts.append("\n".join([f"### {subject}", "", *(f"| {' | '.join(line)} |" for line in cells)]))
    return "\n\n".join(parts)


def summary(rows: Sequence[Row]) -> str:
    targets = [row for row in rows if row.met is not None]
    return f"{sum(bool(row.met) for row in targets)} of {len(targets)} targets met"


def write_markdown(rows: Sequence[Row], path: Path) -> None:
    path.write_text(f"{markdown(rows)}\n\n{summary(rows)}\n")


def write_json(rows: Sequence[Row], path: Path) -> None:
    path.write_text(json.dumps([{**asdict(row), "met": row.met} for row in rows], indent=2) + "\n")
