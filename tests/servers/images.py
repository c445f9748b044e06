"""The servers' image tags, which stand in docker-compose.yml only."""

import re
from pathlib import Path

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


def image(name: str) -> str:
    """Give the pinned image of `redis`, `memcached` or `postgres`."""
    found = re.search(rf"^\s+image: ({name}:\S+)$", COMPOSE.read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"docker-compose.yml pins no image {name!r}")
    return found[1]
