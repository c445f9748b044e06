# ruff: noqa: SLF001 - how a relationship is loaded has private names only
"""Lazy loads of one-to-many relationships, answered before SQLAlchemy builds a statement.

What a relationship asks for is learnt from the statement of its lazy load, when that was answered: the next one asks the same, for another
value. So nothing is done about mappings beforehand, and no relationship is touched of which nothing was ever served.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy.orm import PassiveFlag, Session
from sqlalchemy.orm.state import InstanceState

from stockstore.keys import Lookup
from stockstore.locks import fork_safe_lock
from stockstore.mapped.hydrate import begin
from stockstore_ext.sqlalchemy.read_through.found import Found, attached, found_in, in_order
from stockstore_ext.sqlalchemy.read_through.listeners import has_others, make_room
from stockstore_ext.sqlalchemy.read_through.options import is_any_strict
from stockstore_ext.sqlalchemy.read_through.seen import Seen, SeenList, give_back
from stockstore_ext.sqlalchemy.read_through.shapes import Question
from stockstore_ext.sqlalchemy.read_through.short_ways import ShortWays

_EXECUTE: Final = Session.execute
_PLAIN: Final = PassiveFlag.PASSIVE_OFF
_lock: Final = fork_safe_lock()


class LazyList:
    """Stands in the place of the function that loads one relationship of one class, and asks that whatever it is not sure of.

    Args:
        impl: SQLAlchemy's part of the attribute, that calls the function.
        local: The attribute of the parent whose value the rows carry.
        question: What a load has asked for.
    """

    __slots__ = ("__weakref__", "_asked", "_impl", "_kind", "_loader", "_local", "readers")

    def __init__(self, impl: Any, local: str, question: Question) -> None:
        """Take the place of the function, with no reader yet."""
        self._impl, self._loader, self._local, self._asked = impl, impl.callable_, local, question
        self._kind = type(question.lookups[0].values[0])
        self.readers: dict[type, LazyLists] = {}
        impl.callable_ = self

    def __call__(self, state: "InstanceState[Any]", passive: PassiveFlag = _PLAIN) -> Any:
        """Give the instances, or what the function gives."""
        session = state.session if passive == _PLAIN else None
        reader = self.readers.get(type(session))
        if session is None or reader is None or state.load_options or state.key is None:
            return self._loader(state, passive)
        value = state.dict.get(self._local)
        if type(value) is not self._kind or is_any_strict() or not _executes_plainly(session):
            return self._loader(state, passive)
        question = self._question(value)
        seen = reader.read(session, question)
        if seen is None:
            return self._loader(state, passive)
        if seen.rows is not None:
            found = reader.attached(session, question, seen.rows)
            return self._loader(state, passive) if found is None else found
        with reader.handing(session, question, seen):
            return self._loader(state, passive)

    def _question(self, value: Any) -> Question:
        asked = self._asked
        plan = asked.lookups[0].plan
        # Twice as fast as to replace one in a copy.
        return Question(
            asked.entity, [Lookup(plan, plan.native((value,)), (value,))], asked.sorted, asked.order, asked.paired, asked.listed
        )

    def leave(self, reader: "LazyLists") -> None:
        """Ask a reader no more; without the last one the relationship is as it was, unless somebody else stands there now."""
        self.readers = {kind: other for kind, other in self.readers.items() if other is not reader}
        if not self.readers and self._impl.callable_ is self:
            self._impl.callable_ = self._loader


class LazyLists:
    """Reads for one hook's sessions what lazy loads of one-to-many relationships ask for.

    What is wholly a hit needs no statement. Whatever else was read is handed to the statement, which goes on from there.

    Args:
        ways: The short ways to what the caches have.
    """

    def __init__(self, ways: ShortWays) -> None:
        """Know no relationship yet."""
        self._ways = ways
        self._known: WeakSet[LazyList] = WeakSet()
        self._handed: dict[Session, tuple[Lookup, SeenList | Seen]] = {}
        self._has_left = True

    # -- relationships --------------------------------------------------------------------------

    def learn(self, session: Session, loading: Any, statement: Any, question: Question) -> None:
        """Answer lazy loads of a relationship from now on as the statement of one that was just answered."""
        state: InstanceState[Any] | None = loading._lazy_loaded_from
        if state is None or len(question.listed) != 1:
            return
        prop = statement._compile_options._current_path.path[-1]
        impl: Any = state.manager[prop.key].impl
        if type(impl.callable_) is LazyList and impl.callable_.readers.get(type(session)) is self:
            return
        # Whoever stands between may have given the statement another order, which is not the relationship's.
        if has_others(session) or not _executes_plainly(session):
            return
        with _lock:
            if self._has_left:  # a statement of another thread's was still under way
                return
            known = impl.callable_ if type(impl.callable_) is LazyList else _lazy_list(impl, prop, state, question)
            if known is not None:
                self._known.add(known)
                make_room(known.readers)
                known.readers[type(session)] = self

    def enter(self) -> None:
        """Learn of relationships from now on."""
        self._has_left = False

    def leave(self) -> None:
        """Answer none of them any more."""
        with _lock:
            self._has_left = True
            for known in [*self._known]:
                known.leave(self)
            self._known.clear()

    # -- rows -----------------------------------------------------------------------------------

    def read(self, session: Session, question: Question) -> Seen | SeenList | None:
        """Give what was read, as :meth:`ShortWays.read`."""
        return self._ways.read(session, question)

    def attached(self, session: Session, question: Question, rows: Found) -> list[Any] | None:
        """Give the instances of rows, as the statement would; ``None``: one lacks what they are sorted by."""
        found = in_order(found_in(rows) if isinstance(rows, list) else rows, question)
        if found is None:
            return None
        begin(session, question.entity.mapper)
        return attached(session, found)

    @contextmanager
    def handing(self, session: Session, question: Question, seen: Seen | SeenList) -> Iterator[None]:
        """Hand what was read to the statement that asks the same."""
        self._handed[session] = (question.lookups[0], seen)
        try:
            yield
        finally:
            _, left = self._handed.pop(session, (None, None))
            give_back(left)

    def handed(self, session: Session, question: Question) -> Seen | SeenList | None:
        """Give what was read for a statement, if anything was."""
        lookup, _ = self._handed.get(session, (None, None)) if self._handed else (None, None)
        if lookup is None or not question.listed or [lookup] != question.lookups:
            return None
        return self._handed.pop(session)[1]


def _executes_plainly(session: Session) -> bool:
    return getattr(session.execute, "__func__", None) is _EXECUTE


def _lazy_list(impl: Any, prop: Any, state: "InstanceState[Any]", question: Question) -> LazyList | None:
    """Take the place of what loads a relationship, where that is SQLAlchemy's own lazy loader of a collection by one value of the parent."""
    strategy: Any = getattr(impl.callable_, "__self__", None)
    is_its_own: bool = getattr(strategy, "parent_property", None) is prop
    if not is_its_own or not prop.uselist or strategy.strategy_opts.get("lazy") not in (True, "select"):
        return None
    pairs = prop.local_remote_pairs
    local = prop.parent.get_property_by_column(pairs[0][0]).key
    fits = len(pairs) == 1 and state.dict.get(local) == question.lookups[0].values[0]
    return LazyList(impl, local, question) if fits else None
