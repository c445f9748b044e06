"""What a class declares: its ``__keys__`` and ``__indexes__``, and for a mapped class its primary key."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

from stockstore.errors import ConfigurationError, NotKeyedError

Names: TypeAlias = tuple[str, ...]
_KEYS: Final = "__keys__"
_INDEXES: Final = "__indexes__"


def class_name(cls: type) -> str:
    """Give the full name of a class, as messages and fingerprints use it."""
    return f"{getattr(cls, '__module__', '?')}.{cls.__qualname__}"


# A mapper is typed Any here: this layer does not import SQLAlchemy, it only asks an object that the class carries.
def mapper_of(cls: type) -> Any:
    """Give the SQLAlchemy mapper of a class, ``None`` for a plain one."""
    mapper = getattr(cls, "__mapper__", None)
    return mapper if mapper is not None and getattr(mapper, "class_", None) is cls else None


def declared_names(cls: type) -> tuple[Names, ...]:
    """Give the keys of a class as tuples of attribute names, the canonical one first.

    Keys of base classes follow the class's own, and a key stands once whatever the order of its
    names. A mapped class has its primary key in any case.

    Raises:
        NotKeyedError: There is none.
        ConfigurationError: A ``__keys__`` is malformed.
    """
    mapper = mapper_of(cls)
    found: dict[frozenset[str], Names] = {}
    for names in (*_from_bases(cls, _KEYS), *_primary_key(mapper)):
        found.setdefault(frozenset(names), names)
    if not found:
        raise NotKeyedError(f'{class_name(cls)} declares no keys; give it __keys__ = ["id", ...], the canonical key first')
    if mapper is not None:
        _refuse_unmapped(cls, mapper, found.values(), _KEYS)
    return tuple(found.values())


def index_names(cls: type) -> tuple[Names, ...]:
    """Give the indexes of a class as tuples of attribute names, its own first; those of its bases follow.

    Raises:
        ConfigurationError: An ``__indexes__`` is malformed, or names what is no column attribute of a mapped class.
    """
    mapper = mapper_of(cls)
    found: dict[frozenset[str], Names] = {}
    for names in _from_bases(cls, _INDEXES):
        found.setdefault(frozenset(names), names)
    if mapper is not None:
        _refuse_unmapped(cls, mapper, found.values(), _INDEXES)
    return tuple(found.values())


def is_cached(cls: type) -> bool:
    """Tell whether a class lets caches keep its objects.

    Raises:
        ConfigurationError: Its ``__cache__`` is neither True nor False.
    """
    said = getattr(cls, "__cache__", True)
    if type(said) is not bool:
        raise ConfigurationError(f"{class_name(cls)}.__cache__ is True or False, not {said!r}")
    return said


def _from_bases(cls: type, where: str) -> Iterator[Names]:
    for base in cls.__mro__:
        if where in base.__dict__:
            yield from _parse(base, base.__dict__[where], where)


def _parse(cls: type, declared: object, where: str) -> Iterator[Names]:
    if not isinstance(declared, (list, tuple)):
        raise ConfigurationError(f"{class_name(cls)}.{where} is a list of attribute names and tuples of names, not {declared!r}")
    for key in declared:
        names = (key,) if isinstance(key, str) else key
        if (
            not isinstance(names, (tuple, list))
            or not names
            or not all(isinstance(n, str) and n.isidentifier() for n in names)
            or len(set(names)) < len(names)
        ):
            what = "a key" if where == _KEYS else "an index"
            raise ConfigurationError(f"{class_name(cls)}.{where} has {key!r}; {what} is an attribute name or a tuple of different names")
        # Of a subclass of str, such as a member of an enum of texts, the text alone: it goes into code, and is interned.
        yield tuple(map(str.__str__, names))


def _primary_key(mapper: Any) -> list[Names]:
    if mapper is None:
        return []
    return [tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)]


def _refuse_unmapped(cls: type, mapper: Any, keys: Iterable[Names], where: str) -> None:
    # An SQL expression belongs to no table, and has no value before the row was read.
    columns = {prop.key for prop in mapper.column_attrs if all(getattr(column, "table", None) is not None for column in prop.columns)}
    for name in (name for names in keys for name in names):
        if name not in columns:
            raise ConfigurationError(
                f"{class_name(cls)}.{where} names {name!r}, which is no column attribute of the class; it has {sorted(columns)}"
            )


def identity_class(cls: type) -> type:
    """Give the class under whose name an object's record is kept: the root of a mapped hierarchy, else the class."""
    mapper = mapper_of(cls)
    if mapper is None:
        return cls
    root: type = mapper.identity_key_from_primary_key((None,) * len(mapper.primary_key))[0]
    return root


def key_bases(cls: type, *, polymorphic: bool) -> tuple[type, ...]:
    """Give the other classes by which an object of this class can be looked up through an alias.

    A mapped hierarchy with one identity needs none; a concrete subclass is also found by those of its
    mapped bases that load polymorphically.
    """
    mapper = mapper_of(cls)
    if mapper is not None:
        bases = [m.class_ for m in mapper.iterate_to_root() if m.polymorphic_on is not None]
        return tuple(base for base in bases if identity_class(base) is not identity_class(cls))
    return tuple(base for base in cls.__mro__[1:] if any("__keys__" in b.__dict__ for b in base.__mro__)) if polymorphic else ()


def has_other_identities_below(cls: type) -> bool:
    """Whether a polymorphic look-up of a mapped class may find an object of a concrete subclass, which has an identity of its own."""
    mapper = mapper_of(cls)
    return mapper.polymorphic_on is not None and any(below.concrete for below in mapper.self_and_descendants if below is not mapper)


def other_identities_below(cls: type) -> set[type]:
    """Give the classes with an identity of their own of which a polymorphic look-up of a mapped class may find an object."""
    mapper = mapper_of(cls)
    if mapper is None or mapper.polymorphic_on is None:
        return set()
    return {identity_class(below.class_) for below in mapper.self_and_descendants} - {identity_class(cls)}


def declaring_class(cls: type, names: Iterable[str], *, index: bool = False) -> type:
    """Give the topmost mapped base, of one identity with the class, that has this key or index; the class itself for a plain one."""
    mapper = mapper_of(cls)
    if mapper is None:
        return cls
    wanted, root = frozenset(names), identity_class(cls)
    declared = index_names if index else declared_names
    owners: list[type] = [
        m.class_
        for m in mapper.iterate_to_root()
        if identity_class(m.class_) is root and any(frozenset(n) == wanted for n in declared(m.class_))
    ]
    return owners[-1]
