"""SQLAlchemy-mapped classes <-> column state, and what a session has changed."""

from stockstore.mapped.columns import UNLOADED
from stockstore.mapped.plan import MappedPlan, plan_of

__all__ = ["UNLOADED", "MappedPlan", "plan_of"]
