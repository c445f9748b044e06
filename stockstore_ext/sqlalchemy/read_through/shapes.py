# ruff: noqa: SLF001 - what a statement consists of has no public names
"""Recognises the statements that ask for rows by a key.

The structure itself is read, with no cache key computed: for what is recognised, and still more for what is not, that is several times
faster than SQLAlchemy's own key of the statement, and tells the same. Whatever is not known here to leave the rows and their
order as they are is not recognised: the database answers it. The private names of SQLAlchemy are pinned by
``tests/read_through/test_private_names.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import and_, eq
from typing import Any, Final, NamedTuple

from sqlalchemy.sql.expression import Select
from sqlalchemy.sql.operators import in_op

from stockstore.errors import CodecError
from stockstore.keys import Lookup
from stockstore_ext.sqlalchemy.read_through.batches import Batch
from stockstore_ext.sqlalchemy.read_through.entities import Entity, KeyForm, entity_selected, unannotated
from stockstore_ext.sqlalchemy.read_through.parts import Order, order_of

_EXACT: Final = {int}, {str}


class Question(NamedTuple):
    """What a statement asks for.

    Attributes:
        entity: The class.
        lookups: The keys, each once, those of the primary key in its order where that is known to be cheap.
        sorted: Whether they are.
        order: What the rows are to be sorted by, where the statement tells and they are not yet.
        paired: Whether each row begins with the primary key, or the values of the index, as SQLAlchemy's loader of relationships has it.
        listed: The names of the index that the keys are of, in the order of the statement; none where they are keys.
    """

    entity: Entity
    lookups: Sequence[Lookup]
    sorted: bool
    order: Order
    paired: bool
    listed: tuple[str, ...]


class _Condition(NamedTuple):
    form: KeyForm
    binds: tuple[Any, ...]
    names: tuple[str, ...]
    """In the order of the statement."""
    many: bool


def _nobody(_cls: type) -> bool:
    return False


def recognise(
    statement: "Select[Any]", parameters: Mapping[str, Any] | Sequence[Any] | None, refuses: Callable[[type], object] = _nobody
) -> Question | None:
    """Tell what a statement asks for, ``None`` where it is none of those that can be answered by keys, or its class is refused."""
    criteria, columns = statement._where_criteria, statement._raw_columns
    entity = entity_selected(columns[-1]) if criteria else None
    if entity is None:
        return None
    condition = _condition(entity, criteria)
    if condition is None or refuses(entity.cls):
        return None
    order = order_of(statement, entity, many=condition.many or condition.form.is_index)
    paired = len(columns) > 1
    if order is None or (paired and not _is_paired(entity, condition, columns)):
        return None
    lookups = _lookups(condition, parameters)
    listed = condition.names if condition.form.is_index else ()
    if lookups is None:
        return None
    ready = _is_sorted(condition, lookups)
    return Question(entity, lookups, ready, () if ready and order == entity.by_key else order, paired, listed)


# -- criteria ---------------------------------------------------------------------------------------


def _condition(entity: Entity, criteria: Sequence[Any]) -> _Condition | None:
    first = criteria[0]
    if len(criteria) == 1:
        if first.__visit_name__ == "expression_clauselist" and first.operator is and_:
            criteria = first.clauses
        elif first.__visit_name__ == "binary":
            return _membership(entity, first) if first.operator is in_op else _equality(entity, first)
    return _equalities(entity, criteria)


def _equality(entity: Entity, criterion: Any) -> _Condition | None:
    """Do as :func:`_equalities` for one of them, which most statements have."""
    if criterion.operator is not eq:
        return None
    column, value = criterion.left, criterion.right
    if column.__visit_name__ == "bindparam":  # as a lazy load of a collection has it
        column, value = value, column
    name = _name(entity, column)
    form = None if name is None else entity.alone.get(name)
    if form is None or not _is_value(value, form.types[0]):
        return None
    return _Condition(form, (value,), form.plan.names, many=False)


def _equalities(entity: Entity, criteria: Sequence[Any]) -> _Condition | None:
    binds: dict[str, Any] = {}
    for criterion in criteria:
        if criterion.__visit_name__ != "binary" or criterion.operator is not eq:
            return None
        column, value = criterion.left, criterion.right
        if column.__visit_name__ == "bindparam":  # as a lazy load of a collection has it
            column, value = value, column
        name = _name(entity, column)
        if name is None or name in binds:
            return None
        binds[name] = value
    form = entity.forms.get(frozenset(binds))
    if form is None:
        return None
    names = form.plan.names
    given = tuple([binds[name] for name in names])
    fits = all(map(_is_value, given, form.types))
    return _Condition(form, given, names, many=False) if fits else None


def _membership(entity: Entity, criterion: Any) -> _Condition | None:
    left, bind = criterion.left, criterion.right
    if bind.__visit_name__ != "bindparam" or not bind.expanding or bind.callable is not None:
        return None
    if left.__visit_name__ == "column":
        name = _name(entity, left)
        form = entity.forms.get(frozenset((name,)))  # type: ignore[arg-type]
        return _Condition(form, (bind,), form.plan.names, many=True) if form is not None and bind.type in form.types[0] else None
    return _tuples(entity, left.clauses, bind) if left.__visit_name__ == "tuple" else None


def _tuples(entity: Entity, columns: Sequence[Any], bind: Any) -> _Condition | None:
    names, types = tuple([_name(entity, column) for column in columns]), getattr(bind.type, "types", ())
    form = entity.forms.get(frozenset(names))  # type: ignore[arg-type]
    if form is None or not len(names) == len(form.types) == len(types):
        return None
    wanted: dict[str | None, Any] = dict(zip(form.plan.names, form.types, strict=True))
    fits = all(given in wanted[name] for given, name in zip(types, names, strict=True))
    return _Condition(form, (bind,), names, many=True) if fits else None  # type: ignore[arg-type]


def _name(entity: Entity, column: Any) -> str | None:
    """Give the attribute of a key that a column is of, unless it is another's, such as an alias's."""
    if column.__visit_name__ != "column":
        return None
    parent = column._annotations.get("parententity")
    if parent is not None and parent is not entity.mapper:
        return None
    return entity.names.get(unannotated(column))


def _is_value(bind: Any, types: tuple[Any, ...]) -> bool:
    """Whether it is a value that the database is given as the column's own type would give it."""
    return bind.__visit_name__ == "bindparam" and bind.type in types and bind.callable is None and not bind.expanding


# -- values -----------------------------------------------------------------------------------------


def _lookups(condition: _Condition, parameters: Mapping[str, Any] | Sequence[Any] | None) -> Sequence[Lookup] | None:
    if parameters:
        if not isinstance(parameters, Mapping) or not parameters.keys() <= {
            bind.key for bind in condition.binds if not bind.unique or condition.form.is_index
        }:
            return None
    else:
        parameters = {}
    values = tuple([parameters.get(bind.key, bind.value) for bind in condition.binds])
    try:
        return _many(condition, values[0]) if condition.many else _one(condition.form, values)
    except CodecError:
        return None


def _one(form: KeyForm, values: tuple[Any, ...]) -> Sequence[Lookup] | None:
    # What NULL equals is left to the database, and so is a parameter that was not given.
    return None if None in values else [Lookup(form.plan, form.plan.native(values), values)]


def _many(condition: _Condition, values: Any) -> Sequence[Lookup] | None:
    """Give the lookups of a list of values; what contains NULL is in no list."""
    plan = condition.form.plan
    if not isinstance(values, (list, tuple, set, frozenset)):
        return None
    if len(plan.names) == 1:
        if set(map(type, values)) in _EXACT:
            return Batch(plan, sorted(set(values)))
        keys = [(value,) for value in values if value is not None]
    else:
        places = [condition.names.index(name) for name in plan.names]
        if not all(isinstance(value, (tuple, list)) and len(value) == len(places) for value in values):
            return None
        keys = [tuple([value[at] for at in places]) for value in values if None not in value]
    found = {native: Lookup(plan, native, key) for native, key in ((plan.native(key), key) for key in keys)}
    return [found[native] for native in (sorted(found) if set(map(type, found)) in _EXACT else found)]


def _is_sorted(condition: _Condition, lookups: Sequence[Lookup]) -> bool:
    return condition.form.is_identity and (
        type(lookups) is Batch or not lookups[1:] or set(map(type, [lookup.native for lookup in lookups])) in _EXACT
    )


def _is_paired(entity: Entity, condition: _Condition, columns: Sequence[Any]) -> bool:
    bundle = columns[0]._annotations.get("bundle")
    first = columns[:-1] if bundle is None else bundle.exprs
    if condition.form.is_index:
        return tuple([_name(entity, column) for column in first]) == condition.names
    primary_key = entity.mapper.primary_key
    return len(first) == len(primary_key) and all(mine is its for mine, its in zip(first, primary_key, strict=True))
