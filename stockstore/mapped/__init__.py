"""SQLAlchemy-mapped classes <-> column state, and what a session has changed."""

from stockstore.mapped.columns import UNLOADED
from stockstore.mapped.hydrate import flushed_states
from stockstore.mapped.plan import MappedPlan, OtherShapeError, plan_of
from stockstore.mapped.sessions import bypasses, classes_beside, dependent_classes

__all__ = ["UNLOADED", "MappedPlan", "OtherShapeError", "bypasses", "classes_beside", "dependent_classes", "flushed_states", "plan_of"]
