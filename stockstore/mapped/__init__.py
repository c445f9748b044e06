"""SQLAlchemy-mapped classes <-> column state, and what a session has changed."""

from stockstore.mapped.columns import UNLOADED
from stockstore.mapped.familiar import FamiliarRow
from stockstore.mapped.hydrate import State, flushed_states
from stockstore.mapped.plan import MappedPlan, OtherShapeError, plan_of
from stockstore.mapped.sessions import (
    ELSEWHERE,
    OWN_WRITE,
    TENANT,
    TURNED,
    bypasses,
    classes_beside,
    dependent_classes,
    has_written,
    hides,
    is_clean,
    wrote,
)

__all__ = [
    "ELSEWHERE",
    "OWN_WRITE",
    "TENANT",
    "TURNED",
    "UNLOADED",
    "FamiliarRow",
    "MappedPlan",
    "OtherShapeError",
    "State",
    "bypasses",
    "classes_beside",
    "dependent_classes",
    "flushed_states",
    "has_written",
    "hides",
    "is_clean",
    "plan_of",
    "wrote",
]
