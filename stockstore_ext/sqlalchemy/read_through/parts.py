# ruff: noqa: SLF001 - what a statement consists of has no public names
"""What a statement consists of beside its criteria: whether that leaves the rows as they are, and what they are sorted by."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.ext.horizontal_shard import set_shard_id
from sqlalchemy.orm import Load
from sqlalchemy.sql.operators import asc_op, desc_op

from stockstore_ext.sqlalchemy.read_through.entities import Entity, entity_selected, unannotated

_HARMLESS: Final = frozenset(
    (
        "_execution_options",  # judged where it is executed
        "_is_clone_of",
        "_label_style",
        "_order_by",
        "_propagate_attrs",
        "_raw_columns",
        "_where_criteria",
        "dispatch",
        # What SQLAlchemy has computed of the statement and kept.
        "_all_selected_columns",
        "_generate_cache_key",
        "_memoized_keys",
        "dialect_options",
        "selected_columns",
        # What a query of a sharded session has besides, whose shard was chosen by now.
        "_shard_id",
        "execute_chooser",
        "identity_chooser",
    )
)
"""What a statement may consist of without another look."""

_FUNCTIONS: Final = frozenset(("_compile_state_funcs", "_with_context_options"))
"""What is to be done as a statement is compiled, by the names of SQLAlchemy 2.1 and 2.0."""

# Values are of any type: the columns decide.
Order = tuple[tuple[str, bool], ...]
"""Attributes to sort by, each with whether it is descending."""


def order_of(statement: Any, entity: Entity, *, many: bool) -> Order | None:
    """Give what the rows are sorted by; ``None`` where something might make them others."""
    parts: dict[str, Any] = statement.__dict__
    order: Order | None = ()
    for name in parts.keys() - _HARMLESS:
        value = parts[name]
        if value is None:
            continue
        if name == "_order_by_clauses":
            order = _order(entity, value, many=many)
        elif name == "_compile_options":
            order = order if _compiles_plainly(value) else None
        elif name == "_with_options":
            order = order if _end_above(value, statement._compile_options) else None
        elif name == "_from_obj":
            order = order if [entity_selected(each) for each in value] == [entity] else None
        elif name in _FUNCTIONS:
            order = order if all(_is_a_lazy_loads(part[0]) for part in value) else None
        elif name == "_limit_clause":
            order = order if not many and _is_limit(value) else None
        else:
            return None
        if order is None:
            return None
    return order


def _is_a_lazy_loads(function: Any) -> bool:
    """Whether it is that of a lazy load of a collection, which is about eager relationships back to its parent; no class with such is served."""
    return bool(function.__module__ == "sqlalchemy.orm.strategies" and function.__name__ == "_lazyload_reverse")


def _is_limit(clause: Any) -> bool:
    return clause.__visit_name__ == "bindparam" and type(clause.value) is int and clause.value > 0


def _order(entity: Entity, clauses: Sequence[Any], *, many: bool) -> Order | None:
    found = []
    for clause in clauses:
        column, descending = clause, False
        if clause.__visit_name__ == "unary" and clause.modifier in (asc_op, desc_op):
            column, descending = clause.element, clause.modifier is desc_op
        if column.__visit_name__ != "column" or column._annotations.get("parententity", entity.mapper) is not entity.mapper:
            return None
        name, ordered = entity.orders.get(unannotated(column), ("", False))
        if not name or (many and not ordered):
            return None
        found.append((name, descending))
    return tuple(found)


def _compiles_plainly(options: Any) -> bool:
    if getattr(options, "_only_load_props", None) is not None:
        return False
    odd = ("_set_base_alias", "_for_statement", "_for_refresh_state", "_render_for_subquery", "_is_star")
    return not any(getattr(options, name, False) for name in odd) and getattr(options, "_enable_single_crit", True)


def _end_above(options: Sequence[Any], compile_options: Any) -> bool:
    """Whether loader options are about what was loaded before, of which this statement loads a relationship, and about nothing below it."""
    current = getattr(compile_options, "_current_path", None)
    path = () if current is None else current.path
    return all(
        type(option) is set_shard_id or (type(option) is Load and all(_ends(element, path) for element in option.context))
        for option in options
    )


def _ends(element: Any, path: Sequence[Any]) -> bool:
    tokens = element.path.path
    if not path or isinstance(tokens[0], str) or element._extra_criteria or element.local_opts.get("recursion_depth") is not None:
        return False
    if len(tokens) <= len(path) + 1:
        return not isinstance(tokens[-1], str) or len(tokens) <= len(path)
    # At odd places stand the relationships: another one leads elsewhere.
    return any(_key(tokens[at]) != path[at].key for at in range(1, min(len(tokens), len(path)), 2))


def _key(token: Any) -> str:
    return token if isinstance(token, str) else str(token.key)
