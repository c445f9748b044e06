"""Rows by their keys: one statement for any number of keys of one sort."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, inspect, literal, or_, select, tuple_, union_all
from sqlalchemy.orm import Mapper, Session, lazyload, with_polymorphic

from stockstore.errors import NonUniqueKeyError
from stockstore.keys import KeyPlan, Lookup, Native, class_name, keys_of
from stockstore.mapped import plan_of

# Drivers limit the parameters of a statement: SQLite to 32,766 (999 before 3.32), PostgreSQL's protocol to 65,535.
PARAMETERS: Final = 900
_MANY_PARAMETERS: Final = 20_000
_UNION_SIZE: Final = 200


def load(session: Session, cls: type, lookups: Sequence[Lookup]) -> list[object | None]:
    """Give the rows of these lookups as instances of the session, in their positions.

    Raises:
        NonUniqueKeyError: Two rows carry the same key.
    """
    found: dict[tuple[KeyPlan, Native], object] = {}
    by_plan: dict[KeyPlan, dict[Native, Lookup]] = {}
    for lookup in lookups:
        by_plan.setdefault(lookup.plan, {})[lookup.native] = lookup
    for plan, group in by_plan.items():
        for chunk in _chunks(list(group.values()), _limit(session, cls) // len(plan.names)):
            found.update(((plan, native), obj) for native, obj in _load_chunk(session, cls, plan, chunk).items())
    return [found.get((lookup.plan, lookup.native)) for lookup in lookups]


def _limit(session: Session, cls: type) -> int:
    if hasattr(session, "shard_chooser"):  # each of its databases may be another
        return PARAMETERS
    dialect = session.get_bind(cls).dialect
    old_sqlite = dialect.name == "sqlite" and dialect.dbapi is not None and dialect.dbapi.sqlite_version_info < (3, 32)
    return PARAMETERS if old_sqlite or dialect.name not in ("sqlite", "postgresql", "mysql", "mariadb") else _MANY_PARAMETERS


def _chunks(lookups: list[Lookup], size: int) -> Iterator[list[Lookup]]:
    for start in range(0, len(lookups), size):
        yield lookups[start : start + size]


def _load_chunk(session: Session, cls: type, plan: KeyPlan, lookups: Sequence[Lookup]) -> dict[Native, object]:
    asked = {lookup.native for lookup in lookups}
    found: dict[Native, object] = {}
    others: list[object] = []
    for obj in _matching(session, cls, plan, lookups):
        native = plan.native_of(obj)
        if native not in asked:
            others.append(obj)
        elif found.setdefault(native, obj) is not obj:
            raise _not_unique(cls, plan, native)
    if others:
        unanswered = [lookup for lookup in lookups if lookup.native not in found]
        found.update(_by_database_equality(session, cls, plan, unanswered, others))
    return found


def _not_unique(cls: type, plan: KeyPlan, native: Native) -> NonUniqueKeyError:
    return NonUniqueKeyError(
        f"two rows of {class_name(cls)} carry the key {plan.describe()} = {native!r}; a declared key is unique: add a unique constraint"
    )


def _by_database_equality(
    session: Session, cls: type, plan: KeyPlan, lookups: Sequence[Lookup], rows: Sequence[object]
) -> dict[Native, object]:
    """Match rows that are equal to a key by the database's rules alone: collations, padding, conversions."""
    by_identity = {_identity(obj): obj for obj in rows}
    found: dict[Native, object] = {}
    for start in range(0, len(lookups), _UNION_SIZE):
        part = lookups[start : start + _UNION_SIZE]
        for position, *identity in session.execute(_numbered(cls, plan, part)):
            native = part[position].native
            obj = by_identity.get(tuple(identity))
            if obj is not None and found.setdefault(native, obj) is not obj:
                raise _not_unique(cls, plan, native)
    return found


def _identity(obj: object) -> tuple[object, ...]:
    return tuple(inspect(obj).mapper.primary_key_from_instance(obj))


def _numbered(cls: type, plan: KeyPlan, lookups: Sequence[Lookup]) -> Any:
    keys = _mapper(cls).primary_key
    columns = [getattr(cls, name) for name in plan.names]
    parts = [
        select(literal(position), *keys).select_from(cls).where(_condition(columns, lookup)) for position, lookup in enumerate(lookups)
    ]
    return union_all(*parts)


def _matching(session: Session, cls: type, plan: KeyPlan, lookups: Sequence[Lookup]) -> Iterator[object]:
    statement, columns = _statement(cls, plan)
    exact = _values(columns, [lookup for lookup in lookups if not plan.has_none(lookup.native)])
    with_none = [lookup for lookup in lookups if plan.has_none(lookup.native)]
    if exact:
        keys = [value for (value,) in exact] if len(columns) == 1 else exact
        yield from session.scalars(statement, {"keys": keys})
    if with_none:
        entity = _entity(cls)
        columns = [getattr(entity, name) for name in plan.names]
        yield from session.scalars(_select(entity).where(or_(*(_condition(columns, lookup) for lookup in with_none))))


def _statement(cls: type, plan: KeyPlan) -> tuple[Select[Any], list[Any]]:
    """Give the statement for any number of keys, made once, and the columns of the key."""
    known, place = plan_of(cls).statements, (plan, len(_mapper(cls).self_and_descendants))
    found: tuple[Select[Any], list[Any]] | None = known.get(place)
    if found is None:
        entity = _entity(cls)
        columns = [getattr(entity, name) for name in plan.names]
        found = known[place] = (_select(entity).where(_is_in(columns)), columns)
    return found


def _is_in(columns: Sequence[Any]) -> ColumnElement[bool]:
    keys: Any = bindparam("keys", expanding=True)
    return columns[0].in_(keys) if len(columns) == 1 else tuple_(*columns).in_(keys)


def _select(entity: Any) -> Select[Any]:
    # What relationships load eagerly would be thrown away: a row is its columns.
    return select(entity).options(lazyload("*"))


def _entity(cls: type) -> Any:
    """Give what selects all columns of the subclasses too, so that no row needs a statement of its own."""
    mapper = _mapper(cls)
    below = [m.class_ for m in mapper.self_and_descendants if m is not mapper and not m.concrete]
    known = mapper.with_polymorphic
    return with_polymorphic(cls, below) if below and (known is None or known[0] != "*") else cls


def _mapper(cls: type) -> Mapper[Any]:
    return inspect(cls)


def _condition(columns: Sequence[Any], lookup: Lookup) -> ColumnElement[bool]:
    (values,) = _values(columns, [lookup])
    return and_(*(c.is_(None) if v is None else c == v for c, v in zip(columns, values, strict=True)))


def _values(columns: Sequence[Any], lookups: Sequence[Lookup]) -> list[tuple[object, ...]]:
    """Give the values to bind: of numbers that compare equal the one that a column's type takes."""
    takes_bool = [_python_type(column) is bool for column in columns]
    return [
        tuple(
            [
                value if type(part) is not int else bool(part) if boolean and part in (0, 1) else part
                for value, part, boolean in zip(lookup.values, lookup.plan.parts(lookup.native), takes_bool, strict=True)
            ]
        )
        for lookup in lookups
    ]


def _python_type(column: Any) -> type | None:
    try:
        kind: type = column.property.columns[0].type.python_type
    except NotImplementedError:
        return None
    return kind


def lookups_of_identities(cls: type, objects: Iterable[object]) -> list[Lookup]:
    """Give the lookups by which rows are found again."""
    keys = keys_of(cls)
    return [keys.lookup({name: getattr(obj, name) for name in keys.identity.names}) for obj in objects]
