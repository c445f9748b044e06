"""In Python what is compiled elsewhere: the files in C beside it do the same."""

from collections.abc import Callable
from inspect import Parameter, Signature
from textwrap import indent
from typing import Any, Final

from stockstore.native.finder_code import FinderCode
from stockstore.native.keys import FinderKey

_MISSING: Final = object()
_POSITIONAL: Final = Parameter.POSITIONAL_OR_KEYWORD
_NAMED: Final = Parameter.KEYWORD_ONLY
# What calls of get look like, as the compiled one tells it, which knows nothing of the types.
_SHOWN: Final = Signature(
    [
        Parameter("self", Parameter.POSITIONAL_ONLY),
        Parameter("cls", _POSITIONAL),
        Parameter("key", _POSITIONAL, default=...),
        Parameter("session", _NAMED, default=None),
        Parameter("strict", _NAMED, default=False),
        Parameter("names", Parameter.VAR_KEYWORD),
    ]
)


class Record:
    """What a hit reads of a record, and the number of its hits."""

    __slots__ = ("expires", "hits", "value")

    value: Any
    expires: float
    hits: int


class Finder:
    """Finds the objects of a class by its keys, by code that is generated once.

    Args:
        keys: Those of the class, the canonical one first.
        absent: Is called with a key that is not there. It counts the miss, or raises KeyError where that is not all.
        clock: What expiries are compared with.
        contact: ``None``, or what has ``fresh_until``, by the same clock: nothing is found after it.
        expiring: Whether any record may have an expiry.
    """

    # Of the functions None is a miss, which was counted. They raise KeyError, AttributeError or TypeError for what is neither a plain hit nor such
    # a miss. They give whatever objects the records hold; the class that was asked for is its class.
    __slots__ = ("named", "one")

    one: Callable[[Any], Any]
    named: Callable[[dict[str, Any]], Any]

    def __init__(
        self, keys: tuple[FinderKey, ...], absent: Callable[[Any], None], clock: Callable[[], float], contact: object, expiring: bool, /
    ) -> None:
        """Compile the functions: for a dict of any key, or a bare value or tuple of the canonical one; and for the keywords of a call."""
        records = {f"records{at}": key.records for at, key in enumerate(keys)}
        code = FinderCode(keys, expiring=expiring, fresh=contact is not None)
        made: dict[str, Any] = {}
        # In a function, not in a space of their own, which would refer to them in turn, and keep the records until it is collected.
        source = f"def make(absent, clock, contact, {', '.join(records)}):\n{indent(code.source(), ' ' * 4)}\n    return one, named"
        exec(source, {}, made)  # noqa: S102 - the names are identifiers
        self.one, self.named = made["make"](absent, clock, contact, **records)


class Reads:
    """Has ``get`` of a store, which leaves to ``_get_longer`` of a subclass what no finder finds."""

    _finders: dict[Any, Any]

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Start without finders."""
        made = super().__new__(cls)
        made._finders = {}
        return made

    # Parameters that have names would be compared with each keyword of a call, and options be looked up for each: both take a fifth of the whole.
    def get(self, cls: Any = _MISSING, key: Any = _MISSING, /, **names: Any) -> Any:
        """Give the object of a key, or ``None``; see ``Store.get``."""
        try:
            if not names:
                return self._finders[cls].one(key)
            if key is _MISSING:
                return self._finders[cls].named(names)
        except (KeyError, AttributeError, TypeError):
            pass
        given = () if cls is _MISSING else (cls,) if key is _MISSING else (cls, key)
        return self._get_longer(*given, **names)

    get.__signature__ = _SHOWN  # type: ignore[attr-defined]

    def _get_longer(self, *given: Any, **names: Any) -> Any:
        raise NotImplementedError
