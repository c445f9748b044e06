"""What happens in a store, as hooks are told of it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal[
    "hit",
    "miss",
    "bypass",
    "fill",
    "refused fill",
    "mark",
    "release",
    "keep",
    "invalidate",
    "hear",
    "flush",
    "resolve",
    "owe",
    "drain",
    "outbox lag",
]


@dataclass(frozen=True)
class Event:
    """One thing that happened, to any number of objects of one class.

    Attributes:
        kind: What happened; the guide's page on metrics has a line for each.
        store: The store, without passwords; for the janitor the database.
        cls: The class under whose name the objects are kept, such as ``"shop.User"``: the root of a mapped hierarchy; or ``""``.
        count: How many objects, key places or rows.
        reason: Why, where there is more than one answer; otherwise ``""``.
        seconds: The age of the oldest row that waits in an outbox; 0 for every other kind.

    >>> Event("bypass", "RedisStore('redis://localhost')", "shop.User", 3, "marked").count
    3
    """

    kind: Kind
    store: str
    cls: str = ""
    count: int = 1
    reason: str = ""
    seconds: float = 0.0
