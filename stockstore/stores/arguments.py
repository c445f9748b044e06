"""What callers may give: a key or keywords, a batch, a loader."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar, cast

from stockstore.errors import ConfigurationError, UnknownKeyError
from stockstore.keys import Key

T = TypeVar("T")

MISSING: Final = cast("Key", type("Missing", (), {"__repr__": lambda _: "<no key>"})())


def one_key(key: Key, names: dict[str, object]) -> Key:
    """Give the one key that a call names, positionally or by keywords."""
    if not names:
        if key is MISSING:
            raise UnknownKeyError("no key was given; give a dict, the canonical key's value, or names as keywords")
        return key
    if key is not MISSING:
        raise UnknownKeyError(f"the key was given twice, as {key!r} and as {names!r}")
    return names


def keys_in(keys: Iterable[Key] | None) -> list[Key]:
    """Give the keys of a batch as a list, refusing what is no batch: one key alone may be iterable too."""
    if isinstance(keys, list):
        return keys
    if keys is None or isinstance(keys, (str, bytes, Mapping)) or not hasattr(keys, "__iter__"):
        raise UnknownKeyError(f"a batch of keys is an iterable of them, such as [1, {{'id': 2}}], not {keys!r}")
    return list(keys)


def objects_of(objects: Iterable[object], keys: Iterable[Key] | None = None) -> list[object]:
    """Give the objects of a batch as a list, refusing what is no batch, and keys beside it."""
    if keys is not None:
        raise UnknownKeyError(f"batch_delete takes objects, or a class and keys; it was given {objects!r} and keys as well")
    if isinstance(objects, (str, bytes, type)) or not hasattr(objects, "__iter__"):
        raise ConfigurationError(f"a batch is an iterable of objects, not {objects!r}")
    return list(objects)


def refuse_no_flag(name: str, value: object) -> None:
    """Refuse what is no truth value: a text such as ``"no"``, which a settings file may give, would be taken for true."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} is True or False, not {value!r}")


def refuse_no_loader(loader: object) -> None:
    """Refuse a value in place of a loader."""
    if not callable(loader):
        raise ConfigurationError(f"a loader is a callable that gives the object of a key, such as lambda key: None, not {loader!r}")


def call_loader(loader: Callable[..., T | None], key: Key) -> T | None:
    """Call a loader with the key, or with nothing if it takes no argument."""
    refuse_no_loader(loader)
    if takes(loader, key):
        return loader(key)
    if takes(loader):
        return loader()
    raise ConfigurationError(f"a loader is called with the key, or with nothing, and {loader!r} takes other arguments")


def takes(function: Callable[..., object], *arguments: object) -> bool:
    """Whether a callable may be called so; a builtin that does not tell what it takes is believed to."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        pass
    return True
