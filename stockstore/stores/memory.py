"""Process memory: the fastest tier, shared by all threads."""

import time
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from stockstore.instrumentation import Stats
from stockstore.keys import Key, KeyPlan, Lookup, keys_of
from stockstore.lifetimes import Lifetime
from stockstore.stores.base import MISSING, keys_in, one_key
from stockstore.stores.cache import CacheStore, Namespace
from stockstore.stores.local import LocalSpaces, LocalStore
from stockstore.stores.snapshots import Snapshot

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")

_ValueOf: TypeAlias = Callable[[Any], object]
# The dictionaries' keys are canonical values; get takes any and finds nothing then. The values are nodes of any object.
_NodeOf: TypeAlias = Callable[[Any], Any]

_EXACT = {int, str}
_DICTS = {dict}

_now = time.monotonic


class ProcessMemoryStore(LocalStore):
    """Objects in the memory of this process, bounded, for all threads; reads take no lock.

    Plain objects are kept by reference: ``get`` gives the very object that was put, and what one
    reader changes in it the others see, unless ``copy=True``. Mapped objects are kept as column
    state, and every reader gets its own instance.

    Args:
        maxsize: Objects kept at the most; which go first is decided by S3-FIFO.
        lifetime: How long an entry lives: ``None`` (no limit), seconds, a timedelta, an aware datetime, or a
            callable of the object.
        polymorphic: Whether plain objects are also found by their keyed base classes.
        copy: Whether plain objects are deep-copied at put and get.
        namespace: A name, or a callable that gives one (a tenant): what one puts no other sees.
        jitter: The fraction by which lifetimes are shortened at random, against mass expiry.

    >>> class Colour:
    ...     __keys__ = ["name"]
    ...     def __init__(self, name): self.name = name
    >>> store = ProcessMemoryStore(maxsize=1000)
    >>> red = Colour("red")
    >>> store.put(red)
    >>> store.get(Colour, "red") is red
    True
    """

    def __init__(
        self,
        *,
        maxsize: int = 100_000,
        lifetime: Lifetime = None,
        polymorphic: bool = False,
        copy: bool = False,
        namespace: Namespace = "stockstore",
        jitter: float = 0.0,
    ) -> None:
        """Start empty."""
        super().__init__(lifetime=lifetime, polymorphic=polymorphic, namespace=namespace, jitter=jitter, copy=copy)
        self._shelves = LocalSpaces(maxsize)
        # Per plain class: its canonical key of one name, and every key of one name; see get.
        self._quick: dict[type, tuple[str, _ValueOf, _NodeOf]] = {}
        self._by_name: dict[type, dict[str, tuple[_ValueOf, _NodeOf]]] = {}

    @property
    def _spaces(self) -> LocalSpaces:
        return self._shelves

    def get(self, cls: type[T], key: Key = MISSING, *, session: "Session | None" = None, **names: object) -> T | None:
        """Give the object of a key, or ``None``; see ``Store.get``."""
        # The hot path, measured by scripts/bench: a hit by the canonical key of a plain class. Whatever is
        # not exactly that, a miss and bad input included, raises here and goes the longer way.
        try:
            name, value_of, node_of = self._quick[cls]
            value = key[name] if type(key) is dict and len(key) == 1 else key
            if (type(value) is int or type(value) is str) and not names:
                node = node_of(value)
                # The expiry before the value, here and below: see LocalCells.
                expires = node.expires
                obj: T = node.value
                if value_of(obj) == value and (expires is None or expires > _now()):
                    node.hits += 1
                    return obj
        except (KeyError, AttributeError):
            pass
        except TypeError:
            keys_of(cls)  # refuses what is no class
        return self._get(cls, one_key(key, names), session)

    def _get(self, cls: type[T], key: Key, session: "Session | None") -> T | None:
        by_name = self._by_name.get(cls)
        if by_name is not None and type(key) is dict and len(key) == 1:
            ((name, value),) = key.items()
            if name in by_name and (type(value) is int or type(value) is str):
                value_of, node_of = by_name[name]
                node = node_of(value)
                if node is not None and (node.expires is None or node.expires > _now()):
                    obj: T | None = node.value
                    if isinstance(obj, cls) and value_of(obj) == value:
                        node.hits += 1
                        return obj
        return self._get_any(cls, key, session)

    def _get_any(self, cls: type[T], key: Key, session: "Session | None") -> T | None:
        compiled = keys_of(cls)
        lookup = compiled.lookup(key)
        if compiled.mapped or self._copy or self._watched:
            return self.batch_get(cls, [lookup], session=session)[0]
        if cls not in self._quick:
            self._learn(cls)
        found = self._find_plain(cls, lookup)
        if found is None:
            self._counters.add(misses=1)
        return found

    def _find_plain(self, cls: type[T], lookup: Lookup) -> T | None:
        now = _now()
        for cells in self._places(cls, lookup, self._shelves, self._namespace()):
            node = cells.get(lookup.native)
            if node is not None and node.expires is not None and node.expires <= now:
                self._expire(node)
            elif node is not None:
                obj = node.value
                if isinstance(obj, cls) and lookup.plan.native_of(obj) == lookup.native:
                    node.hits += 1
                    return obj
        return None

    def batch_get(self, cls: type[T], keys: Iterable[Key], *, session: "Session | None" = None) -> list[T | None]:
        """Give the objects of these keys, in their positions, ``None`` where there is none."""
        keys = keys_in(keys)
        try:
            quick = self._quick.get(cls)
        except TypeError:
            quick = None  # it is no class, which the longer way says
        if quick is None:
            return self._batch_get(cls, keys, session)
        try:
            return self._all_hit(quick, keys)
        except (KeyError, AttributeError):
            found = self._quick_batch(quick, keys)
        for position, obj in enumerate(found):
            if obj is None:
                found[position] = self._get_any(cls, keys[position], session)
        return found

    def _batch_get(self, cls: type[T], keys: list[Key], session: "Session | None") -> list[T | None]:
        compiled = keys_of(cls)
        if compiled.mapped and not self._watched and compiled.canonical is compiled.identity:
            found = self._rows(cls, compiled.identity, keys, session)
            if found is not None:
                return found
        if compiled.mapped or self._copy or self._watched or not keys:
            return super().batch_get(cls, keys, session=session)
        return [self._get_any(cls, key, session) for key in keys]

    def _rows(self, cls: type, plan: KeyPlan, keys: list[Key], session: "Session | None") -> list[Any] | None:
        from stockstore.stores.row_hits import rows

        try:
            values = exact_values(plan.names[0], keys)
            return rows(cls, self._shelves.records(self._namespace(), plan), values, session)
        except KeyError:
            return None

    def _all_hit(self, quick: "tuple[str, _ValueOf, _NodeOf]", keys: list[Any]) -> list[Any]:
        """Give all objects in passes that the interpreter runs fast; KeyError or AttributeError where not all are plain hits."""
        name, value_of, node_of = quick
        values = exact_values(name, keys)
        nodes = list(map(node_of, values))
        if self._shelves.cells.expiring and _any_expired(nodes):
            raise KeyError(name)
        found = [node.value for node in nodes]
        if list(map(value_of, found)) != values:
            raise KeyError(name)
        for node in nodes:
            node.hits += 1
        return found

    @staticmethod
    def _quick_batch(quick: "tuple[str, _ValueOf, _NodeOf]", keys: list[Key]) -> list[Any]:
        """Give the objects of the keys that are plain hits, ``None`` for the others."""
        name, value_of, node_of = quick
        now = _now()
        found: list[Any] = []
        for key in keys:
            value = key.get(name) if type(key) is dict and len(key) == 1 else key
            node = node_of(value) if type(value) is int or type(value) is str else None
            if node is None or (node.expires is not None and node.expires <= now) or (obj := node.value) is None or value_of(obj) != value:
                found.append(None)
            else:
                node.hits += 1
                found.append(obj)
        return found

    batch_fetch = CacheStore.batch_fetch

    def _learn(self, cls: type) -> None:
        if callable(self._namespace_setting):
            return
        keys, namespace = keys_of(cls), self._namespace()
        by_name: dict[str, tuple[_ValueOf, _NodeOf]] = {}
        for plan in (plan for plan in keys.plans if len(plan.names) == 1):
            cells = self._shelves.records(namespace, plan) if plan is keys.identity else self._shelves.aliases(namespace, plan)
            by_name[plan.names[0]] = (attrgetter(plan.names[0]), cells.get)
        self._by_name[cls] = by_name
        if len(keys.identity.names) == 1:
            (name,) = keys.identity.names
            self._quick[cls] = (name, *by_name[name])

    def _count(self, found: Sequence[Snapshot | None]) -> None:
        self._counters.add(misses=found.count(None))

    def stats(self) -> Stats:
        """Give an immutable snapshot of the store's counts; hits are counted on the entries, so it visits each."""
        return self._counters.snapshot(repr(self), hits=self._shelves.cells.hits())

    def __repr__(self) -> str:
        """Name the store."""
        return f"{type(self).__name__}(maxsize={self._shelves.cells.maxsize})"


def exact_values(name: str, keys: list[Any]) -> list[Any]:
    """Give the values of keys of one name that are all bare, or all dicts, and of exact types; KeyError for others."""
    kinds = set(map(type, keys))
    if kinds == _DICTS:
        keys = [key[name] for key in keys] if sum(map(len, keys)) == len(keys) else []
        kinds = set(map(type, keys))
    if not kinds or not kinds <= _EXACT:
        raise KeyError(name)
    return keys


def _any_expired(nodes: list[Any]) -> bool:
    now = _now()
    return any(node.expires is not None and node.expires <= now for node in nodes)
