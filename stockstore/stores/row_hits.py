"""Batches of hits on mapped rows in process memory, in passes that the interpreter runs fast.

Where not everything is the plain case it gives ``None`` or raises KeyError, and the caller goes the longer way.
"""

from typing import TYPE_CHECKING, Any

from stockstore.keys import Native
from stockstore.mapped import MappedPlan, OtherShapeError, bypasses, plan_of
from stockstore.stores.hits import any_over

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from stockstore.backends.local_nodes import Node


def rows(cls: type, cells: "dict[Native, Node[Native, Any]]", values: list[Any], session: "Session | None") -> list[Any] | None:
    """Give an object for each primary key where all are hits of one mapped class."""
    plan = plan_of(cls)
    nodes = [cells[value] for value in values]
    if any_over([node.expires for node in nodes]) or (session is not None and bypasses(session, plan.root, None)):
        return None
    payloads = [node.value for node in nodes]
    if None in payloads:
        return None
    states = plan.unpack_all(payloads)
    whole = states is not None
    if states is None:
        states = _one_by_one(plan, payloads)
    if states is None:
        return None
    for node in nodes:
        node.hits += 1
    if session is None:
        return list(map(plan.hydrate, states))
    return (plan.attach_whole if whole else plan.attach_many)(session, states)


def _one_by_one(plan: MappedPlan, payloads: list[Any]) -> list[Any] | None:
    try:
        unpacked = list(map(plan.unpack, payloads))
    except OtherShapeError:
        return None
    return [state for _, state in unpacked] if all(found is plan for found, _ in unpacked) else None
