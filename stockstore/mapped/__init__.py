"""SQLAlchemy-mapped classes <-> column state, and what a session has changed."""

from stockstore.mapped.columns import UNLOADED
from stockstore.mapped.plan import MappedPlan, plan_of
from stockstore.mapped.sessions import bypasses, dependent_classes

__all__ = ["UNLOADED", "MappedPlan", "bypasses", "dependent_classes", "plan_of"]
