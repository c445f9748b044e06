"""The backend over a mapping."""

from collections import UserDict

import pytest

from stockstore.backends import MappingBackend
from stockstore.errors import CacheUnreachable
from stockstore.testing.backend_contract import BackendContract


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


def test_an_error_of_the_mapping_is_cache_unreachable() -> None:
    """A mapping that fails is a cache that refused, and the message says which and why."""
    with pytest.raises(CacheUnreachable, match=r"the mapping \(Full\) failed.*No space left on device") as caught:
        MappingBackend(Full()).set_many([("n:C:id:i1", b"value", 60)])
    assert isinstance(caught.value.__cause__, OSError)
