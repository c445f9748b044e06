"""The contract suites: the test file of a backend or store is a subclass and a fixture."""

from stockstore.errors import ConfigurationError

try:
    import pytest
except ModuleNotFoundError as exc:
    raise ConfigurationError("the contract suites are tests, and pytest is missing: pip install pytest") from exc

for _name in (
    "backend_contract",
    "coherent_basics",
    "coherent_contract",
    "coherent_generations",
    "coherent_leases",
    "coherent_markers",
    "coherent_puts",
    "store_basics",
    "store_kinds",
    "store_contract",
    "cache_store_contract",
):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")

# Imported late: assertions are rewritten only in modules that were registered first.
from stockstore.testing.backend_contract import BackendContract  # noqa: E402
from stockstore.testing.cache_store_contract import CacheStoreContract  # noqa: E402
from stockstore.testing.coherent_contract import CoherentBackendContract  # noqa: E402
from stockstore.testing.samples import metadata  # noqa: E402
from stockstore.testing.store_basics import StoreBasics  # noqa: E402
from stockstore.testing.store_contract import StoreContract  # noqa: E402

__all__ = ["BackendContract", "CacheStoreContract", "CoherentBackendContract", "StoreBasics", "StoreContract", "metadata"]
