"""Tables that a person can read."""

import sys
from collections.abc import Sequence


def show_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; cells that start with a digit are numbers and stand at the right."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    right = [all(row[at][:1].isdigit() for row in rows if row[at]) for at in range(len(head))]
    print(f"\n{title}\n")
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [cell.rjust(width) if number else cell.ljust(width) for cell, width, number in zip(row, widths, right, strict=True)]
        print("  " + "  ".join(cells).rstrip(), flush=True)


def mark(*, right: bool) -> str:
    """Give the check mark, or plain words where the terminal cannot show it."""
    sign, word = ("✓", "right") if right else ("✗", "WRONG")
    try:
        sign.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return word
    return sign


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}" if seconds < 1e-4 else f"{seconds * 1e6:,.0f}"
