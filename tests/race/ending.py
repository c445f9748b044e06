"""How a race is ended before its time: by a signal, or because it has taken too long."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psutil

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """Everything that was started is to be ended now, and what was measured told.

    It is no ``Exception``, so that nothing on its way takes it for a server's failure.
    """

    def __init__(self, name: str) -> None:
        """Keep the signal's name."""
        super().__init__(name)
        self.number = signal.Signals[name]

    @property
    def is_signal(self) -> bool:
        """Whether anybody has sent it, and it is not that the time is over."""
        return self.number != signal.SIGALRM

    @property
    def status(self) -> int:
        """What the process ends with, as a shell has it."""
        return 128 + self.number


class Ending:
    """Raises :class:`Stopped` in the main thread, once."""

    def __init__(self) -> None:
        """Hear nothing yet."""
        self._before: dict[int, Any] = {}

    def hear(self, *numbers: int) -> None:
        """Let signals raise it from now on."""
        self._before |= {number: signal.signal(number, self._stop) for number in numbers}

    def after(self, seconds: float) -> None:
        """Let it be raised when some seconds are over, too."""
        self.hear(signal.SIGALRM)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def _stop(self, number: int, _frame: object) -> None:
        self.disarm()
        raise Stopped(signal.Signals(number).name)

    def disarm(self) -> None:
        """Hear none any more: what is begun to be ended is ended, however often one asks for it."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def restore(self) -> None:
        """Leave the signals as they were."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def stoppable() -> Iterator[Ending]:
    """Let SIGTERM and SIGINT raise :class:`Stopped` in here."""
    ending = Ending()
    ending.hear(*_SIGNALS)
    try:
        yield ending
    finally:
        ending.restore()


def leave_signals_to_supervisor() -> None:
    """Let the keys of a terminal, which reach all processes, end the supervisor only: it ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_descendants() -> None:
    """Kill all that this process has started and that still runs, also what a signal has kept from being noted."""
    started = psutil.Process().children(recursive=True)
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(started, timeout=3)
