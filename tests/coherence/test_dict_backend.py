"""The dictionary of the tests does what every coherent backend does."""

import pytest

from stockstore.testing import CoherentBackendContract
from tests.coherence.dict_backend import DictBackend

pytestmark = pytest.mark.sa_agnostic


class TestDictBackend(CoherentBackendContract):
    """The contract."""

    expires = False

    @pytest.fixture
    def backend(self) -> DictBackend:
        """An empty one."""
        return DictBackend()

    @pytest.fixture
    def other(self, backend: DictBackend) -> DictBackend:
        """The same."""
        return backend
