"""What is said of a server whose settings endanger what is promised."""

from collections.abc import Mapping
from typing import Any


def worst_policy(facts: Mapping[str, Any]) -> str | None:
    """Give the policy of a server, or of the node that is worst for markers."""
    if "maxmemory_policy" in facts:
        return str(facts["maxmemory_policy"])
    policies = [str(node["maxmemory_policy"]) for node in facts.values() if isinstance(node, dict) and "maxmemory_policy" in node]
    return max(policies, key=lambda policy: policy.startswith("allkeys"), default=None)


def silence(refusal: str, channel: bytes) -> str:
    """Say what a refusal to publish means; where the message could be counted, the others empty their memory instead."""
    return (
        f"its user may not publish on {channel.decode()!r} ({refusal}), so that memory in other processes is not told of what is written "
        "here, and may show what is old; allow it PUBLISH and INCR, &stockstore* and ~stockstore~*"
    )
