"""The rows that answer a statement: in its order, and as instances."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy.ext.horizontal_shard import set_shard_id
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from stockstore.keys import KeyPlan, Native
from stockstore.mapped import FamiliarRow, MappedPlan, State
from stockstore_ext.sqlalchemy.read_through.refresh import Row, completing
from stockstore_ext.sqlalchemy.read_through.shapes import Question
from stockstore_ext.sqlalchemy.shards import Token


class Alike(NamedTuple):
    """Rows that are all of one class.

    Attributes:
        plan: The plan of the class.
        states: Their column values.
        whole: Whether it is known that none of them lacks a column.
    """

    plan: MappedPlan
    states: list[State]
    whole: bool = False


class Repeated(NamedTuple):
    """Rows that are all of one class, and were asked for before.

    Attributes:
        plan: The plan of the class.
        rows: They.
    """

    plan: MappedPlan
    rows: list[FamiliarRow]


Found: TypeAlias = Alike | Repeated | list[Row]


def found_alike(plan: MappedPlan, payloads: Sequence[bytes]) -> Alike | Repeated | None:
    """Give the rows of payloads that are all plain rows of one class, else ``None``."""
    familiar = plan.familiar.find(payloads)
    if familiar is not None:
        return Repeated(plan, familiar)
    states = plan.unpack_all(payloads)
    if states is None:
        return None
    plan.familiar.note(payloads, states)
    return Alike(plan, states, whole=True)


def found_in(rows: list[Row]) -> Found:
    """Take rows together where they are all of one class."""
    plans = {plan for plan, _ in rows}
    return Alike(plans.pop(), [state for _, state in rows]) if len(plans) == 1 else rows


def in_order(found: Found, question: Question) -> Found | None:
    """Sort the rows as a statement says, or else by the primary key; ``None``: one lacks what they are sorted by."""
    if question.sorted and not question.order:
        return found
    try:
        return _in_order(found, question)
    except TypeError:  # nothing that may be an order has values without one, except those of columns that were not loaded
        return None


def _in_order(found: Found, question: Question) -> Found:
    if isinstance(found, Alike):
        return found._replace(states=_states_in_order(found, question))
    if isinstance(found, Repeated):
        return found._replace(rows=_familiar_in_order(found.rows, question))
    if not question.order:
        return _by(_primary_key, found)
    for name, descending in reversed(question.order):
        found.sort(key=_value_of(name), reverse=descending)
    return found


def attached(session: Session, found: Found, token: Token = None) -> list[Any]:
    """Give the instances of rows, and set what those lack that are in the session already: so does a SELECT that finds their rows."""
    if isinstance(found, Alike):
        attach = found.plan.attach_whole if found.whole else found.plan.attach_many
        return attach(session, found.states, completing(found.plan), token)
    if isinstance(found, Repeated):
        return found.plan.attach_familiar(session, found.rows, completing(found.plan), token)
    # One by one, so that events come in the order of the rows.
    return [plan.attach_many(session, [state], completing(plan), token)[0] for plan, state in found]


def attached_on_shard(session: Session, found: Found, token: Token, options: tuple[set_shard_id, ...]) -> list[Any]:
    """Do as :func:`attached`, and let loads from what is new here follow the options of the statement."""
    if not options:
        return attached(session, found, token)
    present = set(session.identity_map.all_states())
    instances = attached(session, found, token)
    for state in map(instance_state, instances):
        if state not in present:
            state.load_options, state.load_path = options, state.mapper._path_registry  # noqa: SLF001 - as a load does
    return instances


def keys_in_front(found: Found, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Give the values of these attributes, or else of the primary key, for each row."""
    if isinstance(found, Alike):
        of_one = _values_at(found.plan, names or found.plan.primary_key)
        return list(map(of_one, found.states))
    if isinstance(found, Repeated):
        return [tuple([row.values[name] for name in names]) if names else row.key[1] for row in found.rows]
    return [_values_at(plan, names or plan.primary_key)(state) for plan, state in found]


def all_carry(found: Found, name: str, value: object) -> bool:
    """Whether rows have a value of one attribute."""
    return all([carried == value for carried in carried_by(found, name)])  # noqa: C419 - twice as fast as a generator


def carried_by(found: Found, name: str) -> list[Any]:
    """Give the values of one attribute."""
    if isinstance(found, Repeated):
        return [values[name] for values, _, _ in found.rows]
    if isinstance(found, Alike):
        at = found.plan.attrs.index(name)
        return [state[at] for state in found.states]
    return [state[plan.attrs.index(name)] for plan, state in found]


def alias_keys(found: Found, plans: Sequence[KeyPlan]) -> list[tuple[Native | None, ...]]:
    """Give what rows have of keys, for each row in the order of these; ``None`` where a part of one is NULL."""
    count = len(found.rows) if isinstance(found, Repeated) else len(found.states) if isinstance(found, Alike) else len(found)
    return list(zip(*[_natives(found, plan) for plan in plans], strict=True)) if plans else [()] * count


def _natives(found: Found, plan: KeyPlan) -> list[Native | None]:
    natives = map(plan.native, zip(*[carried_by(found, name) for name in plan.names], strict=True))
    return [None if plan.has_none(native) else native for native in natives]


def _familiar_in_order(rows: list[FamiliarRow], question: Question) -> list[FamiliarRow]:
    if not question.order:
        return _by(lambda row: row.key[1], rows)
    for name, descending in reversed(question.order):
        if descending or not _are_sorted([row.values[name] for row in rows]):
            rows.sort(key=lambda row: row.values[name], reverse=descending)
    return rows


def _states_in_order(found: Alike, question: Question) -> list[State]:
    plan, states = found.plan, found.states
    if not question.order:
        return _by(_values_at(plan, plan.primary_key), states)
    for name, descending in reversed(question.order):
        states.sort(key=itemgetter(plan.attrs.index(name)), reverse=descending)
    return states


def _are_sorted(values: list[Any]) -> bool:
    """Whether there is nothing to be done, as with most lists, which are kept in the order of their keys."""
    return values == sorted(values)


def _by(key: Callable[[Any], Any], rows: list[Any]) -> list[Any]:
    try:
        return sorted(rows, key=key)
    except TypeError:  # of values without an order, such as enums
        return rows


def _values_at(plan: MappedPlan, names: Sequence[str]) -> Callable[[State], tuple[Any, ...]]:
    places = [plan.attrs.index(name) for name in names]
    if len(places) > 1:
        return itemgetter(*places)
    place = places[0]
    return lambda state: (state[place],)


def _primary_key(row: Row) -> tuple[Any, ...]:
    plan, state = row
    return _values_at(plan, plan.primary_key)(state)


def _value_of(name: str) -> Callable[[Row], Any]:
    return lambda row: row[1][row[0].attrs.index(name)]
