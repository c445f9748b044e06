"""The backend over a mapping."""

import dbm.dumb
import threading
from collections import UserDict
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import cast

import pytest

from stockstore.backends import MappingBackend
from stockstore.errors import CacheUnreachable
from stockstore.testing.backend_contract import BackendContract

pytestmark = pytest.mark.sa_agnostic


class TestMappingBackend(BackendContract):
    expires = False

    @pytest.fixture
    def backend(self) -> MappingBackend:
        """Over a dict."""
        return MappingBackend({})


class TestUserMapping(BackendContract):
    expires = False

    @pytest.fixture
    def backend(self) -> MappingBackend:
        """Over a mapping that is no dict."""
        return MappingBackend(UserDict())


class Full(dict[str, bytes]):
    def __setitem__(self, key: str, value: bytes) -> None:
        raise OSError(28, "No space left on device")


def test_the_mapping_holds_the_keys_and_values_themselves() -> None:
    """What is set stands in the mapping as it is, for others to see."""
    mapping: dict[str, bytes] = {}
    MappingBackend(mapping).set_many([("n:C:id:i1", b"value", 60)])
    assert mapping == {"n:C:id:i1": b"value"}


def test_clear_finds_keys_that_a_mapping_lists_as_bytes(tmp_path: Path) -> None:
    """Files of `dbm` take keys as text, and list them as bytes."""
    with dbm.dumb.open(str(tmp_path / "cells"), "n") as mapping:
        backend = MappingBackend(cast("MutableMapping[str, bytes]", mapping))
        backend.set_many([("n:C:id:i1", b"1", 60), ("m:C:id:i1", b"2", 60)])
        backend.clear("n:")
        assert backend.get_many(["n:C:id:i1", "m:C:id:i1"]) == {"m:C:id:i1": b"2"}


def test_an_error_of_the_mapping_is_cache_unreachable() -> None:
    """A mapping that fails is a cache that refused, and the message says which and why."""
    with pytest.raises(CacheUnreachable, match=r"the mapping \(Full\) failed.*No space left on device") as caught:
        MappingBackend(Full()).set_many([("n:C:id:i1", b"value", 60)])
    assert isinstance(caught.value.__cause__, OSError)


def test_a_clear_is_alone_with_the_mapping() -> None:
    """A write of another thread waits until the clear has looked at all keys."""

    class Slow(dict[str, bytes]):
        def __iter__(self) -> Iterator[str]:
            for key in super().__iter__():
                writer.start()
                writer.join(0.05)
                yield key

    backend = MappingBackend(Slow({"n:C:id:i1": b"old"}))
    writer = threading.Thread(target=backend.set_many, args=([("n:C:id:i2", b"new", 60)],))
    backend.clear("n:")
    writer.join()
    assert backend.get_many(["n:C:id:i1", "n:C:id:i2"]) == {"n:C:id:i2": b"new"}
