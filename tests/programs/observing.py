"""What can be seen of sessions and objects, in a form in which two runs compare."""

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, inspect
from sqlalchemy.orm import Session

from stockstore import StockstoreError

Held = Sequence[Any]
_LOCKED: Final = "55P03"
_REFUSALS: Final = ("25006", "40001")


def shown(value: Any, held: Held = ()) -> Any:  # noqa: PLR0911 - one for each sort of value
    """Give a value so that equal ones are equal, whatever run they are of: an instance by its class, identity and place among those held."""
    if hasattr(value, "_sa_instance_state"):
        place = next((at for at, one in enumerate(held) if one is value), None)
        return type(value).__name__, inspect(value).identity, place
    if isinstance(value, Row):
        return "row", tuple(value._fields), *(shown(part, held) for part in value)
    if isinstance(value, Mapping):
        return type(value).__name__, {str(key): shown(part, held) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(part, held) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted((shown(part, held) for part in value), key=repr)
    if isinstance(value, enum.Enum):
        return str(value)
    return value


def error(raised: BaseException) -> Any:
    """Give what an error is, without its text."""
    cause = raised.__cause__ if isinstance(raised, StockstoreError) else raised
    orig = getattr(cause, "orig", None)
    state = _LOCKED if any(told in str(orig) for told in ("locked", "Lock wait", "Deadlock")) else getattr(orig, "sqlstate", None)
    return "error", type(raised).__name__, type(orig).__name__, state


def is_error(result: Any) -> bool:
    """Whether that is an error."""
    return isinstance(result, tuple) and result[0] == "error"


def is_of_lock(result: Any) -> bool:
    """Whether that is an error about a lock that another session has."""
    return is_error(result) and result[-1] == _LOCKED


def is_of_refusal(result: Any) -> bool:
    """Whether that is the error of a write in a transaction that may not write, or not what others have changed since its snapshot."""
    return is_error(result) and result[-1] in _REFUSALS


def session_state(session: Session, held: Held) -> dict[str, Any]:
    """Give all that a session shows of itself and of the objects that are held of it."""
    return {
        "identities": sorted(map(repr, session.identity_map.keys())),
        "new": _sorted(session.new, held),
        "dirty": _sorted(session.dirty, held),
        "deleted": _sorted(session.deleted, held),
        "in transaction": (session.in_transaction(), session.in_nested_transaction(), session.is_active),
        "objects": [object_state(obj, held) for obj in held],
    }


def object_state(obj: Any, held: Held) -> dict[str, Any]:
    """Give all that an object shows without being loaded."""
    state: Any = inspect(obj)
    flags = [name for name in ("transient", "pending", "persistent", "deleted", "detached") if getattr(state, name)]
    unordered = {rel.key for rel in state.mapper.relationships if rel.uselist and not rel.order_by}
    values = {name: shown(value, held) for name, value in sorted(vars(obj).items()) if name != "_sa_instance_state"}
    for name in unordered & set(values):
        values[name] = sorted(values[name], key=repr)
    return {
        "object": shown(obj, held),
        "flags": flags,
        "key": repr(state.key),
        "expired": (state.expired, sorted(state.expired_attributes)),
        "modified": (state.modified, sorted(state.committed_state), sorted(getattr(state, "_pending_mutations", ()))),
        "unloaded": sorted(state.unloaded),
        "values": values,
    }


def _sorted(objects: Any, held: Held) -> list[Any]:
    return sorted((shown(obj, held) for obj in objects), key=repr)
