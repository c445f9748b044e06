# What these do the docstrings of the files beside it tell, and the types of Reads.get those of the stores.

from collections.abc import Callable, Sequence
from typing import Any

from stockstore.native.keys import FinderKey

class Record:
    value: Any
    expires: float
    hits: int

class Finder:
    def __init__(
        self, keys: tuple[FinderKey, ...], absent: Callable[[Any], None], clock: Callable[[], float], contact: object, expiring: bool, /
    ) -> None: ...
    def one(self, key: Any, /) -> Any: ...

class Reads:
    _finders: dict[Any, Any]

def rows_of(
    fixed: tuple[str, ...], dynamic: tuple[str, ...] | None, types: tuple[type, ...], objects: Sequence[object], /
) -> list[tuple[Any, ...]] | None: ...
def numbered_texts(prefix: str, numbers: Sequence[object], below: int, /) -> list[str] | None: ...
def pack_command(command: Sequence[str | bytes], /) -> bytes: ...
