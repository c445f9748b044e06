"""The bytes of commands to Redis."""

import ctypes
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import connection

from stockstore.native import _compiled, plain_commands

pytestmark = pytest.mark.sa_agnostic

Pack: TypeAlias = Callable[[Sequence[str | bytes]], bytes]
PARTS = st.lists(st.text(st.characters(codec="utf-8")) | st.binary(), min_size=1)
BOTH = pytest.mark.parametrize("pack", [_compiled.pack_command, plain_commands.pack_command], ids=["compiled", "plain"])


def _by_redis_py(command: Sequence[str | bytes]) -> bytes:
    untyped: Any = connection
    encode = untyped.Encoder("utf-8", "strict", decode_responses=False).encode
    # Of the first part it would make several where it has spaces.
    return b"".join(untyped.PythonRespSerializer(6000, encode).pack("GET", *command))


@BOTH
@given(PARTS)
def test_the_bytes_are_those_that_redis_py_sends(pack: Pack, command: list[str | bytes]) -> None:
    """Text as UTF-8 and bytes as they are, each after the number of its bytes."""
    assert pack(["GET", *command]) == _by_redis_py(command)
    assert pack(("GET", *command)) == _by_redis_py(command)


@BOTH
@pytest.mark.parametrize("size", [0, 9, 10, 99, 100, 99_999, 1_000_000])
def test_sizes_of_each_number_of_digits(pack: Pack, size: int) -> None:
    """The number of bytes stands before each part, whatever its length, and that of the parts before all."""
    assert pack(["SET", "é" * size]) == b"*2\r\n$3\r\nSET\r\n$%d\r\n%b\r\n" % (2 * size, "é".encode() * size)
    assert pack([b"a"] * size) == b"*%d\r\n%b" % (size, b"$1\r\na\r\n" * size)


@BOTH
def test_text_that_is_no_unicode_is_refused(pack: Pack) -> None:
    """As text.encode() does."""
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        pack(["GET", "fine", "\ud800"])


@pytest.mark.parametrize(("command", "message"), [(["GET", 1], "text and bytes, not int"), (7, "a command is a sequence")])
def test_what_is_no_command_is_refused(command: object, message: str) -> None:
    """By what is compiled, which would crash on it otherwise."""
    with pytest.raises(TypeError, match=message):
        _compiled.pack_command(command)  # type: ignore[arg-type]


def test_a_command_larger_than_any_memory_is_refused() -> None:
    """Not packed into less, which a sum of sizes that overflows would make of it."""
    part = b"v" * 50
    size = ctypes.c_ssize_t.from_address(id(part) + object.__basicsize__)
    assert size.value == 50
    try:
        size.value = sys.maxsize // 2
        with pytest.raises(MemoryError):
            _compiled.pack_command([part, part, part])
    finally:
        size.value = 50


def test_nothing_is_kept() -> None:
    """Neither parts nor what was packed, nor what was made for a command that was refused."""
    part = "k" * 50
    command: list[str | bytes] = [part, b"v" * 50]
    refused: list[str | bytes] = ["GET", "\ud800"]
    before = sys.getrefcount(part), sys.getrefcount(command)
    tracemalloc.start()
    for count in range(3000):
        if count == 1000:
            start = tracemalloc.get_traced_memory()[0]
        _compiled.pack_command(command)
        with suppress(UnicodeEncodeError):
            _compiled.pack_command(refused)
    grown = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.stop()
    assert (sys.getrefcount(part), sys.getrefcount(command)) == before
    assert grown < 20_000  # which are ten bytes a turn
