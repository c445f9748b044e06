"""The keys and indexes of a class, compiled: the canonical form of their values, and the text under which that stands."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias, cast

from stockstore.errors import NotKeyedError
from stockstore.keys.declared import Names, class_name, identity_class
from stockstore.keys.encoding import DECIMAL_BELOW, Canonical, canonical, escape, is_plain, text_of
from stockstore.keys.prefixes import KEY_LIMIT, bounded, key_prefix, label_of
from stockstore.native import numbered_texts

Native: TypeAlias = Canonical | tuple[Canonical, ...]

NONE: Final[Canonical] = ("n",)
_TEXTS: Final = {str}
_LONGEST_NUMBER: Final = len(f"i-{DECIMAL_BELOW - 1}")


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
        return show(self.declared)

    def parts(self, native: Native) -> tuple[Canonical, ...]:
        """Give the canonical values one by one."""
        return (native,) if self._single else native  # type: ignore[return-value]

    def record_text(self, namespace: str, native: Native) -> str:
        """Give the text of the key under which a record stands."""
        return self._text(key_prefix(namespace, self.record_space), native)

    def texts(self, namespace: str, values: Sequence[object], *, alias: bool = False) -> list[str] | None:
        """Give the texts of many values of a key of one name at once, ``None`` where they are not all small numbers or all short text."""
        prefix = key_prefix(namespace, self.alias_space if alias else self.record_space)
        if not self._single or len(prefix) + _LONGEST_NUMBER >= KEY_LIMIT:
            return None
        return numbered_texts(prefix + "i", values, DECIMAL_BELOW) or _lettered_texts(prefix + "s", values)

    def alias_text(self, namespace: str, native: Native) -> str:
        """Give the text of the key under which a pointer to a record stands."""
        return self._text(key_prefix(namespace, self.alias_space), native)

    def _text(self, prefix: str, native: Native) -> str:
        text = prefix + (text_of(native) if self._single else ":".join(map(text_of, native)))  # type: ignore[arg-type]
        return text if len(text) < KEY_LIMIT else bounded(text)


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


def _lettered_texts(prefix: str, values: Sequence[object]) -> list[str] | None:
    if set(map(type, values)) != _TEXTS:
        return None
    texts = cast("Sequence[str]", values)
    # To ask once whether anything is to be escaped is several times faster than to ask for each.
    found = [f"{prefix}{text}" for text in (texts if is_plain("".join(texts)) else map(escape, texts))]
    return found if max(map(len, found)) < KEY_LIMIT else None


def show(names: Names) -> str:
    """Give the names of a key as its class declares them."""
    return repr(names[0]) if len(names) == 1 else repr(names)
