# ruff: noqa: SLF001 - how a statement is executed has private names only
"""Answers the SELECT statements of a session that ask for rows by their keys."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Result, Select, event
from sqlalchemy.orm import FromStatement, Mapper, ORMExecuteState, Session
from sqlalchemy.orm.context import QueryContext
from sqlalchemy.orm.state import InstanceState

from stockstore.errors import CodecError
from stockstore.keys import IndexPlan, Lookup, keys_of
from stockstore.mapped import plan_of
from stockstore.mapped.hydrate import begin, has_changes
from stockstore_ext.sqlalchemy.read_through.batches import Batch
from stockstore_ext.sqlalchemy.read_through.entities import entity_of
from stockstore_ext.sqlalchemy.read_through.lists import lists_of
from stockstore_ext.sqlalchemy.read_through.options import BYPASS, REFRESH, is_bypassed
from stockstore_ext.sqlalchemy.read_through.refresh import Row, attached, has_all, primary_key, refresh
from stockstore_ext.sqlalchemy.read_through.remote import RemoteRows, Seen, SeenList
from stockstore_ext.sqlalchemy.read_through.results import entity_result, paired_result
from stockstore_ext.sqlalchemy.read_through.serving import Serving
from stockstore_ext.sqlalchemy.read_through.shapes import Question, recognise
from stockstore_ext.sqlalchemy.read_through.shortcut import Shortcut
from stockstore_ext.sqlalchemy.session_events import is_origin

_DEFAULT: Final = QueryContext.default_load_options
_LOADING: Final = "_sa_orm_load_options"
_OPTIONS: Final = frozenset(
    (
        _LOADING,
        "_result_disable_adapt_to_context",
        "autoflush",
        "compiled_cache",
        "prebuffer_rows",
        "sa_top_level_orm_context",
        "logging_token",
        BYPASS,
        REFRESH,
    )
)
"""Execution options that leave the rows as they are."""
_BINDS: Final = frozenset(("clause", "mapper"))
_ODD: Final = ("_populate_existing", "_version_check", "_only_return_tuples", "_yield_per", "_is_user_refresh")


class Statements:
    """Serves the statements of sessions that are recognised; all others are executed as they are.

    Guaranteed: the rows, their order where the statement tells it, and what becomes of the instances that the session has already, are
    those of the database. A statement without an order gives its rows by the primary key. A statement that another listener of
    ``do_orm_execute`` is still to see is executed as it is, since that may change it.
    """

    def __init__(self, serving: Serving, shortcut: Shortcut, remote: RemoteRows) -> None:
        """Serve nobody yet."""
        self._serving = serving
        self._shortcut = shortcut
        self._remote = remote

    def hear(self, target: Any) -> None:
        """Answer the sessions of a Session class, sessionmaker or scoped_session, after all others that listen to them by now."""
        event.listen(target, "do_orm_execute", self.answer)

    def leave(self, target: Any) -> None:
        """Answer no more."""
        if event.contains(target, "do_orm_execute", self.answer):
            event.remove(target, "do_orm_execute", self.answer)

    def answer(self, execution: ORMExecuteState) -> Result[Any] | None:
        """Give the result of a statement, ``None`` where it is to be executed as it is."""
        loading = execution.execution_options.get(_LOADING, _DEFAULT)
        statement: Any = execution.statement
        if loading is not _DEFAULT and loading._refresh_state is not None:
            return self._refreshed(execution, statement, loading)
        question = recognise(statement, execution.parameters, self._serving.refuses_class) if type(statement) is Select else None
        if question is None or not _may_answer(execution, loading):
            return None
        if question.paired and loading._sa_top_level_orm_context is None:
            return None
        return self._found(execution, loading, question)

    # -- rows -----------------------------------------------------------------------------------

    def _found(self, execution: ORMExecuteState, loading: Any, question: Question) -> Result[Any] | None:
        session, anew = execution.session, bool(execution.execution_options.get(REFRESH))
        seen = None if anew else self._seen(session, question)
        rows = seen.rows if seen is not None else None if anew else self._shortcut.rows(session, question)
        if rows is None:
            rows = self._read(execution, loading, question, anew, seen)
        else:
            begin(session, question.entity.mapper)
        if rows is None:
            return None
        rows = _sorted(rows, question)
        instances = attached(session, rows)
        if not question.paired:
            return entity_result(question.entity, instances)
        first = [_values_of(row, question.listed) for row in rows] if question.listed else map(primary_key, rows)
        return paired_result(question.entity, list(zip(first, instances, strict=True)), question.listed)

    def _seen(self, session: Session, question: Question) -> Seen | SeenList | None:
        lookups = question.lookups
        if question.listed:
            return self._remote.read_list(session, question.entity.cls, lookups[0]) if len(lookups) == 1 else None
        return (
            self._remote.read(session, question.entity.cls, lookups.values)
            if type(lookups) is Batch and lookups and question.sorted
            else None
        )

    def _read(
        self, execution: ORMExecuteState, loading: Any, question: Question, anew: bool, seen: Seen | SeenList | None
    ) -> list[Row] | None:
        session, cls = execution.session, question.entity.cls
        if self._serving.refuses(session, cls, reads=len(question.lookups)):
            return None
        _begin(execution, question.entity.mapper, loading)
        if question.listed:
            states = self._listed(session, question, anew, seen if isinstance(seen, SeenList) else None)
        else:
            states = self._serving.states(session, cls, question.lookups, refresh=anew, seen=None if seen is None else seen.tier)
        if states is not None:
            self._shortcut.learn(session, cls)
            self._remote.learn(session, cls)
        return None if states is None else [row for row in states if row is not None]

    def _listed(self, session: Session, question: Question, anew: bool, seen: SeenList | None) -> list[Row | None] | None:
        plan = question.lookups[0].plan if question.lookups else None
        if not isinstance(plan, IndexPlan):
            return None
        found = self._serving.lists(session, question.entity.cls, lists_of(plan, list(question.lookups)), refresh=anew, seen=seen)
        return None if found is None else [row for rows in found for row in rows]

    def _refreshed(self, execution: ORMExecuteState, statement: Any, loading: Any) -> Result[Any] | None:
        """Answer the refresh of an expired instance; one that the user asks for reads the database."""
        state: InstanceState[Any] = loading._refresh_state
        names = getattr(statement._compile_options, "_only_load_props", None)
        if not names or type(statement) not in (Select, FromStatement) or not _may_answer(execution, loading) or not _is_whole(state):
            return None
        cls, session = state.class_, execution.session
        if is_bypassed(session) or self._serving.refuses(session, cls) or not has_all(plan_of(cls), names):
            return None
        lookup = _identity(cls, state)
        if lookup is None:
            return None
        _begin(execution, state.mapper, loading)
        found = self._serving.states(session, cls, [lookup])
        if found is None or (found[0] is not None and found[0][0].cls is not cls):
            return None
        if found[0] is not None:
            refresh(state, found[0], names)
        return entity_result(entity_of(state.mapper), [] if found[0] is None else [state.obj()])


def _may_answer(execution: ORMExecuteState, loading: Any) -> bool:
    options = execution.execution_options
    return (
        options.keys() <= _OPTIONS
        and options.get(BYPASS) is not False
        and execution.bind_arguments.keys() <= _BINDS
        and (loading is _DEFAULT or (not any(getattr(loading, name, None) for name in _ODD) and loading._identity_token is None))
        and len(execution._events_todo) == execution._starting_event_idx + 1
        and not is_origin(execution.session)
    )


def _begin(execution: ORMExecuteState, mapper: Mapper[Any], loading: Any) -> None:
    """Flush and begin as the statement would: by a later rollback, what it sets in instances expires."""
    session = execution.session
    if loading._autoflush and session.autoflush and has_changes(session):
        session._autoflush()
        # One flush may leave something to the next, which is not this statement's, should it be executed after all.
        execution.update_execution_options(autoflush=False)
    begin(session, mapper)


def _is_whole(state: "InstanceState[Any]") -> bool:
    """Whether the instance has a row, and was loaded without options, which a refresh follows too."""
    return state.key is not None and state.identity_token is None and None not in state.key[1] and not state.load_options


def _identity(cls: type, state: "InstanceState[Any]") -> Lookup | None:
    """Give the lookup of an instance, ``None`` where its key cannot be one of a cache."""
    key: Any = state.key
    try:
        return keys_of(cls).lookup(dict(zip(plan_of(cls).primary_key, key[1], strict=True)))
    except CodecError:
        return None


# -- instances ----------------------------------------------------------------------------------------


def _sorted(rows: list[Row], question: Question) -> list[Row]:
    if not question.order:
        return rows if question.sorted else _by_primary_key(rows)
    alike = len({plan for plan, _ in rows}) == 1
    for name, descending in reversed(question.order):
        rows.sort(key=_value_at(rows[0][0].attrs.index(name)) if alike else _value_of(name), reverse=descending)
    return rows


def _by_primary_key(rows: list[Row]) -> list[Row]:
    try:
        return sorted(rows, key=primary_key)
    except TypeError:  # of values without an order, such as enums
        return rows


def _values_of(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    plan, values = row
    return tuple([values[plan.attrs.index(name)] for name in names])


def _value_of(name: str) -> Callable[[Row], Any]:
    return lambda row: row[1][row[0].attrs.index(name)]


def _value_at(place: int) -> Callable[[Row], Any]:
    return lambda row: row[1][place]
