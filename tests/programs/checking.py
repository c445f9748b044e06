"""What must hold whenever nothing is open: every way of reading gives what the database holds."""

from contextlib import suppress
from typing import Any

from sqlalchemy import inspect, select, tuple_
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, selectinload

from stockstore.keys import keys_of
from tests.programs import observing
from tests.programs.reading import combinations, identity, primary, relationships
from tests.programs.rows import CLASSES
from tests.programs.running import Run
from tests.programs.writing import all_rows

Seen = dict[str, Any]


def warm(run: Run) -> None:
    """Have the caches hold all rows and lists, where there are caches."""
    store: Any = run.world.store
    if store is None or not run.program.warm:
        return
    with Session(run.world.other) as plain:
        for cls in (CLASSES[number] for number in run.program.classes):
            rows = all_rows(plain, cls)
            for plan in keys_of(cls).plans:
                keys = [{name: getattr(row, name) for name in plan.names} for row in rows]
                store.batch_get(cls, [key for key in keys if None not in key.values()])
            for plan in keys_of(cls).indexes:
                for row in rows:
                    store.get_all(cls, {name: getattr(row, name) for name in plan.names})


def check(run: Run) -> None:
    """Compare all ways of reading with the database, and once more what the first ones have filled."""
    if run.world.store is not None:
        classes = run.program.classes
        for at, number in enumerate(classes):
            _check(run, CLASSES[number], whole=at == len(run.program.steps) % len(classes))


def check_passed_by(run: Run) -> None:
    """See that nothing is marked any more, and nothing owed: no cache is passed by."""
    store: Any = run.world.store
    if store is not None:
        before = store.stats()
        with Session(run.world.other) as plain:
            for cls in (CLASSES[number] for number in run.program.classes):
                with suppress(InvalidRequestError):
                    store.batch_get(cls, [_plain(_key(row)) for row in all_rows(plain, cls)])
        passed = [(tier.bypasses, after.bypasses) for tier, after in zip(before.tiers, store.stats().tiers, strict=True)]
        assert all(one == other for one, other in passed), f"the caches were passed by: {passed}"


def _check(run: Run, cls: Any, *, whole: bool) -> None:
    with Session(run.world.other) as plain:
        try:
            rows = all_rows(plain, cls)
        except InvalidRequestError:  # statements have made a row of a class that is none of its table's
            return
        if any(None in (getattr(row, name) for name in primary(cls)) for row in rows):  # AUTOCOMMIT has left a row in one of two tables
            return
        expected = {_key(row): columns(row) for row in rows}
        for name, found in _by_keys(run, cls, rows, whole=whole):
            assert found == expected, f"{cls.__name__} by {name}: {found} is not {expected}"
        _absent(run, cls, sorted({identity(cls, number) for number in range(8)} - {_plain(key) for key in expected}))
        _check_lists(run, cls, plain)
        if whole:
            _check_relationships(run, cls, plain)


def _absent(run: Run, cls: Any, keys: Any) -> None:
    store: Any = run.world.store
    with run.world.maker() as session:
        there = [key for key in keys[:3] if session.get(cls, key) is not None]
    assert not there, f"{cls.__name__} {there} by session.get"
    found = store.batch_get(cls, [dict(zip(primary(cls), key if isinstance(key, tuple) else (key,), strict=True)) for key in keys])
    assert found == [None] * len(keys), f"{cls.__name__}: {keys} in the store: {found}"


def _by_keys(run: Run, cls: Any, rows: list[Any], *, whole: bool) -> Any:
    store: Any = run.world.store
    with run.world.maker() as session:
        yield "session.get", {_key(row): columns(found) for row in rows if (found := session.get(cls, _plain(_key(row))))}
    for plan in keys_of(cls).plans:
        keys = [{name: getattr(row, name) for name in plan.names} for row in rows]
        asked = [key for key in keys if None not in key.values()]
        rest = {_key(row): columns(row) for row, key in zip(rows, keys, strict=True) if None in key.values()}
        yield (
            f"store.batch_get {plan.names}",
            rest | {_key(found): columns(found, deferred=False) | _deferred(rows, found) for found in store.batch_get(cls, asked) if found},
        )
        if not whole:
            continue
        attributes = [getattr(cls, name) for name in plan.names]
        wanted = (
            tuple_(*attributes).in_([tuple(key.values()) for key in asked])
            if len(attributes) > 1
            else attributes[0].in_([value for key in asked for value in key.values()])
        )
        with run.world.maker() as session:
            yield f"in_ {plan.names}", rest | {_key(found): columns(found) for found in session.scalars(select(cls).where(wanted)).unique()}
        with run.world.maker() as session:
            single = [session.scalars(select(cls).filter_by(**key)).unique().one_or_none() for key in asked]
            yield f"select {plan.names}", rest | {_key(found): columns(found) for found in single if found}


def _deferred(rows: list[Any], found: Any) -> Any:
    row = next((row for row in rows if _key(row) == _key(found)), None)
    return {} if row is None else {prop.key: getattr(row, prop.key) for prop in inspect(row).mapper.column_attrs if _is_left(prop)}


def _check_lists(run: Run, cls: Any, plain: Session) -> None:
    store: Any = run.world.store
    for plan in keys_of(cls).indexes:
        for values in combinations(cls, plan.names):
            named = dict(zip(plan.names, values, strict=True))
            expected = sorted(_key(row) for row in plain.scalars(select(cls).filter_by(**named)).unique())
            listed = sorted(_key(row) for row in store.get_all(cls, named))
            assert listed == expected, f"{cls.__name__}.get_all({named}): {listed} is not {expected}"
            with run.world.maker() as session:
                selected = sorted(_key(row) for row in session.scalars(select(cls).filter_by(**named)).unique())
            assert selected == expected, f"select {cls.__name__} by {named}: {selected} is not {expected}"


def _check_relationships(run: Run, cls: Any, plain: Session) -> None:
    related = relationships(cls)
    expected = {_key(row): _related(row, related) for row in all_rows(plain, cls) if not any(rel.lazy == "raise" for rel in related)}
    with run.world.maker() as session:
        found = {key: _related(session.get(cls, _plain(key)), related) for key in expected}
    assert found == expected, f"{cls.__name__} lazily: {found} is not {expected}"
    if expected:
        with run.world.maker() as session:
            statement = select(cls).options(*(selectinload(getattr(cls, rel.key)) for rel in related))
            found = {_key(row): _related(row, related) for row in session.scalars(statement).unique()}
        assert found == expected, f"{cls.__name__} by selectinload: {found} is not {expected}"


def _related(row: Any, related: list[Any]) -> Seen:
    found: Seen = {}
    for rel in related:
        value = getattr(row, rel.key)
        if rel.uselist:
            found[rel.key] = [(_key(one), columns(one)) for one in value]
            found[rel.key] = found[rel.key] if rel.order_by else sorted(found[rel.key], key=repr)
        else:
            found[rel.key] = None if value is None else (_key(value), columns(value))
    return found


def columns(row: Any, *, deferred: bool = True) -> Seen:
    """Give the class of a row and its columns."""
    found = {
        prop.key: observing.shown(getattr(row, prop.key)) for prop in inspect(row).mapper.column_attrs if deferred or not _is_left(prop)
    }
    return {"class": type(row).__name__, **found}


def _is_left(prop: Any) -> bool:
    """Whether a detached object has no value of it."""
    return prop.deferred or not hasattr(prop.columns[0], "table") or prop.columns[0].table is None


def _key(row: Any) -> Any:
    return tuple(inspect(row).identity)


def _plain(key: tuple[Any, ...]) -> Any:
    return key if len(key) > 1 else key[0]
