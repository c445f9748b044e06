"""A process that drops a store that it has used, uses another, closes that where it is told so, and ends.

It says ``ready`` before the last two, waits to be told, and says last how many seconds they took. Arguments: the shop.
"""

import atexit
import sys
import time


def say_seconds() -> None:
    """Say how long everything took that is called at the end."""
    print(time.monotonic() - began, flush=True)  # noqa: T201 - to the test


# Called last, as it is registered first.
atexit.register(say_seconds)

from tests.processes.shop import Shop, channel_threads, eventually, shop_from_command_line, value_of  # noqa: E402


def main(shop: Shop) -> None:
    """Read a row with two stores, and end as told."""
    global began  # noqa: PLW0603 - for the end of the interpreter
    dropped = shop.open()
    assert (value_of(dropped), channel_threads()) == (0, 1)
    del dropped
    eventually(lambda: channel_threads() == 0, "the end of the thread")
    store = shop.open()
    assert (value_of(store), channel_threads()) == (0, 1)
    print("ready", flush=True)  # noqa: T201 - to the test
    closes = sys.stdin.readline() == "close\n"
    began = time.monotonic()
    if closes:
        store.close()
        eventually(lambda: channel_threads() == 0, "the end of the thread")


began = 0.0

if __name__ == "__main__":
    main(shop_from_command_line()[0])
