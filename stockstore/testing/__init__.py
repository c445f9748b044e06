"""The contract suites: the test file of a backend or store is a subclass and a fixture."""

import pytest

pytest.register_assert_rewrite("stockstore.testing.backend_contract")

from stockstore.testing.backend_contract import BackendContract  # noqa: E402 - rewritten only when registered first

__all__ = ["BackendContract"]
