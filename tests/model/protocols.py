"""The protocols under the model check: those that are shipped, naive ones, and the shipped ones less one defence each."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Protocol:
    """How readers fill and writers tell; the defaults are the strict protocol on Redis.

    The fields below ``outbox`` are defects: what is left when one defence is taken away.
    """

    marks: bool = True
    """Whether a writer marks before it commits; without, it invalidates afterwards."""
    blind: bool = False
    """Whether a mark replaces a marker that stands there, as on memcached."""
    values: bool = True
    """Whether a release leaves the committed value."""
    makes: bool = True
    """Whether a mark makes the generation where it is absent."""
    pinned: bool = True
    """Whether markers are safe from eviction."""
    resolver: bool = True
    """Whether readers ask the database for the fate of a marker's transaction."""
    outbox: bool = False
    """Whether the transaction carries a row by which the janitor invalidates and releases."""
    watches: bool = False
    """Whether a reader may have looked at the watch of the class in place of a lease."""
    unleased: bool = False
    """A fill is a SET."""
    watch_fills_anything: bool = False
    """A fill by a watch puts its value whatever stands there."""
    release_stirs_nothing: bool = False
    """A release does not count on the watch."""
    invalidation_stirs_nothing: bool = False
    """The janitor does not count on the watch."""
    put: bool = False
    """After the commit the value is SET."""
    early: bool = False
    """The value is SET before the commit."""
    leases_over_markers: bool = False
    releases_always_with_value: bool = False
    keeps_where_marker_was_lost: bool = False
    janitor_deletes: bool = False
    invalidation_spares_sole_markers: bool = False
    generation_of_the_fill: bool = False
    """A fill carries the generation of its own moment, not that of the lease."""
    generation_of_the_release: bool = False
    """A release's value carries the generation of its own moment, not that of the mark."""
    generation_made_late: bool = False
    """A release makes the generation where it is absent, for its own value."""
    generation_unmarked: bool = False
    """A wide writer replaces the generation only after its commit."""
    blind_generation: bool = False
    """A mark on the generation replaces another writer's."""
    blind_lists: bool = False
    """A mark on a list, which writers of different rows share, replaces another writer's."""
    lists_end_in_values: bool = False
    """A release leaves the list as its writer has read it under the lock of its own row."""
    snapshot_first: bool = False
    """The reader's snapshot begins before its lease."""
    goes_on_unmarked: bool = False
    """A writer whose mark was lost commits nevertheless."""
    believes_earlier_lives: bool = False
    """What a server has saved counts after its restart, too."""


STRICT = Protocol()
WATCHED = replace(STRICT, watches=True)
STRICT_OUTBOX = replace(STRICT, resolver=False, outbox=True, pinned=False)
MEMCACHED = replace(STRICT, blind=True, resolver=False, outbox=True, pinned=False)
PROCESS_MEMORY = replace(STRICT, resolver=False)
WATCHED_OUTBOX = replace(STRICT_OUTBOX, watches=True)
FAST = replace(STRICT, marks=False, values=False, resolver=False)

PUT_AFTER_COMMIT = replace(FAST, unleased=True, put=True)
DELETE_AFTER_COMMIT = replace(FAST, unleased=True)
PUT_EARLY = replace(PUT_AFTER_COMMIT, early=True)
