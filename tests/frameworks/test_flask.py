"""The Flask extension: the store on the application, and the request's scope."""

from collections.abc import Iterator

import pytest
from flask import Flask, Response

from stockstore import ConfigurationError, Store
from stockstore_ext.flask import Stockstore, current_store
from tests.frameworks.tiers import Item, Tiers

pytestmark = pytest.mark.sa_agnostic


@pytest.fixture
def app(tiers: Tiers) -> Flask:
    """An application that reads items, and tells what the request's tier has before and after."""
    app = Flask("shop")
    Stockstore(app, tiers.chain)

    @app.get("/items/<int:number>")
    def item(number: int) -> dict[str, object]:
        before = tiers.kept()
        found = [current_store.get(Item, number) for _ in range(2)]
        return {"same": found[0] is found[1], "before": before, "after": tiers.kept()}

    @app.get("/stream")
    def stream() -> Response:
        def parts() -> Iterator[str]:
            for number in (1, 2):
                tiers.chain.get(Item, number)
                yield str(tiers.kept())

        return Response(parts())

    return app


def test_each_request_begins_empty_and_reads_once(app: Flask, tiers: Tiers) -> None:
    """Within a request the second read is the first one's object; the next request, in the same thread, starts empty."""
    client = app.test_client()
    for _ in range(2):
        assert client.get("/items/1").json == {"same": True, "before": [], "after": [1]}
    assert tiers.requests.stats().hits == 4  # two reads again, and two looks of the test
    assert tiers.kept() == []


def test_a_streamed_response_reads_in_the_scope(app: Flask, tiers: Tiers) -> None:
    """The scope lasts until the last part was sent."""
    assert app.test_client().get("/stream").text == "[1][1, 2]"
    assert tiers.kept() == []


def test_a_factory_extends_several_applications(tiers: Tiers) -> None:
    """An extension made at import has its application, and if need be its store, later."""
    extension, other = Stockstore(store=tiers.chain), Stockstore()
    first, second = Flask("first"), Flask("second")
    extension.init_app(first)
    other.init_app(second, tiers.below)
    for app, store in ((first, tiers.chain), (second, tiers.below)):
        assert app.extensions["stockstore"] is store
        with app.app_context():
            assert current_store == store
            assert isinstance(current_store, Store)


def test_wrong_set_ups_are_refused(app: Flask, tiers: Tiers) -> None:
    """No store, two stores, no extension and no application are each told apart."""
    with pytest.raises(ConfigurationError, match=r"^the extension takes a blocking store, Stockstore\(app, .*, not None$"):
        Stockstore(Flask("shop"))
    with pytest.raises(ConfigurationError, match=r"^the extension extends a Flask application, not 'shop'$"):
        Stockstore("shop", tiers.chain)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="has a store already, ChainedStore"):
        Stockstore(app, tiers.chain)
    with (
        Flask("shop").app_context(),
        pytest.raises(ConfigurationError, match=r"^'shop' has no store; give it one: Stockstore\(app, store\)$"),
    ):
        current_store.get(Item, 1)
    with pytest.raises(RuntimeError, match="outside of application context"):
        current_store.get(Item, 1)
