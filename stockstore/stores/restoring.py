"""Snapshots made into objects again, detached or of a session."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from stockstore.stores.snapshots import ObjectSnapshot, RowSnapshot, Snapshot

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from stockstore.mapped import MappedPlan


def restore_all(snapshots: Sequence[Snapshot | None], session: "Session | None") -> list[object | None]:
    """Give the objects of snapshots, in their positions; a snapshot that stands twice gives one object."""
    if session is not None and (plan := _only_plan(snapshots)) is not None:
        return plan.attach_many(session, [row.state for row in cast("Sequence[RowSnapshot]", snapshots)])
    distinct = {id(snapshot): snapshot for snapshot in snapshots if snapshot is not None}
    objects = _attach_all(distinct, session) if session is not None else {key: snapshot.restore() for key, snapshot in distinct.items()}
    return [None if snapshot is None else objects[id(snapshot)] for snapshot in snapshots]


def _only_plan(snapshots: Sequence[Snapshot | None]) -> "MappedPlan | None":
    """Give the plan where there are rows of one class alone, each once."""
    if len(set(map(id, snapshots))) < len(snapshots) or set(map(type, snapshots)) != {RowSnapshot}:
        return None
    plans = {row.plan for row in cast("Sequence[RowSnapshot]", snapshots)}
    return plans.pop() if len(plans) == 1 else None


def _attach_all(snapshots: Mapping[int, Snapshot], session: "Session") -> dict[int, object]:
    objects = {key: snapshot.value for key, snapshot in snapshots.items() if isinstance(snapshot, ObjectSnapshot)}
    by_plan: dict[MappedPlan, dict[int, RowSnapshot]] = {}
    for key, snapshot in snapshots.items():
        if isinstance(snapshot, RowSnapshot):
            by_plan.setdefault(snapshot.plan, {})[key] = snapshot
    for plan, rows in by_plan.items():
        objects.update(zip(rows, plan.attach_many(session, [row.state for row in rows.values()]), strict=True))
    return objects
