"""Steps that read."""

import itertools
from typing import Any, Final

from sqlalchemy import exists, func, inspect, select, tuple_
from sqlalchemy.orm import (
    defer,
    immediateload,
    joinedload,
    load_only,
    raiseload,
    selectinload,
    subqueryload,
    undefer,
    undefer_group,
)

from stockstore.keys import keys_of
from tests.programs.models import Owner
from tests.programs.rows import POOLS
from tests.programs.running import Run, Step, step

_LOADERS: Final = (selectinload, joinedload, immediateload, subqueryload, raiseload)


def value_of(cls: type, name: str, number: int) -> Any:
    """Give one of the values that an attribute may have."""
    pool = POOLS[cls].get(name) or next(POOLS[base][name] for base in POOLS if name in POOLS[base] and issubclass(base, cls))
    value = pool[number % len(pool)]
    return dict(value) if isinstance(value, dict) else value


def primary(cls: type) -> list[str]:
    """Give the names of the primary key."""
    mapper: Any = inspect(cls)
    return [mapper.get_property_by_column(column).key for column in mapper.primary_key]


def identity(cls: type, number: int) -> Any:
    """Give one of the primary keys that a row may have."""
    values = tuple(value_of(cls, name, number // (at + 1)) for at, name in enumerate(primary(cls)))
    values = tuple(1 if value is None else value for value in values)
    return values[0] if len(values) == 1 else values


def relationships(cls: type) -> list[Any]:
    """Give the relationships that can be loaded whole."""
    mapper: Any = inspect(cls)
    return [rel for rel in mapper.relationships if rel.lazy not in ("write_only", "dynamic")]


def options(cls: Any, number: int) -> list[Any]:
    """Give some loader options."""
    mapper: Any = inspect(cls)
    columns = [prop.key for prop in mapper.column_attrs if prop.key not in primary(cls)]
    related = [getattr(cls, rel.key) for rel in relationships(cls)]
    column = getattr(cls, columns[number % len(columns)])
    made: list[list[Any]] = [[], [load_only(column)], [defer(column)], [undefer(column)]]
    made += [[load(rel)] for rel in related for load in _LOADERS]
    made += [[undefer_group("sides")], [raiseload("*")]] if cls is Owner else []
    return made[number % len(made)]


def criterion(cls: Any, names: Any, numbers: Any) -> Any:
    """Give criteria by names for rows that have one of some values."""
    columns = [getattr(cls, name) for name in names]
    values = [tuple(value_of(cls, name, number // (at + 1)) for at, name in enumerate(names)) for number in numbers]
    if len(values) == 1:
        return [column == value for column, value in zip(columns, values[0], strict=True)]
    return [columns[0].in_([one for (one,) in values]) if len(columns) == 1 else tuple_(*columns).in_(values)]


def by_primary(cls: Any) -> list[Any]:
    """Give an order."""
    return [getattr(cls, name) for name in primary(cls)]


def key_names(cls: type, number: int) -> Any:
    """Give the names of one of a class's keys."""
    plans = keys_of(cls).plans
    return plans[number % len(plans)].names


@step(8, reads=True)
def _get(run: Run, each: Step) -> Any:
    return run.hold(each, run.on(each).get(run.cls(each), identity(run.cls(each), each.a)))


@step(3, reads=True)
def _get_with(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    more: list[dict[str, Any]] = [
        {},
        {"populate_existing": True},
        {"with_for_update": True},
        {"execution_options": {"stockstore": False}},
        {"execution_options": {"stockstore_refresh": True}},
        {"execution_options": {"stockstore_strict": True}},
    ]
    return run.hold(each, run.on(each).get(cls, identity(cls, each.a), options=options(cls, each.b), **more[each.v % len(more)]))


@step(6, reads=True)
def _select_by_key(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    names = key_names(cls, each.b)
    statement = select(cls).where(*criterion(cls, names, [each.a] if each.v % 2 else [each.a, each.a + 1, each.v]))
    return run.found(each, run.on(each).scalars(statement).unique().all(), ordered=False)


@step(3, reads=True)
def _select_with(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    names = key_names(cls, each.a)
    statement = select(cls).where(*criterion(cls, names, range(5))).options(*options(cls, each.b)).order_by(*by_primary(cls))
    statement = statement.execution_options(populate_existing=True) if each.v == 0 else statement
    statement = statement.with_for_update(of=cls) if each.v == 1 else statement
    return run.found(each, run.on(each).scalars(statement).unique().all(), ordered=True)


@step(5, reads=True)
def _select_by_index(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    plans = keys_of(cls).indexes
    if not plans:
        return None
    names = plans[each.b % len(plans)].names
    statement = select(cls).where(*criterion(cls, names, [each.a] if each.v % 2 else [each.a, each.a + 1]))
    ordered = each.v > 3
    statement = statement.order_by(*by_primary(cls)) if ordered else statement
    return run.found(each, run.on(each).scalars(statement).unique().all(), ordered=ordered)


@step(3, reads=True)
def _select_all(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    statement = select(cls).order_by(*by_primary(cls)).options(*options(cls, each.b))
    return run.found(each, run.on(each).scalars(statement).unique().all(), ordered=True)


@step(2, reads=True)
def _select_otherwise(run: Run, each: Step) -> Any:
    cls, session = run.cls(each), run.on(each)
    names = list(POOLS[cls])
    name = names[each.a % len(names)]
    column = getattr(cls, name)
    if each.b % 4 == 0:
        return session.scalar(select(func.count()).select_from(cls))
    if each.b % 4 == 1 and hasattr(column, "in_") and name not in ("place", "prefs"):
        return session.execute(select(cls, column).where(column.is_not(None)).order_by(*by_primary(cls))).unique().all()
    if each.b % 4 == 2:
        return session.scalar(select(exists(select(cls).where(*criterion(cls, primary(cls), [each.v])))))
    query = session.query(cls).filter(*criterion(cls, primary(cls), [each.v]))
    return run.hold(each, query.one_or_none())


@step(2, reads=True)
def _select_joined(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    related = relationships(cls)
    if not related:
        return None
    attribute = getattr(cls, related[each.a % len(related)].key)
    statement = select(cls).join(attribute).order_by(*by_primary(cls)).distinct() if cls is not Owner else select(cls).join(attribute)
    return run.found(each, run.on(each).scalars(statement).unique().all(), ordered=False)


@step(6, reads=True)
def _read(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    if obj is None:
        return None
    names = [prop.key for prop in inspect(obj).mapper.column_attrs] + [rel.key for rel in relationships(type(obj))]
    return described(obj, names[each.b % len(names)])


@step(4, reads=True)
def _read_all(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    if obj is None:
        return None
    mapper = inspect(obj).mapper
    deferred = {prop.key for prop in mapper.column_attrs if prop.deferred}
    return {
        name: getattr(obj, name) for name in [prop.key for prop in mapper.attrs if prop.key in mapper.column_attrs] if name not in deferred
    }


@step(6, reads=True)
def _follow(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    related = relationships(type(obj)) if obj is not None else []
    if not related:
        return None
    rel = related[each.b % len(related)]
    value = getattr(obj, rel.key)
    if rel.uselist:
        fresh = sorted(value, key=lambda one: repr(inspect(one).identity))
        run.hold(each, *fresh[:2])
        return list(value) if rel.order_by else fresh
    return run.hold(each, value)


@step(1, reads=True)
def _dynamic(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    mapper: Any = obj is not None and inspect(obj).mapper
    written = [rel for rel in mapper.relationships if rel.lazy in ("write_only", "dynamic")] if mapper else []
    if not written:
        return None
    rel = written[each.b % len(written)]
    collection = getattr(obj, rel.key)
    rows = run.on(each).scalars(collection.select()) if rel.lazy == "write_only" else collection
    return run.found(each, list(rows), ordered=True)


@step(1, reads=True)
def _query_get(run: Run, each: Step) -> Any:
    return run.hold(
        each,
        run.on(each).query(run.cls(each)).populate_existing().filter(*criterion(run.cls(each), primary(run.cls(each)), [each.a])).first(),
    )


def described(obj: Any, name: str) -> Any:
    """Give an attribute's value, a list without an order in one that can be compared."""
    value = getattr(obj, name)
    rel = inspect(obj).mapper.relationships.get(name)
    if rel is not None and rel.uselist and not rel.order_by:
        return sorted(value, key=lambda one: repr(inspect(one).identity))
    return list(value) if rel is not None and rel.uselist else value


def combinations(cls: type, names: Any) -> list[tuple[Any, ...]]:
    """Give the values that some attributes may have together."""
    pools = [POOLS[cls][name] for name in names]
    return list(itertools.islice(itertools.product(*pools), 6))
