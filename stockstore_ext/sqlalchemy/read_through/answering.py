# ruff: noqa: SLF001 - how a statement is executed has private names only
"""What all statements have in common that are answered: whether they may be, and what is done before."""

from typing import Any, Final

from sqlalchemy.orm import Mapper, ORMExecuteState
from sqlalchemy.orm.context import QueryContext
from sqlalchemy.orm.state import InstanceState

from stockstore.errors import CodecError
from stockstore.keys import Lookup, keys_of
from stockstore.mapped import plan_of
from stockstore.mapped.hydrate import begin, has_changes
from stockstore_ext.sqlalchemy.read_through.options import BYPASS, REFRESH, STRICT
from stockstore_ext.sqlalchemy.session_events import is_origin
from stockstore_ext.sqlalchemy.shards import Token

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
        STRICT,
    )
)
"""Execution options that leave the rows as they are."""
_SHARD_OPTIONS: Final = _OPTIONS | {"identity_token", "_sa_shard_id"}
_BINDS: Final = frozenset(("clause", "mapper"))
_SHARD_BINDS: Final = _BINDS | {"shard_id", "_sa_skip_events"}
_ODD: Final = ("_populate_existing", "_version_check", "_only_return_tuples", "_yield_per", "_is_user_refresh")


def loading_of(execution: ORMExecuteState) -> Any:
    """Give SQLAlchemy's options for what the rows of a statement are loaded into."""
    return execution.execution_options.get(_LOADING, _DEFAULT)


def may_answer(execution: ORMExecuteState, loading: Any, token: Token = None) -> bool:
    """Whether a statement's options leave its rows as they are: on a session's own database, or on the shard that a sharded one has chosen."""
    options, plain = execution.execution_options, token is None
    return (
        options.keys() <= (_OPTIONS if plain else _SHARD_OPTIONS)
        and options.get(BYPASS) in (None, True)
        and execution.bind_arguments.keys() <= (_BINDS if plain else _SHARD_BINDS)
        and (loading is _DEFAULT or not any(getattr(loading, name, None) for name in _ODD))
        and loading._identity_token == token
        and len(execution._events_todo) == execution._starting_event_idx + 1
        and not is_origin(execution.session)
    )


def begin_as(execution: ORMExecuteState, mapper: Mapper[Any], loading: Any, token: Token = None) -> None:
    """Flush and begin as the statement would: by a later rollback, what it sets in instances expires."""
    session = execution.session
    if loading._autoflush and session.autoflush and has_changes(session):
        session._autoflush()
        # One flush may leave something to the next, which is not this statement's, should it be executed after all.
        execution.update_execution_options(autoflush=False)
    begin(session, mapper, token)


# -- refreshes ----------------------------------------------------------------------------------------


def is_whole(state: "InstanceState[Any]", token: Token = None) -> bool:
    """Whether the instance has a row, and was loaded without options, which a refresh follows too."""
    return state.key is not None and state.identity_token == token and None not in state.key[1] and not state.load_options


def identity_of(cls: type, state: "InstanceState[Any]") -> Lookup | None:
    """Give the lookup of an instance, ``None`` where its key cannot be one of a cache."""
    key: Any = state.key
    try:
        return keys_of(cls).lookup(dict(zip(plan_of(cls).primary_key, key[1], strict=True)))
    except CodecError:
        return None
