"""What an INSERT, UPDATE or DELETE of the ORM writes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Result, Table, Update, func, inspect, literal, select
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Mapper, ORMExecuteState
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter

from stockstore.keys import IndexPlan, keys_of
from stockstore.mapped.foreign_keys import dependents
from stockstore.mapped.hydrate import identity_class
from stockstore.mapped.moves import discriminators
from stockstore.mapped.statements import dml_in
from stockstore.mapped.tables import columns_of_identity, roots_named, roots_of
from stockstore_ext.sqlalchemy.collect.cascades import changed_along
from stockstore_ext.sqlalchemy.collect.lists import columns_in, indexes_below, lists_set, note_rows, note_stored, rows_of_lists
from stockstore_ext.sqlalchemy.collect.notes import Notes, wants
from stockstore_ext.sqlalchemy.collect.settings import DEFAULT, Collecting
from stockstore_ext.sqlalchemy.collect.statements import is_plain_insert, may_replace
from stockstore_ext.sqlalchemy.collect.told import TOLD, Told, tellers
from stockstore_ext.sqlalchemy.drivers import commits_at_once


def orm_statement(execution: ORMExecuteState, collecting: Collecting = DEFAULT) -> Result[Any] | None:
    """Note what a statement of the ORM writes, one by one where its keys can be had.

    To be called in ``do_orm_execute`` for every statement; the listener has to return what it returns. Executes the statement itself
    where it adds a RETURNING to it, of which the caller sees nothing. What it does not tell, :func:`statement` finds; that also notes what it
    tells, with the writes of the connection that executes the statement.
    """
    dml = execution.statement
    if not isinstance(dml, Insert | Update | Delete) or (mapper := _mapper_of(dml)) is None:
        return None
    root = identity_class(mapper)
    if not wants(root, collecting) or not _is_alone(dml, mapper, root):
        return None
    work = _Work(execution, dml, mapper, root, Told(collecting))
    if isinstance(dml, Insert):
        _note_insert(work)
        return None
    return _note_change(work)  # type: ignore[no-any-return]


class _Work:
    """A statement, and what it is about."""

    def __init__(self, execution: ORMExecuteState, dml: Any, mapper: Mapper[Any], root: type, told: Told) -> None:
        self.execution, self.dml, self.mapper, self.root, self.told = execution, dml, mapper, root, told
        self.limit = told.collecting.limit

    def connection(self) -> Connection | None:
        """Give the connection that it is executed on, ``None`` where another listener is yet to choose that, or it is none of SQLAlchemy's."""
        try:
            found: object = self.execution.session.connection(bind_arguments=dict(self.execution.bind_arguments))
        except UnboundExecutionError:
            return None
        return found if isinstance(found, Connection) else None

    @property
    def listed(self) -> Sequence[Mapping[str, Any]]:
        """The rows that it was given."""
        parameters: Any = self.execution.parameters
        return parameters if isinstance(parameters, list) else [parameters] if parameters else []

    @property
    def key_names(self) -> list[str]:
        """The attributes of the primary key."""
        return [self.mapper.get_property_by_column(column).key for column in self.mapper.primary_key]

    def tell(self) -> dict[str, Any]:
        """Have the statement executed as one of which the rows are noted here; gives the option that says so."""
        option = {TOLD: (*tellers(self.execution.local_execution_options), self.told)}
        self.execution.update_execution_options(**option)
        return option


def _mapper_of(dml: Any) -> Mapper[Any] | None:
    """Give the mapper of a statement that the ORM executes, ``None`` for one on a table or an alias."""
    try:
        entity = dml.entity_description.get("entity")
    except KeyError:  # a table's own, in which a statement of the ORM is embedded
        return None
    mapper = None if entity is None else inspect(entity)
    return mapper if isinstance(mapper, Mapper) else None


def _is_alone(dml: Any, mapper: Mapper[Any], root: type) -> bool:
    """Whether nothing but rows of one root is written: no other class has them too, and no other statement is inside."""
    tables = [table for table in mapper.tables if isinstance(table, Table)]
    return len(dml_in(dml)) == 1 and len(tables) == len(mapper.tables) and all(roots_of(table) == {root} for table in tables)


# -- INSERT ---------------------------------------------------------------------------------------


def _note_insert(work: _Work) -> None:
    if not is_plain_insert(work.dml):
        return
    known = [tuple([row.get(name) for name in work.key_names]) for row in work.listed]
    if indexes_below(work.root):
        if not known or len(known) > work.limit or not _tells_lists(work):
            return
        rows = list(work.listed)
        work.told.note(lambda notes, dialect: note_rows(notes, work.root, work.mapper.class_, rows, dialect))
    if not known or len(known) > work.limit or any(None in identity for identity in known):
        # A new row makes nothing wrong that a cache holds; it has only to be kept from reading its own.
        work.told.note(lambda notes, _dialect: notes.inserted([work.root]))
    else:
        work.told.note(lambda notes, dialect: notes.given(work.root, known, lambda: dialect))
    work.tell()


def _tells_lists(work: _Work) -> bool:
    """Whether the rows alone tell the lists, each value by the name of its attribute; otherwise the compiled statement does."""
    plain = not work.dml._values and work.execution.execution_options.get("dml_strategy", "auto") in {"auto", "bulk"}  # noqa: SLF001
    names = {name for row in work.listed for name in row}
    # Rows of a subclass may be given to its base.
    return plain and _has_all_lists(work) and names <= set(work.mapper.column_attrs.keys())


def _has_all_lists(work: _Work) -> bool:
    """Whether no other class of the hierarchy has an index that this one has not."""
    return set(indexes_below(work.root)) <= set(keys_of(work.mapper.class_).indexes)


# -- UPDATE and DELETE ----------------------------------------------------------------------------


def _note_change(work: _Work) -> Any:
    table: Any = work.mapper.local_table
    if _changes_others(work, table):
        return None
    if isinstance(work.execution.parameters, list):
        return _listed(work)
    keys, connection = columns_of_identity(work.mapper, table), work.connection()
    if keys is None or _is_odd(work, keys) or connection is None or commits_at_once(connection, "update"):
        return None
    dialect = connection.dialect
    listed = _lists(work, table, dialect)
    if listed is None:
        return None
    if table.implicit_returning and _can_return(dialect, work.dml):
        return _returning(work, keys, listed)
    return None if dialect.name == "sqlite" or (listed and isinstance(work.dml, Update)) else _locking(work, keys, listed)


def _lists(work: _Work, table: Any, dialect: Any) -> dict[IndexPlan, list[Any]] | None:
    """Give the indexes whose lists a statement may change, with their columns; ``None`` where its rows would not tell the lists."""
    found = columns_in(work.root, table)
    if isinstance(work.dml, Delete) or not indexes_below(work.root):
        return found
    names = {str(name) for column in _set_columns(work) for name in (getattr(column, "key", column), getattr(column, "name", column))}
    names |= _given_names(work)
    changed = lists_set(work.root, names)
    if not names.isdisjoint(_discriminators(work)) and not _has_all_lists(work):
        return None
    if not changed:
        return {}
    # SQLite has no locks of rows, under which the former values could be had.
    told = found is not None and dialect.name != "sqlite"
    return {plan: found[plan] for plan in changed if plan in found} if told and found is not None else None


def _discriminators(work: _Work) -> Collection[str]:
    """Give the names of what tells the class of a row, where that decides on its lists."""
    return discriminators(work.mapper) if indexes_below(work.root) else ()


def _can_return(dialect: Any, dml: Any) -> bool:
    """Whether RETURNING goes with every form of the statement; with several tables MariaDB has it not, and SQLite no DELETE."""
    if isinstance(dml, Update):
        return bool(dialect.update_returning and dialect.update_returning_multifrom)
    return bool(dialect.delete_returning and (dialect.delete_returning_multifrom or dialect.name == "sqlite"))


def _changes_others(work: _Work, table: Any) -> bool:
    """Note the classes whose rows the database changes along; whether the statement names columns of another table."""
    if isinstance(work.dml, Delete):
        _note_whole(work, roots_named(dependents(table, "ondelete")))
        return False
    # Each table of the class has a statement of its own for a list of rows.
    names = _given_names(work)
    _note_whole(work, roots_named({name for each in work.mapper.tables for name in changed_along(work.dml, each, names)}))
    replaces = any(may_replace(work.dml, each) for each in work.mapper.tables)
    return replaces or any(getattr(column, "table", table) is not table for column in _set_columns(work))


def _given_names(work: _Work) -> set[str]:
    """What the parameters may set; of a list of rows not the keys, by which they are found."""
    names = {name for row in work.listed for name in row}
    names |= {prop.key for composite in work.mapper.composites if composite.key in names for prop in composite.props}
    return names - set(work.key_names) if isinstance(work.execution.parameters, list) else names


def _set_columns(work: _Work) -> list[Any]:
    """What an UPDATE sets: columns, or the names of attributes."""
    dml = work.dml
    pairs = dml._values or getattr(dml, "_ordered_values", None) or ()  # noqa: SLF001 - there is no other way to ask
    columns = [pair[0] if isinstance(pair, tuple) else pair for pair in pairs]
    return [_column(work.mapper, column) for column in columns]


def _column(mapper: Mapper[Any], column: Any) -> Any:
    prop = mapper.column_attrs.get(column) if isinstance(column, str) else None
    return column if prop is None else prop.columns[0]


def _is_odd(work: _Work, keys: Sequence[Any]) -> bool:
    """Whether a RETURNING cannot be added, or would not tell the rows: of changed keys it gives the new ones."""
    dml = work.dml
    names = {name for key in keys for name in (key.key, key.name)}
    changes_keys = isinstance(dml, Update) and any(getattr(column, "key", column) in names for column in _set_columns(work))
    return bool(dml._returning or dml._return_defaults or dml._prefixes or changes_keys)  # noqa: SLF001 - as above


def _listed(work: _Work) -> Any:
    """Note the rows of an UPDATE by primary key."""
    if lists_set(work.root, _given_names(work)) or not _given_names(work).isdisjoint(_discriminators(work)):
        return None
    strategy = work.execution.execution_options.get("dml_strategy", "auto")
    known = [tuple([row.get(name) for name in work.key_names]) for row in work.listed]
    if isinstance(work.dml, Update) and strategy in {"auto", "bulk"} and len(known) <= work.limit and not any(None in i for i in known):
        work.told.note(lambda notes, dialect: notes.asked_for(work.root, known, dialect))
        # Such a statement is executed by the options of its own alone.
        return _invoke(work, work.dml.execution_options(**work.tell()))
    return None


def _returning(work: _Work, keys: Sequence[Any], listed: dict[IndexPlan, list[Any]]) -> Any:
    columns = _with_lists(keys, listed)
    former = _locked(work, keys, columns) if listed and isinstance(work.dml, Update) else None
    if former is None and ((listed and isinstance(work.dml, Update)) or (not _is_narrow(work, keys) and _count(work) > work.limit)):
        return None
    # A column that the statement sets is given only where it is asked for beside the defaults.
    extra = {"supplemental_cols": columns[len(keys) :]} if listed else {}
    work.tell()
    result = _invoke(work, work.dml.return_defaults(*keys, **extra))
    rows = getattr(result, "returned_defaults_rows", None) or ()
    found = [[row._mapping[column] for column in columns] for row in rows]  # noqa: SLF001 - a public name
    if getattr(result, "rowcount", None) == len(rows) and (former is None or len(former) == len(rows)):
        _note_found(work, keys, listed, columns, [*(former or ()), *found])
    else:
        _note_whole(work, [work.root])
    return result


def _with_lists(keys: Sequence[Any], listed: dict[IndexPlan, list[Any]]) -> list[Any]:
    return list(dict.fromkeys([*keys, *(column for columns in listed.values() for column in columns)]))


def _locked(work: _Work, keys: Sequence[Any], columns: Sequence[Any]) -> list[Sequence[Any]] | None:
    """Lock the rows that match, as the statement will, and give them as they are; ``None`` where they are too many."""
    connection = work.connection()
    # A class may be selected by an outer join with its subclasses, whose side PostgreSQL does not lock.
    tables = keys if connection is not None and connection.dialect.name == "postgresql" else None
    # Rows that refer to what is updated can still be written.
    locked = select(*columns).order_by(*keys).with_for_update(of=tables, key_share=isinstance(work.dml, Update))
    statement = locked.limit(work.limit + 1)
    rows: list[Sequence[Any]] = list(_select(work, statement).all())
    return rows if len(rows) <= work.limit else None


def _note_found(
    work: _Work, keys: Sequence[Any], listed: dict[IndexPlan, list[Any]], columns: Sequence[Any], rows: Sequence[Sequence[Any]]
) -> None:
    identities, lists = [tuple(row[: len(keys)]) for row in rows], list(rows_of_lists(listed, columns, rows))

    def note(notes: Notes, _dialect: object) -> None:
        notes.stored(work.root, identities)
        for plan, values in lists:
            note_stored(notes, work.root, plan, values)

    work.told.note(note)


def _locking(work: _Work, keys: Sequence[Any], listed: dict[IndexPlan, list[Any]]) -> Any:
    """Lock the rows first, for a database without RETURNING; rows that match only afterwards show in the number of changed rows."""
    columns = _with_lists(keys, listed)
    rows = _locked(work, keys, columns)
    if rows is None:
        return None
    work.tell()
    result = _invoke(work, work.dml)
    if getattr(result, "rowcount", None) == len(rows):
        _note_found(work, keys, listed, columns, rows)
    else:
        _note_whole(work, [work.root])
    return result


def _note_whole(work: _Work, roots: Iterable[type]) -> None:
    work.told.note(lambda notes, _dialect: notes.whole(roots))


def _invoke(work: _Work, statement: Any) -> Any:
    try:
        return work.execution.invoke_statement(statement=statement)
    except BaseException:  # it may have been executed all the same, and failed in bringing objects up to date
        _note_whole(work, [work.root])
        raise


def _count(work: _Work) -> int:
    """Count the rows that match, up to one more than the limit, so that no RETURNING brings a million keys.

    Some rows may not be flushed yet: the statement itself flushes them.
    """
    matching = select(literal(1)).limit(work.limit + 1)
    subquery = _with_criteria(work, matching).subquery()
    return int(_execute(work, select(func.count()).select_from(subquery), autoflush=False).scalar_one())


def _select(work: _Work, statement: Any) -> Result[Any]:
    return _execute(work, _with_criteria(work, statement))


def _with_criteria(work: _Work, statement: Any) -> Any:
    return statement.select_from(work.mapper).where(*work.dml._where_criteria).options(*work.dml._with_options)  # noqa: SLF001


def _execute(work: _Work, statement: Any, **more: Any) -> Result[Any]:
    execution = work.execution
    given = execution.execution_options
    options = {name: given[name] for name in ("autoflush", "schema_translate_map") if name in given}
    # By the bind arguments of the statement itself, since a session may have other connections for statements that read.
    return execution.session.execute(
        statement, execution.parameters, execution_options=options | more, bind_arguments=dict(execution.bind_arguments)
    )


def _is_narrow(work: _Work, keys: Sequence[Any]) -> bool:
    """Whether the WHERE names the rows by their key, and so no more than the limit."""
    return len(keys) == 1 and any(_pins(part, keys[0], work.limit) for part in work.dml._where_criteria)  # noqa: SLF001


def _pins(part: Any, key: Any, limit: int) -> bool:
    if not isinstance(part, BinaryExpression) or getattr(part.left, "key", None) != key.key or not isinstance(part.right, BindParameter):
        return False
    if getattr(part.left, "table", None) is None or getattr(part.left.table, "name", None) != key.table.name:
        return False
    if part.operator is operators.eq:
        return True
    return part.operator is operators.in_op and isinstance(part.right.value, (list, tuple)) and len(part.right.value) <= limit
