"""What the metrics of sinks are called."""

from typing import Final

from stockstore.instrumentation.events import Kind

COUNTERS: Final[dict[Kind, tuple[str, str]]] = {
    "hit": ("hits", "Reads that a store answered"),
    "miss": ("misses", "Reads that a store could not answer"),
    "bypass": ("bypasses", "Reads that went past a store although it may have had an answer"),
    "fill": ("fills", "Objects kept of what a lower tier had"),
    "refused fill": ("refused_fills", "Objects not kept, since somebody else had to do with them meanwhile"),
    "mark": ("marks", "Markers that writers set"),
    "release": ("releases", "Markers that their writers took away"),
    "keep": ("keeps", "Committed rows kept behind their markers"),
    "invalidate": ("invalidations", "Places that were invalidated"),
    "hear": ("heard", "Places that a channel named, dropped from process memory"),
    "flush": ("flushes", "Times that process memory was emptied as its channel was not heard all the while"),
    "resolve": ("resolves", "Markers of writers that had died, taken away by others"),
    "owe": ("owed", "Places that a cache could not be told of"),
    "drain": ("drained", "Rows of the outbox that reached every cache"),
}
"""For each kind that is counted the plural by which it is called, and what it is."""

OUTBOX_ROWS: Final = ("outbox_rows", "Rows of the outbox that wait for a janitor")
OUTBOX_LAG: Final = ("outbox_lag", "Age of the oldest row of the outbox that waits for a janitor")
