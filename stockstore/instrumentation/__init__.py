"""What a store counts, and who is told of it.

Sinks stand beside this module, one file each: ``logging``, ``prometheus`` and ``opentelemetry``.
"""

from stockstore.instrumentation.events import Event, Kind
from stockstore.instrumentation.hooks import Hook, add_hook, emit, hooked, listening, remove_hook, watch_hooks
from stockstore.instrumentation.stats import Counters, Stats, unasked

__all__ = ["Counters", "Event", "Hook", "Kind", "Stats", "add_hook", "emit", "hooked", "listening", "remove_hook", "unasked", "watch_hooks"]
