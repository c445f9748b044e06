"""Who else hears of a session's statements."""

from typing import Any, Final

from sqlalchemy.orm import Session

_OURS: Final = ("stockstore.", "stockstore_ext.")
_KNOWN: Final = (*_OURS, "sqlalchemy.ext.horizontal_shard")
"""Where listeners are from that add no criteria: ours, and the one by which a sharded session asks its shards."""
CLASSES: Final = 100
"""Of how many Session classes what was found is kept: each sessionmaker makes one, and some applications make many of these."""


class Unheard:
    """Stands for a state of execution of which no listener is left to hear: whoever is given it executes the statement itself."""

    def _remaining_events(self) -> tuple[()]:
        return ()


UNHEARD: Final = Unheard()


class Listeners:
    """Tells sessions whose statements none but this project's own listeners hear of, of which one hook is the only one that answers."""

    def __init__(self, hook: object) -> None:
        """Know no listeners yet."""
        self._hook = hook
        self._known: dict[type, tuple[list[Any], bool]] = {}

    def are_ours(self, session: Session) -> bool:
        """Whether nobody else listens."""
        heard: Any = session.dispatch.do_orm_execute
        if heard.listeners:
            return False
        known = self._known.get(type(session))
        if known is None or known[0] != [*heard.parent_listeners]:
            listeners = [*heard.parent_listeners]
            make_room(self._known)
            known = self._known[type(session)] = (listeners, self._are_ours(listeners))
        return known[1]

    def _are_ours(self, listeners: list[Any]) -> bool:
        answering = [listener for listener in listeners if isinstance(getattr(listener, "__self__", None), type(self._hook))]
        return all(map(_is_ours, listeners)) and [listener.__self__ for listener in answering] == [self._hook]


def make_room(known: dict[type, Any]) -> None:
    """Forget all where too many classes are known, which a dict keeps alive: to ask whether they are is more than a read has time for."""
    if len(known) >= CLASSES:
        known.clear()


def has_others(session: Session) -> bool:
    """Whether the application listens to the statements of a session, and so may add criteria that a look into a cache would not heed."""
    for listener in session.dispatch.do_orm_execute:  # noqa: SIM110 - each load by primary key asks, and any() takes three times as long
        if not str(getattr(listener, "__module__", "")).startswith(_KNOWN):
            return True
    return False


def _is_ours(listener: Any) -> bool:
    return str(getattr(listener, "__module__", "")).startswith(_OURS)
