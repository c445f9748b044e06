"""Both kinds of what is compiled."""

import pytest

from tests.native.kinds import COMPILED, PLAIN, Kind


@pytest.fixture(params=[PLAIN, COMPILED], ids=["plain", "compiled"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """One of both."""
    found: Kind = request.param
    return found
