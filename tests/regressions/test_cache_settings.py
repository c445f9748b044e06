"""Settings of cache stores that do not fit, and mappings that hold what is not theirs."""

from typing import Any

import pytest

from stockstore import CacheUnreachable, ConfigurationError, MappingStore, MemcacheStore, MsgpackCodec, PickleCodec, RedisStore, open_store


class Note:
    """One key."""

    __keys__ = ["id"]

    def __init__(self, id: int) -> None:  # noqa: A002 - the attribute's name
        self.id = id


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "1", None, True])
def test_a_time_out_that_is_no_number_of_seconds_is_refused(seconds: Any) -> None:
    """The message has the value, when the store is made."""
    with pytest.raises(ConfigurationError, match=rf"^read_timeout is a number of seconds above 0, not {seconds!r}$"):
        RedisStore("redis://localhost", read_timeout=seconds)
    with pytest.raises(ConfigurationError, match=rf"^timeout is a number of seconds above 0, not {seconds!r}$"):
        MemcacheStore("localhost", timeout=seconds)


@pytest.mark.parametrize("url", ["redis://localhost?connect_timeout=-1", "memcached://localhost?timeout=nan"])
def test_a_url_with_such_a_time_out_is_refused(url: str) -> None:
    """``open_store`` tells as well."""
    with pytest.raises(ConfigurationError, match="timeout is a number of seconds above 0"):
        open_store(url)


def test_servers_that_are_no_list_are_refused() -> None:
    """A number in place of servers is named."""
    servers: Any = 5
    with pytest.raises(ConfigurationError, match=r"^5 is no memcached server; write"):
        MemcacheStore(servers)


@pytest.mark.parametrize("host", ["a..b:11211", "x" * 80 + ":11211"])
def test_a_memcached_host_that_cannot_be_one_is_unreachable(host: str) -> None:
    """A name that has no encoding is no answer."""
    with MemcacheStore(host) as store, pytest.raises(CacheUnreachable, match="did not do what was asked"):
        store.put(Note(1))


@pytest.mark.parametrize("value", ["text", 5, [1], bytearray(b"V")])
def test_a_mapping_that_holds_other_things_is_one_that_fails(value: Any) -> None:
    """A value that is no bytes is a miss that counts as an error, and may be written over."""
    cells: dict[Any, Any] = {}
    store = MappingStore(cells)
    store.put(Note(1))
    cells[next(iter(cells))] = value
    assert store.get(Note, 1) is None
    assert store.stats().errors == 1
    store.put(Note(1))
    assert store.get(Note, 1) is not None


def test_a_mapping_with_other_keys_is_cleared_of_what_is_ours() -> None:
    """Keys that are no text stay."""
    cells: dict[Any, Any] = {7: b"seven"}
    store = MappingStore(cells)
    store.put(Note(1))
    store.clear()
    assert cells == {7: b"seven"}


@pytest.mark.parametrize("codec", [5, "msgpack", PickleCodec, MsgpackCodec().encode])
def test_what_is_no_codec_is_refused(codec: Any) -> None:
    """When the store is made, not at its first write; a class in place of its instance too."""
    with pytest.raises(ConfigurationError, match=r"^codec takes a codec, such as MsgpackCodec"):
        MappingStore({}, codec=codec)
