"""Processes that tests begin."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import AnyStr


@contextmanager
def ending(process: "subprocess.Popen[AnyStr]") -> Iterator["subprocess.Popen[AnyStr]"]:
    """Wait for a process at the end, and end it where the test has failed: its own ``with`` would wait for ever."""
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
