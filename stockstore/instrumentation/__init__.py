"""What a store counts."""

from stockstore.instrumentation.stats import Counters, Stats

__all__ = ["Counters", "Stats"]
