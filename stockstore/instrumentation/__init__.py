"""What a store counts."""

from stockstore.instrumentation.stats import Counters, Stats, unasked

__all__ = ["Counters", "Stats", "unasked"]
