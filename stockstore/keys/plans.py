"""Compiled keys: what a look-up or an object becomes, decided once per class and key."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias, cast
from weakref import ref

from stockstore.errors import NotKeyedError, UnknownKeyError
from stockstore.keys.declared import (
    Names,
    class_name,
    declared_names,
    declaring_class,
    identity_class,
    index_names,
    is_cached,
    key_bases,
    mapper_of,
)
from stockstore.keys.encoding import DECIMAL_BELOW, Canonical, canonical, escape, is_plain, text_of

Native: TypeAlias = Canonical | tuple[Canonical, ...]
Key: TypeAlias = Mapping[str, object] | object

KEY_LIMIT = 250
"""The bytes that memcached allows a key to have."""
_LABEL_LIMIT = 100
_NAMESPACE_LIMIT = 40
_DIGEST_SIZE = 16

NONE: Canonical = ("n",)
_NUMBERS = {int}
_TEXTS = {str}


class KeyPlan:
    """One key of one class: its names, and the place in which its values stand."""

    def __init__(self, owner: type, names: Names) -> None:
        """Compile the key of a class."""
        self.names = tuple(sorted(names))
        self.declared = names
        self.label = label_of(owner)
        joined = ",".join(map(escape, self.names))
        self.record_space = f"{self.label}:{joined}"
        self.alias_space = f"{self.label}:~{joined}"
        self._single = len(names) == 1
        self.of_object = attrgetter(*names) if len(names) == 1 else attrgetter(*self.names)

    def native(self, values: Sequence[object]) -> Native:
        """Give the canonical form of values in the order of ``names``."""
        if self._single:
            (value,) = values
            return value if type(value) is int or type(value) is str else canonical(value)
        return tuple(map(canonical, values))

    def native_of(self, obj: object) -> Native:
        """Give the canonical form of a plain object's values.

        Raises:
            NotKeyedError: The object lacks one of the attributes.
        """
        try:
            values = self.of_object(obj)
        except AttributeError as error:
            raise NotKeyedError(f"a {class_name(type(obj))} has no value for its key {self.describe()}: {error}") from error
        if self._single:
            return values if type(values) is int or type(values) is str else canonical(values)
        return tuple(map(canonical, values))

    def has_none(self, native: Native) -> bool:
        """Whether a part of the key is None."""
        return native == NONE if self._single else NONE in native  # type: ignore[operator]

    def describe(self) -> str:
        """Give the key as its class declares it."""
        return _show(self.declared)

    def parts(self, native: Native) -> tuple[Canonical, ...]:
        """Give the canonical values one by one."""
        return (native,) if self._single else native  # type: ignore[return-value]

    def record_text(self, namespace: str, native: Native) -> str:
        """Give the text of the key under which a record stands."""
        return self._text(key_prefix(namespace, self.record_space), native)

    def texts(self, namespace: str, values: Sequence[object], *, alias: bool = False) -> list[str] | None:
        """Give the texts of many values of a key of one name at once, ``None`` where they are not all small numbers or all short text."""
        if not self._single:
            return None
        prefix, kinds = key_prefix(namespace, self.alias_space if alias else self.record_space), set(map(type, values))
        if kinds == _NUMBERS and min(values) > -DECIMAL_BELOW and max(values) < DECIMAL_BELOW:  # type: ignore[operator, type-var]
            prefix += "i"
            return [f"{prefix}{value}" for value in values]
        if kinds != _TEXTS:
            return None
        texts = _texts_of(prefix + "s", cast("Sequence[str]", values))
        return texts if max(map(len, texts)) < KEY_LIMIT else None

    def alias_text(self, namespace: str, native: Native) -> str:
        """Give the text of the key under which a pointer to a record stands."""
        return self._text(key_prefix(namespace, self.alias_space), native)

    def _text(self, prefix: str, native: Native) -> str:
        text = prefix + (text_of(native) if self._single else ":".join(map(text_of, native)))  # type: ignore[arg-type]
        return text if len(text) < KEY_LIMIT else _shortened(text, KEY_LIMIT)


class IndexPlan(KeyPlan):
    """One index of one class: values that any number of rows may have, and the list of the primary keys of those that do.

    A list is kept beside the records of the class's hierarchy, so that whatever covers all of these covers it too.

    Attributes:
        owner: The topmost class of the hierarchy that has the index; its lists hold rows of all classes below.
    """

    def __init__(self, owner: type, names: Names) -> None:
        """Compile the index of a class."""
        root = identity_class(owner)
        super().__init__(root, names)
        self.owner = owner
        sort = "" if owner is root else f"{label_of(owner)}*"
        # No canonical form of a value begins with a star, so that no key of a record equals one of a list.
        self._mark = (f"*{sort}{','.join(map(escape, self.names))}",)
        self.record_space = f"{self.label}:{self._mark[0]}"

    def place(self, native: Native) -> Native:
        """Give the key under which a list stands beside the records of the hierarchy."""
        return (self._mark, *self.parts(native))


class Lookup(NamedTuple):
    """A key asked for: which one, and by which value."""

    plan: KeyPlan
    native: Native
    values: tuple[object, ...]


class ListLookup(NamedTuple):
    """A list asked for: by which index, and by which value."""

    plan: IndexPlan
    native: Native
    values: tuple[object, ...]

    @property
    def place(self) -> Native:
        """The key under which the list stands beside the records of its hierarchy."""
        return self.plan.place(self.native)


class ClassKeys:
    """All the keys of one class.

    Attributes:
        name: The full name of the class.
        mapped: Whether SQLAlchemy maps it.
        identity: The key under which its objects are kept; all classes of a mapped hierarchy share it.
        plans: Every key, in the order declared.
        canonical: The key that a bare value means.
        alternates: The keys that are aliases of the identity.
        indexes: What rows are listed by: its own indexes, and those of its bases of one identity with it.
        cached: Whether caches may keep its objects: not where the root of its hierarchy says ``__cache__ = False``.
    """

    def __init__(self, cls: type) -> None:
        """Compile what the class declares."""
        self.name = class_name(cls)
        self.mapped = mapper_of(cls) is not None
        names = declared_names(cls)
        root = identity_class(cls)
        self.identity: KeyPlan = KeyPlan(cls, _identity_names(cls, names)) if root is cls else keys_of(root).identity
        self.plans = tuple(self._plan_for(cls, n) for n in names)
        self.canonical = self.plans[0]
        self.cached: bool = is_cached(root)
        self._declared = names
        self.alternates = tuple(plan for plan in self.plans if plan is not self.identity)
        self._by_names = {frozenset(plan.names): plan for plan in self.plans}
        self.indexes = tuple(_index_for(cls, n) for n in index_names(cls))
        self._shapes: dict[Names, KeyPlan] = {}

    def _plan_for(self, cls: type, names: Names) -> KeyPlan:
        if set(names) == set(self.identity.names):
            return self.identity
        owner = declaring_class(cls, names)
        return KeyPlan(cls, names) if owner is cls else keys_of(owner).plan(names)

    def lookup(self, key: Key) -> Lookup:
        """Give what a key asks for: a mapping of names, or the canonical key's bare value or tuple.

        Raises:
            UnknownKeyError: The names are no declared key, or values are missing.
            CodecError: A value cannot be part of a key.
        """
        kind = type(key)
        if kind is Lookup:
            return key  # type: ignore[return-value]
        if kind is dict or (kind is not int and kind is not str and isinstance(key, Mapping)):
            given = cast("Mapping[str, object]", key)
            plan = self.plan(tuple(given))
            values = tuple([given[name] for name in plan.names])
        else:
            plan = self.canonical
            values = self._bare(plan, key)
        return Lookup(plan, plan.native(values), values)

    def plan(self, names: Names) -> KeyPlan:
        """Give the key of these names, in any order; UnknownKeyError where the class declares none."""
        plan = self._shapes.get(names)
        if plan is None:
            plan = self._by_names.get(frozenset(names))
            if plan is None:
                raise UnknownKeyError(f"{self.name} has no key {_show(names)}; it declares {self.describe()}")
            self._shapes[names] = plan
        return plan

    def listed(self, key: Key) -> "ListLookup":
        """Give which list a key asks for: a mapping of the names of an index, or the bare value where the class has one index alone.

        Raises:
            UnknownKeyError: The names are no declared index, or values are missing.
            CodecError: A value cannot be part of a key.
        """
        if type(key) is ListLookup:
            return key
        given = cast("Mapping[str, object]", key) if isinstance(key, Mapping) else self._bare_index(key)
        plan = next((plan for plan in self.indexes if given.keys() == set(plan.names)), None)
        if plan is None:
            raise UnknownKeyError(f"{self.name} has no index {_show(tuple(given))}; {self._told_indexes()}")
        values = tuple([given[name] for name in plan.names])
        return ListLookup(plan, plan.native(values), values)

    def _bare_index(self, key: object) -> dict[str, object]:
        if len(self.indexes) != 1:
            raise UnknownKeyError(
                f"{key!r} does not tell an index of {self.name}; {self._told_indexes()}, to be given as keywords or a dict"
            )
        names = self.indexes[0].declared
        values = key if len(names) > 1 and isinstance(key, (tuple, list)) else (key,)
        if len(values) != len(names):
            raise UnknownKeyError(f"the index of {self.name} is {_show(names)}: it needs {len(names)} values in this order, not {key!r}")
        return dict(zip(names, values, strict=True))

    def _told_indexes(self) -> str:
        declared = ", ".join(plan.describe() for plan in self.indexes)
        return f"it declares {declared}" if declared else 'it declares none; give it __indexes__ = ["owner_id", ...]'

    def _bare(self, plan: KeyPlan, key: object) -> tuple[object, ...]:
        # A mapped class may name its primary key in another order than its table does.
        names = self._declared[0]
        if len(names) == 1 and not isinstance(key, (tuple, list)):
            return (key,)
        if not isinstance(key, (tuple, list)) or len(key) != len(names):
            raise UnknownKeyError(
                f"the canonical key of {self.name} is {_show(names)}: it needs {len(names)} values in this order, not {key!r}; "
                f"the class declares {self.describe()}"
            )
        given = dict(zip(names, key, strict=True))
        return tuple(given[name] for name in plan.names)

    def describe(self) -> str:
        """Give the declared keys as a message shows them."""
        return ", ".join(map(_show, self._declared))


def _texts_of(prefix: str, values: Sequence[str]) -> list[str]:
    # To ask once whether anything is to be escaped is several times faster than to ask for each.
    return [f"{prefix}{value}" for value in (values if is_plain("".join(values)) else map(escape, values))]


def _show(names: Names) -> str:
    return repr(names[0]) if len(names) == 1 else repr(names)


def _identity_names(cls: type, names: tuple[Names, ...]) -> Names:
    mapper = mapper_of(cls)
    return names[0] if mapper is None else tuple(mapper.get_property_by_column(c).key for c in mapper.primary_key)


def _index_for(cls: type, names: Names) -> IndexPlan:
    owner = declaring_class(cls, names, index=True)
    if owner is cls:
        return IndexPlan(cls, names)
    return next(plan for plan in keys_of(owner).indexes if set(plan.names) == set(names))


# What a WeakKeyDictionary does, but for the two calls of Python code that each of its look-ups takes.
_compiled: "dict[ref[type[Any]], ClassKeys]" = {}


def keys_of(cls: type) -> ClassKeys:
    """Give the compiled keys of a class.

    Raises:
        NotKeyedError: It declares none, or is no class.
    """
    try:
        keys = _compiled.get(ref(cls))
    except TypeError:
        keys = None
    if keys is not None:
        return keys
    if not isinstance(cls, type):
        raise NotKeyedError(f"the first argument is the class to look up, not {cls!r}")
    return _compiled.setdefault(ref(cls, _forget), ClassKeys(cls))


def _forget(reference: "ref[type[Any]]") -> None:
    _compiled.pop(reference, None)


def forget_keys(cls: type) -> None:
    """Compile the keys of a class anew when they are asked for next: it has been mapped, perhaps once more and otherwise."""
    _compiled.pop(ref(cls), None)


def alias_plans(cls: type, *, polymorphic: bool) -> tuple[KeyPlan, ...]:
    """Give the keys by which an object of this class is found through an alias: its alternates, and all keys of its bases."""
    plans = dict.fromkeys(keys_of(cls).alternates)
    for base in key_bases(cls, polymorphic=polymorphic):
        plans.update(dict.fromkeys(keys_of(base).plans))
    return tuple(plans)


def label_of(cls: type) -> str:
    """Give the text by which keys name a class; a very long name ends in a digest."""
    return _bounded(escape(class_name(cls)), _LABEL_LIMIT)


@lru_cache(maxsize=1024)
def namespace_text(namespace: str) -> str:
    """Give a namespace as keys show it, in at most 40 bytes."""
    return _bounded(escape(namespace), _NAMESPACE_LIMIT)


@lru_cache(maxsize=4096)
def key_prefix(namespace: str, space: str) -> str:
    """Give what the texts of all keys of one sort begin with."""
    return f"{namespace_text(namespace)}:{space}:"


def key_text(namespace: str, space: str, parts: Sequence[Canonical]) -> str:
    """Give the text of a key: ``namespace:class:names:values``, in at most 250 bytes.

    >>> key_text("stockstore", "shop.User:tenant,username", (1, "ann"))
    'stockstore:shop.User:tenant,username:i1:sann'
    """
    text = key_prefix(namespace, space) + ":".join(map(text_of, parts))
    return text if len(text) < KEY_LIMIT else _shortened(text, KEY_LIMIT)


def _bounded(text: str, limit: int) -> str:
    return text if len(text) < limit else _shortened(text, limit)


def _shortened(text: str, limit: int) -> str:
    """Give the beginning of a text and its digest, exactly as long as the limit."""
    # What is not shortened is shorter than that: nobody can write a text that equals the digest of another.
    digest = blake2b(text.encode(), digest_size=_DIGEST_SIZE).hexdigest()
    return f"{text[: limit - len(digest) - 1]}~{digest}"
