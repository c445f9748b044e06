"""The WSGI middleware: where a request's scope begins and ends."""

import threading
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import httpx
import pytest

from stockstore import ConfigurationError, ProcessMemoryStore, ThreadLocalStore
from stockstore_ext.wsgi import RequestScope
from tests.frameworks.tiers import Item, Tiers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

pytestmark = pytest.mark.sa_agnostic


def called(app: "WSGIApplication", **environ: Any) -> Iterable[bytes]:
    """Call an application as a server does, and give the body."""
    setup_testing_defaults(environ)
    return app(environ, lambda status, headers, error=None: lambda part: part)


def answering(body: Callable[[], Iterable[bytes]]) -> "WSGIApplication":
    """Make an application of a body."""

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body()

    return app


class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def test_requests_over_http_begin_empty(tiers: Tiers) -> None:
    """One pooled thread serves two requests: what the first one read, the second reads anew; both keep to the protocol."""

    def body() -> list[bytes]:
        before = tiers.kept()
        tiers.chain.batch_get(Item, [1, 2])
        return [f"{before} {tiers.kept()}".encode()]

    app = validator(RequestScope(validator(answering(body)), tiers.chain))
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            assert [httpx.get(url).text for _ in range(2)] == ["[] [1, 2]"] * 2
        finally:
            server.shutdown()
            thread.join(10)


def test_the_scope_holds_what_the_request_has_read(tiers: Tiers) -> None:
    """Within one request a second read is answered by the first; the next one sees what was changed below."""

    def body() -> list[bytes]:
        first = tiers.chain.get(Item, 1)
        tiers.below.put(Item(1, "cap"))
        second = tiers.chain.get(Item, 1)
        assert first is not None
        assert second is first
        return [first.name.encode()]

    app = RequestScope(answering(body), tiers.chain)
    assert [called(app), called(app)] == [[b"hat"], [b"cap"]]


def test_a_body_that_is_generated_reads_in_the_scope(tiers: Tiers) -> None:
    """The scope lasts until the generator has ended, which runs after the application returned."""

    def body() -> Iterator[bytes]:
        for _ in range(2):
            tiers.chain.get(Item, 1)
            yield str(tiers.kept()).encode()

    parts = iter(called(RequestScope(answering(body), tiers.chain)))
    assert [next(parts), next(parts)] == [b"[1]", b"[1]"]
    assert tiers.kept() == [1]
    assert list(parts) == []
    assert tiers.kept() == []


def test_a_body_that_is_closed_early_ends_the_scope(tiers: Tiers) -> None:
    """Where the client goes away in the middle, the server closes the body: it is told, within the scope, which then ends."""
    told: list[list[int]] = []

    def body() -> Iterator[bytes]:
        try:
            tiers.chain.get(Item, 1)
            yield b"first"
            yield b"second"
        finally:
            told.append(tiers.kept())

    given: Any = called(RequestScope(answering(body), tiers.chain))
    assert next(given) == b"first"
    given.close()
    given.close()
    assert told == [[1]]
    assert tiers.kept() == []


def test_a_body_that_fails_ends_the_scope(tiers: Tiers) -> None:
    """An error in the middle of the body reaches the server, and the scope is over."""

    def body() -> Iterator[bytes]:
        tiers.chain.get(Item, 1)
        yield b"first"
        raise RuntimeError("halfway")

    parts = iter(called(RequestScope(answering(body), tiers.chain)))
    next(parts)
    with pytest.raises(RuntimeError, match="halfway"):
        next(parts)
    assert tiers.kept() == []


@pytest.mark.parametrize("body", [None, 7])
def test_a_request_that_fails_ends_the_scope(tiers: Tiers, body: Any) -> None:
    """An application that raises, or gives what is no body, leaves nothing behind."""

    def failing() -> Iterable[bytes]:
        tiers.chain.get(Item, 1)
        if body is None:
            raise RuntimeError("request")
        return body  # type: ignore[no-any-return]

    with pytest.raises((RuntimeError, TypeError)):
        called(RequestScope(answering(failing), tiers.chain))
    assert tiers.kept() == []


def test_whole_bodies_and_files_stay_what_they_are(tiers: Tiers) -> None:
    """Servers know the length of a list, and send their own file wrapper's file by a call of the system: neither is wrapped."""
    whole = [b"hat"]
    file = FileWrapper(BytesIO(b"hat"))
    assert called(RequestScope(answering(lambda: whole), tiers.chain)) is whole
    assert called(RequestScope(answering(lambda: file), tiers.chain), **{"wsgi.file_wrapper": FileWrapper}) is file
    assert tiers.kept() == []


def test_any_store_is_taken_and_nothing_else() -> None:
    """A store without such a tier changes nothing; what is no store is refused at once, with what to give."""
    app = answering(lambda: [b"hat"])
    assert called(RequestScope(app, ProcessMemoryStore())) == [b"hat"]
    for wrong in ("redis://localhost", None, ThreadLocalStore):
        with pytest.raises(ConfigurationError, match="a request's scope is that of a store, such as"):
            RequestScope(app, wrong)  # type: ignore[arg-type]
