"""Answers by primary key before a statement is built: ``session.get`` and lazy many-to-one loads.

Both first ask the session's ``_identity_lookup``, which SQLAlchemy's own horizontal sharding overrides too.
"""

from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any, Final, TypeAlias

from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import InstanceState, Mapper, PassiveFlag, Session
from sqlalchemy.orm.base import PASSIVE_CLASS_MISMATCH
from sqlalchemy.util import EMPTY_DICT

from stockstore.errors import CodecError
from stockstore.keys import Lookup, keys_of
from stockstore.mapped import MappedPlan, plan_of
from stockstore.mapped.hydrate import has_changes
from stockstore_ext.sqlalchemy.read_through.found import attached
from stockstore_ext.sqlalchemy.read_through.glance import Glance
from stockstore_ext.sqlalchemy.read_through.listeners import has_others
from stockstore_ext.sqlalchemy.read_through.options import ASIDE, BYPASS, STRICT, is_refresh, is_served, is_strict, within
from stockstore_ext.sqlalchemy.read_through.quick import Hit
from stockstore_ext.sqlalchemy.read_through.remote import RemoteRows
from stockstore_ext.sqlalchemy.read_through.seams import Seam
from stockstore_ext.sqlalchemy.read_through.seen import UNSEEN, give_back
from stockstore_ext.sqlalchemy.read_through.strictly import Strictly
from stockstore_ext.sqlalchemy.session_events import is_origin
from stockstore_ext.sqlalchemy.shards import Token, is_sharded

Options: TypeAlias = Mapping[str, Any]
_LOADING: Final = PassiveFlag.SQL_OK | PassiveFlag.RELATED_OBJECT_OK
_RAISES: Final = "stockstore.raises"


class Identities:
    """Answers for one hook.

    Attributes:
        hits: The short way to a hit, of classes for which there is one.
    """

    def __init__(self, strictly: Strictly, glance: Glance, remote: RemoteRows) -> None:
        """Read by what serves the hook's sessions."""
        self._strictly = strictly
        self.hits: dict[type, Hit] = {}
        self._serving = strictly.servings(strict=False).plain
        self._remote = remote
        self._glance = glance
        self._plans: dict[type, MappedPlan] = {}

    def serves(self, cls: type) -> bool:
        """Whether any session may be served a class."""
        return not self._serving.refuses_class(cls)

    def find(self, session: Session, mapper: Mapper[Any], identity: Sequence[Any], options: Options) -> object | None:
        """Give the object of a primary key, ``PASSIVE_CLASS_MISMATCH`` where there is none; ``None``: SQLAlchemy is to look itself."""
        cls, seen = mapper.class_, None
        if is_sharded(session):
            return None
        strict = is_strict(session, options)
        if not options and not strict and len(identity) == 1:
            seen = self._remote.read(session, cls, [*identity])
            if seen is not None and isinstance(seen.rows, list):
                plan, state = seen.rows[0]
                return plan.attach(session, state)  # type: ignore[no-any-return]
        if seen is None and _is_refused(session, options):
            return None
        lookup, found = _lookup(cls, identity), None
        serving = self._strictly.servings(strict=True).plain if strict else self._serving
        try:
            found = lookup and serving.find(
                session, cls, [lookup], refresh=is_refresh(session, options), counted=False, seen=seen or UNSEEN
            )
        finally:
            if found is None:
                give_back(seen)
        if not found:
            return None
        if seen is None and not strict:
            self._learn(session, cls)
        return PASSIVE_CLASS_MISMATCH if found[0] is None else found[0]

    def find_on_shard(
        self, session: Session, mapper: Mapper[Any], identity: Sequence[Any], token: Token, options: Options
    ) -> object | None:
        """Give the object of a primary key on a shard of a sharded session; ``None``: SQLAlchemy is to look itself."""
        if _is_refused(session, options) or is_refresh(session, options):
            return None
        lookup = _lookup(mapper.class_, identity)
        # What is not found is counted by the statement.
        serving = self._strictly.servings(strict=is_strict(session, options)).of(token)
        rows = None if lookup is None else serving.states(session, mapper.class_, [lookup], counted=False)
        return attached(session, [rows[0]], token)[0] if rows and rows[0] is not None else None

    def _learn(self, session: Session, cls: type) -> None:
        plan = plan_of(cls)
        if self._plans.get(cls) is not plan:
            self._plans[cls] = plan
            self.hits.pop(cls, None)
            hit = self._serving.quick_hit(cls, self._glance)
            if hit is not None:
                self.hits[cls] = hit
        if cls in self.hits and not self._glance.is_sure(session, cls):
            self._glance.learn(session, cls)
        self._remote.learn(session, cls)


def identity_methods(seam: Seam[Identities]) -> dict[str, Any]:
    """Give the methods that a Session class gets."""

    def _hit(session: Session, cls: Any, key: Any) -> Any:
        hooks = seam.hooks
        try:
            hit = hooks[0].hits.get(cls) if len(hooks) == 1 else None
        except TypeError:  # no class, and without a hash
            return None
        return None if hit is None else hit(session, key)

    @wraps(Session.get)
    def get(self: Session, entity: Any, ident: Any, **options: Any) -> Any:
        found = _hit(self, entity, ident) if not options or _are_defaults(options) else None
        return seam.original(self, "get")(entity, ident, **options) if found is None else found

    def _identity_lookup(
        self: Session,
        mapper: Mapper[Any],
        primary_key_identity: Sequence[Any],
        identity_token: Any = None,
        passive: PassiveFlag = PassiveFlag.PASSIVE_OFF,
        lazy_loaded_from: InstanceState[Any] | None = None,
        execution_options: Options = EMPTY_DICT,
        bind_arguments: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> object | None:
        if is_sharded(self) and issubclass(seam.cls, ShardedSession) and passive & _LOADING == _LOADING and lazy_loaded_from is None:
            token = _token(self, mapper, primary_key_identity, identity_token, execution_options, bind_arguments)
            serving = [] if token is None or more else [hook for hook in seam.hooks if hook.serves(mapper.class_)]
            for hook in serving if serving and _is_absent(self, mapper, primary_key_identity, token) else ():
                found = hook.find_on_shard(self, mapper, primary_key_identity, token, execution_options)
                if found is not None:
                    return found
        plain = identity_token is None and not bind_arguments and not more and passive & _LOADING == _LOADING
        if plain and not _heeds_more(lazy_loaded_from, mapper):
            if lazy_loaded_from is not None:
                key = primary_key_identity[0] if len(primary_key_identity) == 1 else tuple(primary_key_identity)
                found = _hit(self, mapper.class_, key)
                if found is not None:
                    return found  # type: ignore[no-any-return]
            serving = [hook for hook in seam.hooks if hook.serves(mapper.class_)]
            for hook in serving if serving and _is_absent(self, mapper, primary_key_identity) else ():
                found = hook.find(self, mapper, primary_key_identity, execution_options)
                if found is not None:
                    return found
        asked = {
            "identity_token": identity_token,
            "passive": passive,
            "lazy_loaded_from": lazy_loaded_from,
            "execution_options": execution_options,
            "bind_arguments": bind_arguments,
        }
        return seam.original(self, "_identity_lookup")(mapper, primary_key_identity, **asked, **more)  # type: ignore[no-any-return]

    def _get_impl(self: Session, *args: Any, **more: Any) -> object | None:
        execution_options = more.get("execution_options", EMPTY_DICT)
        if more.get("options"):
            more["execution_options"] = {**execution_options, ASIDE: True}
        original = seam.original(self, "_get_impl")
        if execution_options.get(BYPASS) in (None, True) and not execution_options.get(STRICT):
            return original(*args, **more)  # type: ignore[no-any-return]
        with within(self, execution_options):
            return original(*args, **more)  # type: ignore[no-any-return]

    return {"get": get, "_identity_lookup": _identity_lookup, "_get_impl": _get_impl}


def _are_defaults(options: Options) -> bool:
    """Whether options of ``session.get`` say nothing, as those of ``get_one`` and of sessions around sessions."""
    return not any(options.values()) and options.get("identity_token") is None and options.get("with_for_update") in (None, False)


def _is_refused(session: Session, options: Options) -> bool:
    """Whether a session, or its options for this load, are not those of a load that caches can answer."""
    if is_origin(session) or not is_served(session, options):
        return True
    return (session.autoflush and has_changes(session)) or has_others(session)


def _token(
    session: Any, mapper: Mapper[Any], identity: Any, given: Token, options: Options, bind_arguments: Mapping[str, Any] | None
) -> Token:
    """Give the one shard on which a row can be; ``None`` where there are several, or other arguments tell."""
    if given is not None or bind_arguments:
        return None if bind_arguments else given
    chosen = list(session.identity_chooser(mapper, identity, lazy_loaded_from=None, execution_options=options, bind_arguments={}))
    return chosen[0] if len(chosen) == 1 else None


def _is_absent(session: Session, mapper: Mapper[Any], identity: Sequence[Any], token: Token = None) -> bool:
    """Whether the identity map has no instance; one that is there may turn out to be deleted, and is SQLAlchemy's business in any case."""
    try:
        return mapper.is_mapper and session.identity_map.get(mapper.identity_key_from_primary_key(tuple(identity), token)) is None
    except TypeError:  # a value that has no hash
        return False


def _heeds_more(state: InstanceState[Any] | None, mapper: Mapper[Any]) -> bool:
    """Whether a lazy load follows options of the statement that loaded its parent, or may not emit SQL."""
    if state is None:
        return False
    return bool(state.load_options) or _raises_on_sql(state.mapper, mapper)


def _raises_on_sql(parent: Mapper[Any], mapper: Mapper[Any]) -> bool:
    """Whether a relationship of a class to another is not to emit SQL: which one it is that loads is not told."""
    try:
        known = plan_of(parent.class_).statements
    except Exception:  # noqa: BLE001 - a class without a plan is not served either, and its relationships may be
        return True
    if (_RAISES, mapper) not in known:
        known[_RAISES, mapper] = any(other.lazy == "raise_on_sql" and other.mapper is mapper for other in parent.relationships)
    raises: bool = known[_RAISES, mapper]
    return raises


def _lookup(cls: type, identity: Sequence[Any]) -> Lookup | None:
    plan = keys_of(cls).identity
    given = dict(zip(plan.declared, identity, strict=True))
    values = tuple([given[name] for name in plan.names])
    try:
        return Lookup(plan, plan.native(values), values)
    except CodecError:
        return None
