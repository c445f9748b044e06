"""What the library gives up soon, and tests do not: on a busy machine a server, or the test itself, may stand still for a second."""

from typing import Any

from stockstore import MemcacheStore, ProcessMemoryStore, RedisStore, ThreadLocalStore
from stockstore.backends import MemcacheBackend, RedisBackend
from stockstore.channels import redis, subscription
from stockstore.stores.tiers import hearing
from tests.servers import frozen
from tests.servers.clients import be_patient_with_what_runs

SECONDS = frozen.PATIENCE
SHORT = 0.5
"""Seconds that a test waits for a server that it has frozen itself."""
OWN: dict[type, dict[str, Any]] = {}
"""What the library's constructors take by default where no test runs."""
_WAITS = {"connect_timeout", "read_timeout", "timeout", "max_staleness"}


def be_patient() -> None:
    """Wait for servers, and believe memory, where a test does not say for how long, and wait for a channel's first subscription."""
    if OWN:
        return
    patient: Any = hearing, redis, subscription
    for module, name in zip(patient, ("START", "TIMEOUT", "SILENCE"), strict=True):
        setattr(module, name, SECONDS)
    for maker in (RedisStore, RedisBackend, MemcacheStore, MemcacheBackend, ProcessMemoryStore, ThreadLocalStore):
        defaults = maker.__init__.__kwdefaults__
        assert defaults is not None
        OWN[maker] = dict(defaults)
        defaults.update(dict.fromkeys(_WAITS & defaults.keys(), SECONDS))
    be_patient_with_what_runs()
