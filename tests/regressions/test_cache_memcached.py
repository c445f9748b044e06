"""A cache on memcached that answers with nonsense."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from stockstore import CacheUnreachable, MemcacheStore
from tests.patience import SHORT
from tests.regressions import answering as servers

TIMEOUT = SHORT
BACKWARDS = b"VALUE k 0 -17\r\n"  # its size leads to its own beginning


def answering(answer: Callable[[bytes], bytes]) -> AbstractContextManager[int]:
    """Serve memcached's commands, but of itself the server tells nothing, as a proxy does not."""
    return servers.answering(lambda request: b"ERROR\r\n" if request.startswith(b"stats") else answer(request))


class Note:
    """One key."""

    __keys__ = ["id"]

    def __init__(self, id: int) -> None:  # noqa: A002 - the attribute's name
        self.id = id


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "answer",
    [
        BACKWARDS,
        b"VALUE k 0 -5\r\nEND\r\n",
        b"VALUE k 0 999999999999\r\n",
        b"VALUE k 0 2000000000\r\n",
        b"VALUE k 0 99999999999999999999999\r\n",
        b"VALUE \xff\xfe 0 -1\r\na\r\nEND\r\n",
    ],
)
def test_a_value_of_an_impossible_size_is_no_answer(answer: bytes) -> None:
    """Such an answer to a read is a miss that counts as an error."""
    with answering(lambda _: answer) as port, MemcacheStore(f"127.0.0.1:{port}", timeout=TIMEOUT) as store:
        assert store.get(Note, 1) is None
        assert store.stats().errors == 1


def test_a_value_under_a_key_of_other_bytes_is_passed_over() -> None:
    """A key that was not asked for, and is no text, belongs to no object."""
    with answering(lambda _: b"VALUE \xff\xfe 0 1\r\na\r\nEND\r\n") as port, MemcacheStore(f"127.0.0.1:{port}") as store:
        assert store.get(Note, 1) is None
        assert store.stats().errors == 0


def refuse_all(request: bytes) -> bytes:
    """Keep the tokens, and refuse every value with bytes that are no text."""
    cells = [line.split(b" ")[1] for line in request.split(b"\r\n") if line.startswith(b"add ")]
    found = b"".join(b"VALUE %b 0 1\r\nt\r\n" % cell for cell in cells) + b"END\r\n" if cells else b""
    return (
        b"STORED\r\n" * len(cells) + found + b"SERVER_ERROR \xff\r\n" * request.count(b"set ") + b"DELETED\r\n" * request.count(b"delete ")
    )


def keep_nothing(request: bytes) -> bytes:
    """Acknowledge the tokens, and give them back empty."""
    cells = [line.split(b" ")[1] for line in request.split(b"\r\n") if line.startswith(b"add ")]
    return b"STORED\r\n" * len(cells) + b"".join(b"VALUE %b 0 0\r\n\r\n" % cell for cell in cells) + b"END\r\n"


@pytest.mark.parametrize("server", [refuse_all, keep_nothing])
def test_a_write_that_is_refused_in_any_words_is_unreachable(server: object) -> None:
    """What the server says to a put, and which tokens it gives, raises nothing but ``CacheUnreachable``."""
    assert callable(server)
    with answering(server) as port, MemcacheStore(f"127.0.0.1:{port}", timeout=TIMEOUT) as store, pytest.raises(CacheUnreachable):
        store.put(Note(1))
