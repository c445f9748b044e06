"""What every backend must do that takes part in the coherence protocol, as tests.

The test file of a backend is a subclass and a fixture::

    class TestMine(CoherentBackendContract):
        @pytest.fixture
        def backend(self):
            backend = MyBackend(...)
            yield backend
            backend.close()

The storage may be shared with others: each test keeps to a namespace of its own.
"""

from stockstore.testing.coherent_generations import CoherentGenerations
from stockstore.testing.coherent_leases import CoherentLeases
from stockstore.testing.coherent_markers import CoherentMarkers
from stockstore.testing.coherent_puts import CoherentPuts


class CoherentBackendContract(CoherentLeases, CoherentMarkers, CoherentPuts, CoherentGenerations):
    """The tests. A subclass gives the fixture ``backend``, and where it can ``other``: another one on the same storage."""
