"""Rows by their keys: one statement for any number of keys of one sort."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from sqlalchemy import ColumnElement, Select, and_, bindparam, inspect, literal, or_, select, tuple_, union_all
from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.orm import Mapper, Session, lazyload, selectin_polymorphic, with_polymorphic

from stockstore.errors import NonUniqueKeyError, StockstoreError
from stockstore.keys import IndexPlan, KeyPlan, ListLookup, Lookup, Native, class_name, keys_of
from stockstore.mapped import plan_of
from stockstore.mapped.parameters import PARAMETERS, chunks, key_limit
from stockstore.mapped.stored import keeps_list

_UNION_SIZE: Final = 200
_OR_SIZE: Final = 500  # SQLite takes a condition of 1,000 parts at the most

_AnyLookup: TypeAlias = Lookup | ListLookup


@contextmanager
def values_read() -> Iterator[None]:
    """Tell of a type that cannot take what a column holds, and of a row that is of no class, as SQLAlchemy tells of what cannot be sent."""
    try:
        yield
    except (StockstoreError, SQLAlchemyError):
        raise
    except (LookupError, TypeError, ValueError, AssertionError) as error:
        if isinstance(error, AssertionError) and not str(error).startswith("No such polymorphic_identity"):
            raise  # of a listener of the application
        raise StatementError(str(error), None, None, error) from error


@values_read()
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
        for chunk in chunks(list(group.values()), _limit(session, cls, len(plan.names))):
            found.update(((plan, native), obj) for native, obj in _load_chunk(session, cls, plan, chunk).items())
    return [found.get((lookup.plan, lookup.native)) for lookup in lookups]


def _limit(session: Session, cls: type, width: int) -> int:
    if hasattr(session, "shard_chooser"):  # each of its databases may be another
        return PARAMETERS // width
    return key_limit(session.get_bind(cls).dialect, width)


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


@values_read()
def load_lists(session: Session, cls: type, lookups: Sequence[ListLookup]) -> list[list[Any]]:
    """Give the rows of lists as instances of the session, each ordered by its primary keys; one statement for those of one index.

    A list by values that the database may take for equal to others takes a statement of its own.
    """
    found: dict[tuple[IndexPlan, Native], list[Any]] = {}
    dialect = None if hasattr(session, "shard_chooser") else session.get_bind(cls).dialect
    for plan, chunk in _by_index(session, cls, lookups):
        alone = [lookup for lookup in chunk if dialect is None or not keeps_list(plan, lookup.values, dialect)]
        for obj in _matching(session, cls, plan, [lookup for lookup in chunk if lookup not in alone], ordered=True):
            found.setdefault((plan, plan.native_of(obj)), []).append(obj)
        for lookup in alone:
            found[plan, lookup.native] = list(_matching(session, cls, plan, [lookup], ordered=True))
    return [found.get((lookup.plan, lookup.native), []) for lookup in lookups]


@values_read()
def load_members(session: Session, lookups: Sequence[ListLookup]) -> list[tuple[tuple[object, ...], ...]]:
    """Give the primary keys of lists, whose values the database tells apart as Python does, in its order."""
    found: dict[tuple[IndexPlan, Native], list[tuple[object, ...]]] = {}
    for plan, chunk in _by_index(session, lookups[0].plan.owner, lookups):
        width = len(plan.names)
        for statement, parameters in _members_statements(plan, chunk):
            for row in session.execute(statement, parameters):
                found.setdefault((plan, plan.native(row[:width])), []).append(tuple(row[width:]))
    return [tuple(found.get((lookup.plan, lookup.native), ())) for lookup in lookups]


def _by_index(session: Session, cls: type, lookups: Sequence[ListLookup]) -> Iterator[tuple[IndexPlan, Sequence[ListLookup]]]:
    groups: dict[IndexPlan, dict[Native, ListLookup]] = {}
    for lookup in lookups:
        groups.setdefault(lookup.plan, {})[lookup.native] = lookup
    for plan, group in groups.items():
        for chunk in chunks(list(group.values()), _limit(session, cls, len(plan.names))):
            yield plan, chunk


def _members_statements(plan: IndexPlan, lookups: Sequence[ListLookup]) -> Iterator[tuple[Select[Any], dict[str, Any]]]:
    cls, keys = plan.owner, keys_of(plan.owner).identity.names
    columns = [getattr(cls, name) for name in plan.names]
    wanted = select(*columns, *(getattr(cls, name) for name in keys)).order_by(*_mapper(cls).primary_key)
    exact, with_none = _parted(plan, lookups)
    if exact:
        known = plan_of(cls).statements
        statement = known.setdefault((plan, "members"), wanted.where(_is_in(columns)))
        yield statement, _bound(columns, exact)
    for part in chunks(with_none, _OR_SIZE):
        yield wanted.where(or_(*(_condition(columns, lookup) for lookup in part))), {}


def _parted(plan: KeyPlan, lookups: Sequence[_AnyLookup]) -> tuple[list[_AnyLookup], list[_AnyLookup]]:
    exact = [lookup for lookup in lookups if not plan.has_none(lookup.native)]
    return exact, [lookup for lookup in lookups if plan.has_none(lookup.native)]


def _bound(columns: Sequence[Any], lookups: Sequence[_AnyLookup]) -> dict[str, Any]:
    values = _values(columns, lookups)
    return {"keys": [value for (value,) in values] if len(columns) == 1 else values}


def _identity(obj: object) -> tuple[object, ...]:
    return tuple(inspect(obj).mapper.primary_key_from_instance(obj))


def _numbered(cls: type, plan: KeyPlan, lookups: Sequence[Lookup]) -> Any:
    keys = _mapper(cls).primary_key
    columns = [getattr(cls, name) for name in plan.names]
    parts = [
        select(literal(position), *keys).select_from(cls).where(_condition(columns, lookup)) for position, lookup in enumerate(lookups)
    ]
    return union_all(*parts)


def _matching(session: Session, cls: type, plan: KeyPlan, lookups: Sequence[_AnyLookup], *, ordered: bool = False) -> Iterator[object]:
    statement, columns = _statement(cls, plan, ordered)
    exact, with_none = _parted(plan, lookups)
    if exact:
        yield from session.scalars(statement, _bound(columns, exact))
    for part in chunks(with_none, _OR_SIZE):
        entity = _entity(cls)
        columns = [getattr(entity, name) for name in plan.names]
        yield from session.scalars(_select(entity, ordered).where(or_(*(_condition(columns, lookup) for lookup in part))))


def _statement(cls: type, plan: KeyPlan, ordered: bool) -> tuple[Select[Any], list[Any]]:
    """Give the statement for any number of keys, made once, and the columns of the key."""
    known, place = plan_of(cls).statements, (plan, len(_mapper(cls).self_and_descendants))
    found: tuple[Select[Any], list[Any]] | None = known.get(place)
    if found is None:
        entity = _entity(cls)
        columns = [getattr(entity, name) for name in plan.names]
        found = known[place] = (_select(entity, ordered).where(_is_in(columns)), columns)
    return found


def _is_in(columns: Sequence[Any]) -> ColumnElement[bool]:
    keys: Any = bindparam("keys", expanding=True)
    return columns[0].in_(keys) if len(columns) == 1 else tuple_(*columns).in_(keys)


def _select(entity: Any, ordered: bool = False) -> Select[Any]:
    # What relationships load eagerly would be thrown away: a row is its columns.
    statement = select(entity).options(lazyload("*"), *_rest(inspect(entity).mapper))
    keys = [getattr(entity, name) for name in keys_of(inspect(entity).mapper.class_).identity.declared] if ordered else []
    return statement.order_by(*keys) if ordered else statement


def _entity(cls: type) -> Any:
    """Give what selects all columns of the subclasses too, so that no row needs a statement of its own."""
    mapper = _mapper(cls)
    below = [m.class_ for m in mapper.self_and_descendants if m is not mapper and not m.concrete]
    known = mapper.with_polymorphic
    return with_polymorphic(cls, below) if below and (known is None or known[0] != "*") else cls


def _rest(mapper: Mapper[Any]) -> list[Any]:
    """Give the option by which those columns of subclasses are read too that what the mapper itself is to select from has not."""
    known = mapper.with_polymorphic
    if known is None or known[0] != "*":
        return []
    lacking = [m.class_ for m in mapper.self_and_descendants if m not in mapper.with_polymorphic_mappers and not m.concrete]
    return [selectin_polymorphic(mapper.class_, lacking)] if lacking else []


def _mapper(cls: type) -> Mapper[Any]:
    return inspect(cls)


def _condition(columns: Sequence[Any], lookup: _AnyLookup) -> ColumnElement[bool]:
    (values,) = _values(columns, [lookup])
    return and_(*(c.is_(None) if v is None else c == v for c, v in zip(columns, values, strict=True)))


def _values(columns: Sequence[Any], lookups: Sequence[_AnyLookup]) -> list[tuple[object, ...]]:
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
