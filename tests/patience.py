"""What the library gives up soon, and tests do not: on a busy machine a server that is well may take a second to answer."""

from typing import Any

from stockstore import MemcacheStore, RedisStore
from stockstore.backends import MemcacheBackend, RedisBackend
from stockstore.channels import redis, subscription
from stockstore.stores.tiers import local

SECONDS = 10.0
SHORT = 0.5
"""Seconds that a test waits for a server that it has frozen itself."""
_WAITS = {"connect_timeout", "read_timeout", "timeout"}


def be_patient() -> None:
    """Wait for servers, where a test does not say for how long, and for a channel's first subscription."""
    patient: Any = local, redis, subscription
    for module, name in zip(patient, ("START", "TIMEOUT", "SILENCE"), strict=True):
        setattr(module, name, SECONDS)
    for maker in (RedisStore, RedisBackend, MemcacheStore, MemcacheBackend):
        defaults = maker.__init__.__kwdefaults__
        assert defaults is not None
        defaults.update(dict.fromkeys(_WAITS & defaults.keys(), SECONDS))
