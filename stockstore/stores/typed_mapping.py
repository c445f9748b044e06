"""The objects of one class in a store, as a mapping."""

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

from stockstore.errors import ConfigurationError, UnknownKeyError
from stockstore.keys import Key, class_name, keys_of
from stockstore.stores.base import Store
from stockstore.stores.snapshots import snapshot_of

T = TypeVar("T")


class StoreMapping(MutableMapping[Key, T]):
    """A store's objects of one class by their keys, for code that wants a dictionary.

    A key is what ``Store.get`` takes: a bare value of the canonical key, or a dict of names. Each step is one call of the
    store; for many keys at once the store's batches are faster. Stores cannot list what they have: ``len``, iteration,
    ``popitem``, ``clear`` and comparing with other mappings are a TypeError or compare identities, and a mapping is true.

    Args:
        store: Where the objects are; it stays open.
        cls: Their class, or a base class of theirs.

    Raises:
        ConfigurationError: It is no blocking store.
        NotKeyedError: The class declares no keys.

    >>> from dataclasses import dataclass
    >>> from stockstore import ProcessMemoryStore
    >>> @dataclass
    ... class Rate:
    ...     __keys__ = ["currency"]
    ...     currency: str
    ...     per_euro: float
    >>> rates = StoreMapping(ProcessMemoryStore(), Rate)
    >>> rates["USD"] = Rate("USD", 1.08)
    >>> rates["USD"].per_euro, rates.get("JPY")
    (1.08, None)
    """

    def __init__(self, store: Store, cls: type[T]) -> None:
        """Face a store."""
        if not isinstance(store, Store):
            raise ConfigurationError(f"a StoreMapping faces a blocking store, such as open_store('memory://'), not {store!r}")
        self._store = store
        self._cls = cls
        self._keys = keys_of(cls)

    def __getitem__(self, key: Key) -> T:
        """Give the object of a key.

        Raises:
            KeyError: There is none.
            UnknownKeyError: The class does not declare such a key.
        """
        found = self._store.get(self._cls, key)
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: Key, value: T) -> None:
        """Put an object, under all of its keys.

        Raises:
            UnknownKeyError: The object is of another class, or does not carry the key; nothing was put.
        """
        asked = self._keys.lookup(key)
        if not isinstance(value, self._cls) or snapshot_of(value).native(asked.plan) != asked.native:
            raise UnknownKeyError(f"{value!r} does not carry the key {key!r} of {self._keys.name}; change the object, or use its own key")
        self._store.put(value)

    def __delitem__(self, key: Key) -> None:
        """Delete the object of a key; KeyError where there was none."""
        if not self._store.delete(self._cls, key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        """Whether there is an object of a key."""
        return self._store.contains(self._cls, key)

    def __iter__(self) -> Iterator[Key]:
        """Raise a TypeError."""
        raise self._refusal("be iterated")

    def __len__(self) -> int:
        """Raise a TypeError."""
        raise self._refusal("be counted")

    def clear(self) -> None:
        """Raise a TypeError: a store's ``clear`` empties caches and never deletes rows, which is not what a dictionary's does."""
        raise self._refusal("be cleared")

    def _refusal(self, what: str) -> TypeError:
        raise TypeError(
            f"{self!r} cannot {what}: a store does not list what it has, caches drop what they like; ask the database, or by keys"
        )

    def __bool__(self) -> bool:
        """Give True, so that ``mapping or default`` counts nothing."""
        return True

    # Comparing the entries would list them.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        """Name the class and the store."""
        return f"{type(self).__name__}({self._store!r}, {class_name(self._cls)})"
