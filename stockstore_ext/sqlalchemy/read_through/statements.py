# ruff: noqa: SLF001 - how a statement is executed has private names only
"""Answers the SELECT statements of a session that ask for rows by their keys."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Result, Select, event
from sqlalchemy.ext.horizontal_shard import set_shard_id
from sqlalchemy.orm import FromStatement, ORMExecuteState, Session
from sqlalchemy.orm.state import InstanceState
from sqlalchemy.util import EMPTY_DICT

from stockstore.keys import IndexPlan
from stockstore.mapped import plan_of
from stockstore.mapped.hydrate import begin
from stockstore_ext.sqlalchemy.read_through.answering import begin_as, identity_of, is_whole, loading_of, may_answer
from stockstore_ext.sqlalchemy.read_through.entities import entity_of
from stockstore_ext.sqlalchemy.read_through.found import Found, attached, attached_on_shard, found_in, in_order, keys_in_front
from stockstore_ext.sqlalchemy.read_through.glance import Glance
from stockstore_ext.sqlalchemy.read_through.lazy_lists import LazyLists
from stockstore_ext.sqlalchemy.read_through.listeners import UNHEARD, Listeners, Unheard
from stockstore_ext.sqlalchemy.read_through.lists import lists_of
from stockstore_ext.sqlalchemy.read_through.options import REFRESH, is_any_strict, is_bypassed, is_strict
from stockstore_ext.sqlalchemy.read_through.refresh import Row, has_all, refresh
from stockstore_ext.sqlalchemy.read_through.results import entity_result, paired_result
from stockstore_ext.sqlalchemy.read_through.seams import Seam
from stockstore_ext.sqlalchemy.read_through.seen import UNSEEN, Seen, SeenList, give_back
from stockstore_ext.sqlalchemy.read_through.serving import Serving
from stockstore_ext.sqlalchemy.read_through.shapes import Question, recognise
from stockstore_ext.sqlalchemy.read_through.short_ways import ShortWays
from stockstore_ext.sqlalchemy.read_through.strictly import Strictly
from stockstore_ext.sqlalchemy.shards import Token, is_sharded


class _Way(NamedTuple):
    """How a statement is answered.

    Attributes:
        serving: What reads its rows.
        starts: Begins a transaction as the statement would.
        token: The shard that it is sent to.
        options: What loads from its instances follow.
        anew: Whether the caches are to keep what the database has now.
        goes_long: Whether there is no short way.
    """

    serving: Serving
    starts: Callable[[], None]
    token: Token = None
    options: tuple[set_shard_id, ...] = ()
    anew: bool = False
    goes_long: bool = False


class Statements:
    """Serves the statements of sessions that are recognised; all others are executed as they are.

    Guaranteed: the rows, their order where the statement tells it, and what becomes of the instances that the session has already, are
    those of the database. A statement without an order gives its rows by the primary key. A statement that another listener of
    ``do_orm_execute`` is still to see is executed as it is, since that may change it.
    """

    def __init__(self, strictly: Strictly, glance: Glance, ways: ShortWays) -> None:
        """Serve nobody yet."""
        self._glance = glance
        self._listeners = Listeners(self)
        self._strictly = strictly
        self._serving = strictly.servings(strict=False).plain
        self._ways = ways
        self._lazy = LazyLists(ways)

    def hear(self, target: Any) -> None:
        """Answer the sessions of a Session class, sessionmaker or scoped_session, after all others that listen to them by now."""
        event.listen(target, "do_orm_execute", self.answer)
        self._lazy.enter()

    def leave(self, target: Any) -> None:
        """Answer no more."""
        if event.contains(target, "do_orm_execute", self.answer):
            event.remove(target, "do_orm_execute", self.answer)
        self._lazy.leave()

    def answer(self, execution: ORMExecuteState) -> Result[Any] | None:
        """Give the result of a statement, ``None`` where it is to be executed as it is."""
        if is_sharded(execution.session):
            # SQLAlchemy's own listener asks the shards that the application chooses, one by one, of which the rest of the listeners hear.
            execution._events_todo.append(self._answer_on_shard)
            return None
        return self._answer(execution, None)

    def _answer_on_shard(self, execution: ORMExecuteState) -> Result[Any] | None:
        token = execution.bind_arguments.get("shard_id")
        return None if token is None else self._answer(execution, token)

    def _answer(self, execution: ORMExecuteState, token: Token) -> Result[Any] | None:
        loading, statement = loading_of(execution), execution.statement
        if loading._refresh_state is not None:
            return self._refreshed(execution, statement, loading, token)
        question = recognise(statement, execution.parameters, self._serving.refuses_class) if type(statement) is Select else None
        if question is None or not may_answer(execution, loading, token):
            return None
        if question.paired and loading._sa_top_level_orm_context is None:
            return None
        found = self._asked(execution, loading, question, token)
        if question.listed and found is not None and token is None:
            self._lazy.learn(execution.session, loading, statement, question)
        return found

    def at_once(self, session: Session, statement: "Select[Any]", parameters: Any) -> "Result[Any] | Unheard | None":
        """Give the result of a statement that is executed with no options, in a session that is certainly served.

        ``None``: it takes a longer look. SQLAlchemy prepares much for listeners that no statement needs: where none but ours listen,
        who have nothing to do with it or have just refused it, it is executed unheard.
        """
        if not self._listeners.are_ours(session):
            return None
        question = recognise(statement, parameters, self._serving.refuses_class)
        if question is None:
            return UNHEARD
        if statement._execution_options or is_any_strict() or question.paired or not self._glance.is_sure(session, question.entity.cls):
            return None
        rows = self._ways.in_memory(session, question, is_sure=True)
        if rows is None:
            way = _Way(self._serving, partial(begin, session, question.entity.mapper))
            result = self._read_through(session, question, way, self._ways.below(session, question))
            return UNHEARD if result is None else result
        found = in_order(rows, question)
        if found is None:
            return None
        begin(session, question.entity.mapper)
        return entity_result(question.entity, attached(session, found))

    # -- rows -----------------------------------------------------------------------------------

    def _asked(self, execution: ORMExecuteState, loading: Any, question: Question, token: Token) -> Result[Any] | None:
        session, anew = execution.session, bool(execution.execution_options.get(REFRESH))
        strict = is_strict(session, execution.execution_options)
        serving = self._strictly.servings(strict=strict).of(token) if strict or token is not None else self._serving
        starts = partial(begin_as, execution, question.entity.mapper, loading, token)
        options = () if token is None else _passed_on(execution.statement)
        return self._found(session, question, _Way(serving, starts, token, options, anew, goes_long=anew or strict or token is not None))

    def _found(self, session: Session, question: Question, way: "_Way") -> Result[Any] | None:
        seen = None if way.goes_long else self._lazy.handed(session, question) or self._ways.read(session, question)
        return self._read_through(session, question, way, seen)

    def _read_through(self, session: Session, question: Question, way: "_Way", seen: Seen | SeenList | None) -> Result[Any] | None:
        """Give the result of rows that a short way has found, or of what is read after it."""
        rows: Found | None = None if seen is None else seen.rows
        if rows is not None:
            begin(session, question.entity.mapper)
        elif (rows := self._read_on(session, question, way, seen)) is None:
            return None
        found = in_order(found_in(rows) if isinstance(rows, list) else rows, question)
        if found is None:
            return None
        instances = attached(session, found) if way.token is None else attached_on_shard(session, found, way.token, way.options)
        if not question.paired:
            return entity_result(question.entity, instances)
        pairs = list(zip(keys_in_front(found, question.listed), instances, strict=True))
        return paired_result(question.entity, pairs, question.listed)

    def _read_on(self, session: Session, question: Question, way: "_Way", seen: Seen | SeenList | None) -> list[Row] | None:
        rows = None
        try:
            rows = self._read(session, question, way, seen)
        finally:
            if rows is None:
                give_back(seen)
        return rows

    def _read(self, session: Session, question: Question, way: "_Way", seen: Seen | SeenList | None) -> list[Row] | None:
        serving, cls = way.serving, question.entity.cls
        # Of what is absent the short way was just sure that the session may be served.
        if (seen is None or seen.absent is None) and serving.refuses(session, cls, reads=len(question.lookups)):
            return None
        way.starts()
        if question.listed:
            states = _listed(serving, session, question, way.anew, seen if isinstance(seen, SeenList) else None)
        else:
            states = serving.states(session, cls, question.lookups, refresh=way.anew, seen=seen if isinstance(seen, Seen) else UNSEEN)
        if states is not None and serving is self._serving and (seen is None or seen.absent is None):
            self._ways.learn(session, cls)
        return None if states is None else [row for row in states if row is not None]

    def _refreshed(self, execution: ORMExecuteState, statement: Any, loading: Any, token: Token) -> Result[Any] | None:
        """Answer the refresh of an expired instance; one that the user asks for reads the database."""
        state: InstanceState[Any] = loading._refresh_state
        names = getattr(statement._compile_options, "_only_load_props", None)
        if not names or type(statement) not in (Select, FromStatement) or not may_answer(execution, loading, token):
            return None
        cls, session = state.class_, execution.session
        serving = self._strictly.servings(strict=is_strict(session, execution.execution_options)).of(token)
        if not is_whole(state, token) or is_bypassed(session) or serving.refuses(session, cls) or not has_all(plan_of(cls), names):
            return None
        lookup = identity_of(cls, state)
        if lookup is None:
            return None
        begin_as(execution, state.mapper, loading, token)
        found = serving.states(session, cls, [lookup])
        if found is None or not _is_certain(cls, found[0]):
            return None
        if found[0] is not None and not refresh(state, found[0], names):
            return None
        return entity_result(entity_of(state.mapper), [] if found[0] is None else [state.obj()])


def statement_methods(seam: Seam[Statements]) -> dict[str, Any]:
    """Give the method that a Session class gets, through which all that a session executes goes."""

    def _execute_internal(
        self: Session,
        statement: Any,
        params: Any = None,
        *,
        execution_options: Any = EMPTY_DICT,
        bind_arguments: Any = None,
        _parent_execute_state: Any = None,
        _add_event: Any = None,
        _scalar_result: bool = False,
    ) -> Any:
        hooks = seam.hooks
        if (
            type(statement) is Select
            and len(hooks) == 1
            and not (execution_options or bind_arguments or _parent_execute_state is not None or _add_event is not None)
        ):
            found = hooks[0].at_once(self, statement, params)
            if isinstance(found, Result):
                return found.scalar() if _scalar_result else found
            _parent_execute_state = found
        return seam.original(self, "_execute_internal")(
            statement,
            params,
            execution_options=execution_options,
            bind_arguments=bind_arguments,
            _parent_execute_state=_parent_execute_state,
            _add_event=_add_event,
            _scalar_result=_scalar_result,
        )

    return {"_execute_internal": _execute_internal}


def _is_certain(cls: type, row: Row | None) -> bool:
    """Whether a refresh reads just this: it takes a row that has come to be of another class as it is, by the tables of the instance's."""
    found = plan_of(cls).root if row is None else row[0].cls
    return found is cls


def _passed_on(statement: Any) -> tuple[set_shard_id, ...]:
    """Give the options of a statement that loads from its instances follow."""
    return tuple([option for option in statement._with_options if type(option) is set_shard_id and option.propagate_to_loaders])


def _listed(serving: Serving, session: Session, question: Question, anew: bool, seen: SeenList | None) -> list[Row | None] | None:
    plan = question.lookups[0].plan if question.lookups else None
    if not isinstance(plan, IndexPlan):
        return None
    found = serving.lists(session, question.entity.cls, lists_of(plan, list(question.lookups)), refresh=anew, seen=seen)
    return None if found is None else [row for rows in found for row in rows]
