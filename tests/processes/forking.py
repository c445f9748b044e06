"""A process that has used its store, and children of it: each hears the others, and none disturbs another's connections.

Arguments: the shop, and how ``multiprocessing`` starts the children.
"""

import multiprocessing
import os
import sys
from typing import Any

from stockstore import ChainedStore
from stockstore.instrumentation import Event, add_hook
from tests.processes.shop import Row, Shop, channel_threads, eventually, shop_from_command_line, value_of

flushes: list[str] = []
store: ChainedStore | None = None


def note(event: Event) -> None:
    """Note why memory was flushed in this process."""
    if event.kind == "flush":
        flushes.append(event.reason)


def serve(shop: Shop, asked: Any) -> None:
    """Be a child: with the store that was inherited, or one of its own where nothing is."""
    chain = store or shop.open()
    if store is None:
        add_hook(note)
    flushes.clear()
    while (command := asked.recv()) is not None:
        asked.send(answer(chain, *command))
    chain.close()
    eventually(lambda: channel_threads() == 0, "the end of the thread")


def answer(chain: ChainedStore, verb: str, *given: int) -> object:
    """Do what is asked."""
    if verb == "get":
        return value_of(chain)
    if verb == "put":
        chain.put(Row(id=1, value=given[0]))
        return None
    return channel_threads(), list(flushes)


class Parent:
    """This process, asked as a child is."""

    def __init__(self, chain: ChainedStore) -> None:
        self._chain = chain

    def ask(self, verb: str, *given: int) -> object:
        """Do it here."""
        return answer(self._chain, verb, *given)


class Child:
    """A child, as its parent sees it."""

    def __init__(self, context: Any, shop: Shop) -> None:
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(shop, theirs), daemon=True)
        self._process.start()

    def ask(self, *command: object) -> Any:
        """Have something done."""
        self._pipe.send(command)
        return self._pipe.recv()

    def end(self) -> None:
        """Have it close its store and exit as Python does."""
        self._pipe.send(None)
        self._process.join()
        assert self._process.exitcode == 0, self._process.exitcode


def leave_a_child(shop: Shop) -> None:
    """Fork a process that uses its store, forks, and exits while its child goes on, as a supervisor's does: the child hears on."""
    reading, writing = os.pipe()
    ready, go = os.pipe()
    if os.fork() == 0:
        store = shop.open()
        assert value_of(store, 2) == 0
        if os.fork() == 0:
            assert value_of(store, 2) == 0
            os.write(writing, b"cached\n")
            os.read(ready, 1)
            shop.write_behind(2, 1)
            assert value_of(store, 2) == 0
            other = shop.open()
            other.put(Row(id=2, value=2))
            eventually(lambda: value_of(store, 2) == 2, "a write")
            assert channel_threads() == 1
            os.write(writing, b"heard\n")
        sys.exit()
    with os.fdopen(reading) as told:
        assert told.readline() == "cached\n"
        assert os.wait()[1] == 0
        os.write(go, b"!")
        assert told.readline() == "heard\n"


def main(shop: Shop, method: str) -> None:
    """Go through the lives of a parent and two children."""
    global store  # noqa: PLW0603 - a fork inherits globals
    if method == "fork":
        leave_a_child(shop)
    store = shop.open()
    add_hook(note)
    assert value_of(store) == 0
    assert (channel_threads(), flushes) == (1, ["start"])
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["tests.processes.shop"])
    first, second = Child(context, shop), Child(context, shop)

    # What a parent has in memory is no child's.
    shop.write_behind(1, 10)
    assert (value_of(store), first.ask("get"), second.ask("get")) == (0, 10, 10)
    shop.write_behind(1, 20)
    assert (value_of(store), first.ask("get"), second.ask("get")) == (0, 10, 10)

    # Each is told by a thread of its own, whoever writes.
    parent = Parent(store)
    family: tuple[Parent | Child, ...] = (parent, first, second)
    for value, writer in enumerate(family, 30):
        writer.ask("put", value)
        eventually(lambda value=value: [one.ask("get") for one in family] == [value] * 3, "a write")  # type: ignore[misc]
    assert [first.ask("threads"), second.ask("threads")] == [(1, ["start"])] * 2

    # The end of a child is nobody else's.
    first.end()
    second.ask("put", 60)
    eventually(lambda: parent.ask("get") == 60, "a write")
    store.put(Row(id=1, value=70))
    eventually(lambda: second.ask("get") == 70, "a write")
    assert second.ask("threads") == (1, ["start"])
    assert (channel_threads(), flushes) == (1, ["start"])
    second.end()
    store.close()
    eventually(lambda: channel_threads() == 0, "the end of the thread")


if __name__ == "__main__":
    chosen, (how,) = shop_from_command_line()
    main(chosen, how)
