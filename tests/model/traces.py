"""How a state was reached."""

from collections.abc import Mapping
from typing import TypeVar

S = TypeVar("S")


def trace_to(origin: Mapping[S, tuple[S, str] | None], state: S) -> list[str]:
    """Give the labels of the steps to a state, by the state and step that each was first reached from."""
    labels = []
    while (before := origin[state]) is not None:
        state, label = before
        labels.append(label)
    return labels[::-1]
