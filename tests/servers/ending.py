"""Ends a program as Ctrl-C would, so that the servers that it has started are removed."""

import os
import signal
from functools import partial
from types import FrameType


def interrupt_on_sigterm() -> None:
    """Let SIGTERM raise KeyboardInterrupt in this process; its forked children end by it as ever.

    A shell script that is interrupted sends it to what it has put in the background, where Ctrl-C is ignored.
    """
    signal.signal(signal.SIGTERM, partial(_interrupt, os.getpid()))


def _interrupt(owner: int, number: int, _: FrameType | None) -> None:
    if os.getpid() == owner:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
