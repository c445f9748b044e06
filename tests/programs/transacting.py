"""Steps that begin and end transactions in other ways than a session's own."""

from typing import Any, Final

from sqlalchemy import inspect

from tests.programs.reading import value_of
from tests.programs.running import Run, Step, step
from tests.programs.writing import changed_columns

_LEVELS: Final = ("AUTOCOMMIT", "REPEATABLE READ", "SERIALIZABLE", "READ COMMITTED")


@step(4, reads=True)
def _begin_at(run: Run, each: Step) -> Any:
    session = run.on(each)
    if session.in_transaction():  # of which only the one without the hook may have read something already
        return None
    levels = [level for level in _LEVELS if level in session.get_bind().dialect.get_isolation_level_values(None)]
    level = levels[each.a % len(levels)]
    session.connection(execution_options={"isolation_level": level})
    return level


@step(6)
def _prepare(run: Run, each: Step) -> Any:
    session = run.on(each)
    if not session.twophase:
        return None
    session.connection()  # caches need none, and without one there is nothing to prepare
    return session.prepare()


@step(1, reads=True)
def _lose(run: Run, each: Step) -> Any:
    """Have somebody else end what is prepared."""
    return run.world.end_prepared("COMMIT" if each.v % 2 else "ROLLBACK")


@step(4, reads=True)
def _outer_end(run: Run, each: Step) -> None:
    outer = run.outer_of(each.session)
    if outer is None:
        return
    savepoint = outer.get_nested_transaction()
    ending = outer if savepoint is None or each.b % 2 else savepoint
    (ending.commit if each.v % 3 else ending.rollback)()


@step(2, reads=True)
def _outer_savepoint(run: Run, each: Step) -> Any:
    outer = run.outer_of(each.session)
    if outer is None or run.on(each).in_transaction():
        return None
    outer.begin_nested()
    return None


@step(2)
def _outer_write(run: Run, each: Step) -> Any:
    outer = run.outer_of(each.session)
    cls = run.cls(each)
    changed = changed_columns(cls, each)
    if outer is None or not changed:
        return None
    run.on(each).connection()  # what its caller writes before a session has joined nobody sees
    table: Any = inspect(cls).local_table
    first = table.primary_key.columns[0]
    outer.execute(table.update().where(first == value_of(cls, inspect(cls).get_property_by_column(first).key, each.a)).values(changed))
    return None
