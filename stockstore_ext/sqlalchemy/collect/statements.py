"""What every other statement on a connection writes: Core tables, bulk methods, text."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Delete, Insert, Select, Table, Update
from sqlalchemy.engine import Compiled, ExecutionContext
from sqlalchemy.orm import FromStatement
from sqlalchemy.sql.expression import SelectBase, TableClause, TextClause, TextualSelect, UpdateBase

from stockstore.coherence.protocol import Writes
from stockstore.errors import StockstoreError
from stockstore.mapped.foreign_keys import dependents
from stockstore.mapped.statements import dml_in, reading_of, table_written, tables_beside
from stockstore.mapped.tables import all_roots, mappers_in, mapping_version, replaces, roots_in_text, roots_named, roots_of
from stockstore_ext.sqlalchemy.collect.cascades import changed_along
from stockstore_ext.sqlalchemy.collect.lists import indexes_below, note_inserted
from stockstore_ext.sqlalchemy.collect.notes import Notes, wants
from stockstore_ext.sqlalchemy.collect.settings import DEFAULT, Collecting
from stockstore_ext.sqlalchemy.collect.told import TOLD, is_told

_log: Final = logging.getLogger(__name__)
_TEXTUAL: Final = (TextClause, TextualSelect, FromStatement)
_LISTED: Final = "_stockstore_listed"
_BUILT: Final = (SelectBase, UpdateBase)
"""What tells its tables; an application's own construct may be compiled to anything."""


class _Target(NamedTuple):
    """A table that a statement writes to."""

    table: TableClause
    changed: frozenset[str]
    """The tables whose rows the database changes along."""
    inserts: bool
    """Whether it only adds rows."""


_targets: Final[WeakKeyDictionary[Compiled, tuple[int, list[_Target] | None]]] = WeakKeyDictionary()


def may_write(context: ExecutionContext | None) -> bool:
    """Whether :func:`statement` has to look at a statement; cheap, for it is asked for every one."""
    if context is None or context.compiled is None:
        return True
    compiled: Any = context.compiled
    if type(compiled.statement) is Select:
        return bool(compiled.ctes)
    return context.isinsert or context.isupdate or context.isdelete or _is_loose(context)  # type: ignore[attr-defined]


def _is_loose(context: Any) -> bool:
    """Whether it is text, or defines tables, or has a write in a part of it."""
    return context.isddl or _is_text(context.compiled.statement) or bool(getattr(context.compiled, "ctes", None))


def _is_text(statement: object) -> bool:
    return isinstance(statement, _TEXTUAL) or not isinstance(statement, _BUILT)


def is_idle(context: Any, collecting: Collecting) -> bool:
    """Whether :func:`statement` has nothing to note of a statement that may write, as no cache keeps rows of its tables; cheap once it is known."""
    compiled = getattr(context, "compiled", None)
    if compiled is None or context.execution_options.get(TOLD):
        return False
    return collecting.idle.answer(compiled, lambda: _is_idle(context, collecting))


def _is_idle(context: Any, collecting: Collecting) -> bool:
    targets = _targets_of(context)
    roots = [{*roots_of(target.table, any_schema=True), *roots_named(target.changed)} for target in targets or ()]
    return targets is not None and not any(wants(root, collecting) for found in roots for root in found)


def statement(context: ExecutionContext | None, sql: str, writes: Writes, collecting: Collecting = DEFAULT) -> None:
    """Note the classes whose tables a statement writes, if nothing else tells about it.

    To be called in ``before_cursor_execute`` of the engine, with the ``Writes`` of the connection.

    Args:
        context: As the event has it.
        sql: The statement as the event has it.
        writes: Those of the connection.
        collecting: The settings.

    Raises:
        StockstoreError: Under the policy ``"raise"``, for raw SQL that does not tell what it writes.
    """
    options: Any = {} if context is None else context.execution_options
    if context is not None and is_told(options, collecting, writes, context.dialect):
        return
    notes, targets = Notes(writes, collecting), _targets_of(context)
    if targets is None:
        _note_text(sql, notes, collecting)
        return
    for target in targets:
        by_mapper = _is_by_mapper(target.table, options.get("compiled_cache"))
        _note(target, notes, context, by_mapper=by_mapper, limit=collecting.limit)


def _is_by_mapper(table: TableClause, cache: object) -> bool:
    """Whether it is a flush's, which tells its rows when it is done, or a bulk method's, which never tells: they use their mapper's own cache."""
    if cache is None or not isinstance(table, Table):
        return False
    return any(vars(mapper.base_mapper).get("_compiled_cache") is cache for mapper in mappers_in(table))


def _note(target: _Target, notes: Notes, context: Any, *, by_mapper: bool, limit: int) -> None:
    roots = roots_of(target.table, any_schema="schema_translate_map" in context.execution_options)
    if by_mapper:
        listed = {root for root in roots if target.inserts and notes.wants(root) and indexes_below(root)}
        notes.tentatively(roots - listed, inserted=target.inserts)
        notes.tentatively(listed, inserted=False)
    elif target.inserts:
        notes.inserted(roots)
        _note_lists(target, notes, [root for root in roots if notes.wants(root)], context, limit)
    else:
        notes.whole(roots)
    changed = roots_named(target.changed) if target.changed else frozenset()
    if by_mapper:
        notes.tentatively(changed, inserted=False)
    else:
        notes.whole(changed)


def _note_lists(target: _Target, notes: Notes, roots: Iterable[type], context: Any, limit: int) -> None:
    """Note the lists of new rows, once for a statement that is sent in several parts; of unknown rows the class."""
    seen = vars(context).setdefault(_LISTED, {})
    if seen.get(target.table) is not notes.writes:
        seen[target.table] = notes.writes
        notes.whole([root for root in roots if not notes.is_whole(root) and not note_inserted(notes, root, target.table, context, limit)])


def _targets_of(context: Any) -> list[_Target] | None:
    """Give the tables that a statement writes to, ``None`` where its text has to be read."""
    compiled = getattr(context, "compiled", None)
    if compiled is None or context.isddl:
        return None
    # A class that is mapped later may be one that the database changes along.
    stamp, known = mapping_version(), _targets.get(compiled)
    if known is None or known[0] != stamp:
        known = _targets[compiled] = stamp, _find_targets(compiled)
    return known[1]


def _find_targets(compiled: Any) -> list[_Target] | None:
    parts = dml_in(compiled.statement)
    if not parts and _is_text(compiled.statement):
        return None
    tables = [(part, table_written(compiled, part)) for part in parts]
    tables += [(part, table) for part in parts if isinstance(part, Update) for table in tables_beside(part)]
    return (
        [_target(part, table, compiled.column_keys) for part, table in dict.fromkeys(tables) if table is not None]
        if all(table is not None for _, table in tables)
        else None
    )


def _target(dml: UpdateBase, table: TableClause, column_keys: Sequence[str] | None) -> _Target:
    if isinstance(dml, Insert) and is_plain_insert(dml):
        return _Target(table, frozenset(), inserts=True)
    changed = frozenset[str]()
    if isinstance(dml, Update):
        changed = changed_along(dml, table, column_keys)
    elif not isinstance(dml, Delete):
        changed = dependents(table, "onupdate")
    if isinstance(dml, Delete) or may_replace(dml, table):
        changed |= dependents(table, "ondelete")
    return _Target(table, changed, inserts=False)


def may_replace(dml: UpdateBase, table: object) -> bool:
    """Whether a row may be deleted whose place another takes: by the table's definition, or a prefix such as OR REPLACE."""
    return bool(dml._prefixes) or replaces(table)  # noqa: SLF001 - there is no other way to ask


def is_plain_insert(dml: Insert) -> bool:
    """Whether an INSERT leaves rows alone that are there: it has no ON CONFLICT DO UPDATE, and no prefix such as OR REPLACE."""
    if replaces(dml.table):
        return False
    clause: Any = dml._post_values_clause  # noqa: SLF001 - there is no other way to ask
    harmless = clause is None or clause.__visit_name__ == "on_conflict_do_nothing"
    return harmless and not dml._prefixes  # noqa: SLF001 - as above


def _note_text(sql: str, notes: Notes, collecting: Collecting) -> None:
    reading = reading_of(sql)
    if reading.harmless:
        return
    if not reading.opaque:
        notes.whole(roots_in_text(sql, reading.words))
        return
    if collecting.policy == "raise":
        raise StockstoreError(
            f'raw SQL that does not tell what it writes was refused (on_raw_sql="raise"): {_short(sql)}; '
            "use tables and columns, or invalidate by hand under another setting"
        )
    if collecting.policy == "warn":
        _log.warning("raw SQL does not tell what it writes, so every class counts as written: %s", _short(sql))
    notes.whole(all_roots())


def _short(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= 120 else f"{text[:117]}..."  # noqa: PLR2004 - as much as a log line bears
