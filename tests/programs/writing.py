"""Steps that write by statements, and past the sessions."""

from typing import Any, Final

from sqlalchemy import delete, insert, inspect, select, text, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from stockstore import StockstoreError, Store
from tests.programs import observing
from tests.programs.changing import has_kinds, made
from tests.programs.reading import by_primary, criterion, identity, key_names, primary, value_of
from tests.programs.rows import POOLS
from tests.programs.running import Run, Step, step

_SYNCHRONIZE: Final = ("auto", "fetch", "evaluate", False)


def column_names(cls: type) -> list[str]:
    """Give the names of the attributes that are columns."""
    return [name for name in POOLS[cls] if name != "place"]


def values_of(cls: type, number: int, more: int) -> dict[str, Any]:
    """Give the columns of a new row."""
    keyed = primary(cls)
    found = {name: value_of(cls, name, number if name in keyed else more + at) for at, name in enumerate(column_names(cls))}
    found |= {"version": 1} if "position" in found else {}
    return {name: value for name, value in found.items() if value is not None or name not in keyed}


def _changed(cls: type, each: Step) -> dict[str, Any]:
    names = [name for name in column_names(cls) if name not in primary(cls)]
    name = names[each.b % len(names)]
    return {name: value_of(cls, name, each.v)}


def changed_columns(cls: type, each: Step) -> dict[str, Any]:
    """Give a change to a class's own table, by its columns; an empty one where what changes is in another."""
    mapper: Any = inspect(cls)
    changed = {mapper.attrs[name].columns[0].name: value for name, value in _changed(cls, each).items()}
    return {name: value for name, value in changed.items() if name in mapper.local_table.columns}


@step(3)
def _update(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    names = key_names(cls, each.a)
    statement = update(cls).where(*criterion(cls, names, [each.a, each.a + 1])).values(_changed(cls, each))
    how = _SYNCHRONIZE[(each.a + each.v) % len(_SYNCHRONIZE)]
    result: Any = run.on(each).execute(statement, execution_options={"synchronize_session": how})
    return result.rowcount


@step(2)
def _update_returning(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    statement = update(cls).where(*criterion(cls, primary(cls), [each.a])).values(_changed(cls, each)).returning(cls)
    return run.found(each, run.on(each).scalars(statement).unique().all(), ordered=False)


@step(2)
def _update_by_keys(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    rows = []
    for number in (each.a, each.a + 1):
        key = identity(cls, number)
        rows.append(dict(zip(primary(cls), key if isinstance(key, tuple) else (key,), strict=True)) | _changed(cls, each))
    run.on(each).execute(update(cls), rows)


@step(2)
def _delete_by_statement(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    names = key_names(cls, each.b)
    how = _SYNCHRONIZE[(each.a + each.v) % len(_SYNCHRONIZE)]
    if is_torn_by(cls):
        return None
    statement = delete(cls).where(*criterion(cls, names, [each.a] if each.v % 2 else [each.a, each.v]))
    result: Any = run.on(each).execute(statement, execution_options={"synchronize_session": how})
    return result.rowcount


@step(2)
def _insert(run: Run, each: Step) -> Any:
    cls, session = run.cls(each), run.on(each)
    rows = [values_of(cls, each.a, each.v), values_of(cls, each.a + 1, each.v + 1)]
    if each.b % 4 == 0:
        session.execute(insert(cls), rows)
    elif each.b % 4 == 1:
        session.execute(insert(cls).values(rows[0]))
    elif each.b % 4 == 2:
        return run.found(each, session.scalars(insert(cls).returning(cls), rows).all(), ordered=False)
    else:
        session.bulk_insert_mappings(inspect(cls), rows)
    return None


@step(2)
def _upsert(run: Run, each: Step) -> Any:
    cls, session = run.cls(each), run.on(each)
    if has_kinds(cls):
        return None
    statement = _upserting(session.get_bind().dialect.name, cls, each)
    if each.b % 3 in (0, 1):
        session.execute(statement)
        return None
    found = session.scalars(statement.returning(cls), execution_options={"populate_existing": True}).all()
    return run.found(each, found, ordered=False)


def _upserting(dialect: str, cls: Any, each: Step) -> Any:
    values, changed = values_of(cls, each.a, each.v), changed_columns(cls, each)
    if dialect == "mariadb":
        return mysql.insert(cls).values(values).on_duplicate_key_update(changed)
    statement = (postgresql if dialect == "postgresql" else sqlite).insert(cls).values(values)
    if each.b % 3 == 0:
        return statement.on_conflict_do_nothing()
    return statement.on_conflict_do_update(index_elements=[column.name for column in inspect(cls).primary_key], set_=changed)


@step(2)
def _core(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    table: Any = inspect(cls).local_table
    changed = changed_columns(cls, each)
    session = run.on(each)
    execute: Any = session.connection().execute if each.v % 2 else session.execute
    if is_torn_by(cls):
        return None
    where = [column == value for column, value in zip(table.primary_key, _tuple(identity(cls, each.a)), strict=True)]
    if each.b % 5 == 4 or not changed:
        execute(table.delete().where(*where))
    else:
        execute(table.update().where(*where).values(changed))


@step(1)
def _text(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    mapper: Any = inspect(cls)
    column = next(column for column in mapper.local_table.columns if not column.primary_key)
    session = run.on(each)
    execute: Any = session.connection().execute if each.v % 2 else session.execute
    if each.b % 2 and not is_torn_by(cls):
        execute(text(f"DELETE FROM {mapper.local_table.name} WHERE {column.name} IS NULL"))
    else:
        execute(text(f"UPDATE {mapper.local_table.name} SET {column.name} = {column.name}"))


@step(1)
def _wrong_text(run: Run, each: Step) -> Any:
    run.on(each).execute(text("SELECT nothing FROM nowhere"))


@step(1)
def _bulk_save(run: Run, each: Step) -> Any:
    cls, session = run.cls(each), run.on(each)
    if each.b % 2:
        session.bulk_save_objects([made(cls, each.a, each.v)])
    else:
        key = identity(cls, each.a)
        session.bulk_update_mappings(inspect(cls), [dict(zip(primary(cls), _tuple(key), strict=True)) | _changed(cls, each)])


# -- past the sessions --------------------------------------------------------------------------


@step(2)
def _put(run: Run, each: Step) -> Any:
    obj = made(run.cls(each), each.a, each.v)
    if has_kinds(type(obj)) or any(getattr(obj, name) is None for name in primary(type(obj))):
        return None
    return _outside(run, lambda store: store.put(obj), lambda session: session.merge(obj))


@step(2)
def _put_changed(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    key, change = identity(cls, each.a), _changed(cls, each)

    def by_store(store: Store) -> None:
        obj = store.get(cls, dict(zip(primary(cls), _tuple(key), strict=True)))
        if obj is not None:
            for name, value in change.items():
                setattr(obj, name, value)
            store.put(obj)

    def by_session(session: Session) -> None:
        obj = session.get(cls, key)
        for name, value in change.items() if obj is not None else ():
            setattr(obj, name, value)

    return _outside(run, by_store, by_session)


@step(1)
def _delete_outside(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    key = identity(cls, each.a)

    def by_store(store: Store) -> None:
        store.delete(cls, dict(zip(primary(cls), _tuple(key), strict=True)))

    def by_session(session: Session) -> None:
        obj = session.get(cls, key)
        if obj is not None:
            session.delete(obj)

    return _outside(run, by_store, by_session)


@step(2)
def _told(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    table: Any = inspect(cls).local_table
    changed = changed_columns(cls, each)
    if not changed or run.is_locked():
        return None
    try:
        with run.world.other.begin() as connection:
            connection.execute(table.update().where(table.primary_key.columns[0] == _tuple(identity(cls, each.a))[0]).values(changed))
    except Exception:  # noqa: BLE001 - a lock, or a constraint
        return "failed"
    if run.world.sync is not None:
        run.world.sync.invalidate(cls)
    return "done"


@step(3)
def _store_reads(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    if run.world.store is not None:
        names = key_names(cls, each.b)
        key = {name: value_of(cls, name, each.a // (at + 1)) for at, name in enumerate(names)}
        if None not in key.values():
            run.world.store.get(cls, key)
    return None


def _outside(run: Run, by_store: Any, by_session: Any) -> Any:
    if run.is_locked():
        return "locked"
    try:
        if run.world.store is not None:
            by_store(run.world.store)
        else:
            with Session(run.world.other) as session, session.begin():
                by_session(session)
    except Exception as raised:  # noqa: BLE001 - a lock, or a constraint
        cause = raised.__cause__ if isinstance(raised, StockstoreError) else raised
        if isinstance(cause, OperationalError) or (cause is not None and observing.is_of_lock(observing.error(cause))):
            raise cause from None
        return "failed"
    return "done"


def is_torn_by(cls: type) -> bool:
    """Whether a DELETE of a class leaves a part of its rows in the table of a base class."""
    mapper: Any = inspect(cls)
    return mapper.local_table is not mapper.base_mapper.local_table


def _tuple(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def all_rows(session: Session, cls: Any) -> list[Any]:
    """Give all rows of a class."""
    return list(session.scalars(select(cls).order_by(*by_primary(cls))).unique())
