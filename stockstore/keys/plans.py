"""Compiled keys: what a look-up or an object becomes, decided once per class and key."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from stockstore.errors import NotKeyedError, UnknownKeyError
from stockstore.keys.declared import Names, class_name, declared_names, declaring_class, identity_class, mapper_of
from stockstore.keys.encoding import Canonical, canonical, escape, text_of

Native: TypeAlias = "Canonical | tuple[Canonical, ...]"
Key: TypeAlias = "Mapping[str, object] | object"

KEY_LIMIT = 250
"""The bytes that memcached allows a key to have."""
_LABEL_LIMIT = 100
_DIGEST_SIZE = 16

NONE: Canonical = ("n",)


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
        self.of_object = attrgetter(*names) if len(names) == 1 else attrgetter(*self.names)

    def native(self, values: Sequence[object]) -> Native:
        """Give the canonical form of values in the order of ``names``."""
        if len(values) == 1:
            return canonical(values[0])
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
        return canonical(values) if len(self.names) == 1 else tuple(map(canonical, values))

    def has_none(self, native: Native) -> bool:
        """Whether a part of the key is None."""
        return native == NONE if len(self.names) == 1 else NONE in native  # type: ignore[operator]

    def describe(self) -> str:
        """Give the key as its class declares it."""
        return repr(self.declared[0]) if len(self.declared) == 1 else repr(self.declared)

    def parts(self, native: Native) -> tuple[Canonical, ...]:
        """Give the canonical values one by one."""
        return (native,) if len(self.names) == 1 else native  # type: ignore[return-value]


class Lookup(NamedTuple):
    """A key asked for: which one, and by which value."""

    plan: KeyPlan
    native: Native
    values: tuple[object, ...]


class ClassKeys:
    """All the keys of one class."""

    def __init__(self, cls: type) -> None:
        """Compile what the class declares."""
        self.cls = cls
        self.mapped = mapper_of(cls) is not None
        names = declared_names(cls)
        self.identity = self._identity(names)
        self.plans = tuple(self.identity if set(n) == set(self.identity.names) else KeyPlan(declaring_class(cls, n), n) for n in names)
        self.canonical = self.plans[0]
        self.alternates = tuple(plan for plan in self.plans if plan is not self.identity)
        self._by_names = {frozenset(plan.names): plan for plan in self.plans}
        self._shapes: dict[Names, KeyPlan] = {}

    def _identity(self, names: tuple[Names, ...]) -> KeyPlan:
        mapper = mapper_of(self.cls)
        if mapper is None:
            return KeyPlan(self.cls, names[0])
        return KeyPlan(identity_class(self.cls), tuple(mapper.get_property_by_column(c).key for c in mapper.primary_key))

    def lookup(self, key: Key) -> Lookup:
        """Give what a key asks for: a mapping of names, or the canonical key's bare value or tuple.

        Raises:
            UnknownKeyError: The names are no declared key, or values are missing.
            CodecError: A value cannot be part of a key.
        """
        if isinstance(key, Lookup):
            return key
        if isinstance(key, Mapping):
            plan = self._plan(tuple(key))
            values = tuple(key[name] for name in plan.names)
        else:
            plan = self.canonical
            values = self._bare(plan, key)
        return Lookup(plan, plan.native(values), values)

    def _plan(self, names: Names) -> KeyPlan:
        plan = self._shapes.get(names)
        if plan is None:
            plan = self._by_names.get(frozenset(names))
            if plan is None:
                raise UnknownKeyError(f"{class_name(self.cls)} has no key {self._show(names)}; it declares {self.describe()}")
            self._shapes[names] = plan
        return plan

    def _bare(self, plan: KeyPlan, key: object) -> tuple[object, ...]:
        if len(plan.names) == 1:
            return (key,)
        if not isinstance(key, (tuple, list)) or len(key) != len(plan.names):
            raise UnknownKeyError(f"the key {plan.describe()} of {class_name(self.cls)} needs {len(plan.names)} values in this order, not {key!r}")
        given = dict(zip(plan.declared, key, strict=True))
        return tuple(given[name] for name in plan.names)

    @staticmethod
    def _show(names: Names) -> str:
        return repr(names[0]) if len(names) == 1 else repr(names)

    def describe(self) -> str:
        """Give the declared keys as a message shows them."""
        return ", ".join(plan.describe() for plan in self.plans)


_compiled: "WeakKeyDictionary[type, ClassKeys]" = WeakKeyDictionary()


def keys_of(cls: type) -> ClassKeys:
    """Give the compiled keys of a class.

    Raises:
        NotKeyedError: It declares none, or is no class.
    """
    keys = _compiled.get(cls) if isinstance(cls, type) else None
    if keys is None:
        if not isinstance(cls, type):
            raise NotKeyedError(f"the first argument is the class to look up, not {cls!r}")
        keys = _compiled[cls] = ClassKeys(cls)
    return keys


def label_of(cls: type) -> str:
    """Give the text by which keys name a class; a very long name ends in a digest."""
    label = escape(class_name(cls))
    return label if len(label) <= _LABEL_LIMIT else f"{label[: _LABEL_LIMIT - 2 * _DIGEST_SIZE - 1]}~{_digest(label)}"


@lru_cache(maxsize=1024)
def namespace_text(namespace: str) -> str:
    """Give a namespace as keys show it, in at most 40 bytes."""
    text = escape(namespace)
    return text if len(text) <= 40 else _digest(text)  # noqa: PLR2004


def key_text(namespace: str, space: str, parts: Sequence[Canonical]) -> str:
    """Give the text of a key: ``namespace:class:names:values``, in at most 250 bytes.

    >>> key_text("stockstore", "shop.User:tenant,username", (1, "ann"))
    'stockstore:shop.User:tenant,username:i1:sann'
    """
    text = ":".join((namespace_text(namespace), space, *map(text_of, parts)))
    if len(text) <= KEY_LIMIT:
        return text
    head = text[: KEY_LIMIT - 2 * _DIGEST_SIZE - 1]
    return f"{head}~{_digest(text)}"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=_DIGEST_SIZE).hexdigest()
