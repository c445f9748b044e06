# ruff: noqa: SLF001 - methods would take longer than all the rest of a hit
"""Whether a session certainly reads what the caches hold, told at a glance."""

from typing import Any, Final, NamedTuple
from weakref import ref

from sqlalchemy import Engine
from sqlalchemy.orm import Session
from sqlalchemy.orm.session import SessionTransactionState

from stockstore.mapped import sessions
from stockstore.stores.sql_sessions import ORIGIN_MARK
from stockstore_ext.sqlalchemy.read_through.listeners import has_others, make_room
from stockstore_ext.sqlalchemy.recording import Recording

_GET_BIND: Final = Session.get_bind
_BINDS: Final = next(name for name in ("binds", "_Session__binds") if name in vars(Session()))


_journals: Final[Any] = sessions._journals.data  # type: ignore[attr-defined]


class _Known(NamedTuple):
    """What was found right for the sessions of one class."""

    bind: Any
    options: Any
    listeners: list[Any]
    rules: list[Any]


class Glance:
    """Judges sessions for one hook.

    Of a session that it is sure of, the longer way would be sure too: each test here is one that it makes, or a stricter one. What
    may change between two looks is looked at each time, or compared with what it was when the longer way was last asked.
    """

    def __init__(self, recording: Recording) -> None:
        """Know no session yet."""
        self._recording = recording
        self._known: dict[type, _Known] = {}

    def is_sure(self, session: Session, cls: type) -> bool:
        """Whether a load by primary key in a session may be answered from the caches."""
        own = session.__dict__
        if session._flushing or own.get("execution_options") or "shard_chooser" in own or ORIGIN_MARK in session.info:
            return False
        if session.autoflush and (session._new or session._deleted or session.identity_map._modified):
            return False
        known = self._known.get(type(session))
        if known is None or known.rules != sessions._rules:
            return False
        this = ref(session)
        heard: Any = session.dispatch.do_orm_execute
        if this in _journals or heard.listeners or [*heard.parent_listeners] != known.listeners:
            return False
        bind = own["bind"] if type(session).get_bind is _GET_BIND and not own[_BINDS] else session.get_bind(cls)
        return bind is known.bind and bind._execution_options is known.options and self._sees(session, known, this)

    def _sees(self, session: Session, known: _Known, this: "ref[Session]") -> bool:
        transaction: Any = session._transaction
        if transaction is None:
            return True
        if transaction._state is SessionTransactionState.PREPARED:
            return False
        opened = transaction._connections
        if not opened:
            return transaction._parent is None
        entry = opened.get(known.bind)
        # The one connection stands there by its engine too.
        if entry is None or len(opened) != 2 or entry[0]._execution_options is not known.options:  # noqa: PLR2004 - see above
            return False
        return self._recording.sees(entry[0], this)

    def learn(self, session: Session, cls: type) -> None:
        """Take what the longer way has just been sure of, where it is the same for all sessions of the class."""
        rules = [*sessions._rules]
        told = [rule for rule in rules if getattr(rule, "concerns", lambda _kind: True)(type(session))]
        bind: Any = session.get_bind(cls)
        if self._recording.scopes.is_same_for_all and len(told) == 1 and isinstance(bind, Engine) and not has_others(session):
            heard: Any = session.dispatch.do_orm_execute
            make_room(self._known)
            self._known[type(session)] = _Known(bind, bind._execution_options, [*heard.parent_listeners], rules)
