"""A server of a test's own: a process on a port that stays the same, and how to tell that it is ready."""

import contextlib
import shutil
import signal
import socket
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import port_for
from typing_extensions import Self

from tests.servers import frozen
from tests.servers.process import ContainerProcess, LocalProcess, Process
from tests.servers.source import Source, own_source

HOST = "127.0.0.1"
START_SECONDS = 60.0


class Server(ABC):
    """A server that a test may stop, freeze and restart. It is made stopped; `running()` is the usual way in."""

    name: str
    binary: str
    farewell = signal.SIGKILL

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = own_port(self)
        frozen.know(self.port)
        self._process = self._launch()

    @property
    def address(self) -> str:
        """The `host:port` that it listens on."""
        return f"{HOST}:{self.port}"

    @abstractmethod
    def command(self, listen: str) -> list[str]:
        """Give the command line for a server that listens on the address `listen`."""

    @abstractmethod
    def ready(self) -> bool:
        """Tell whether it answers now."""

    def environment(self) -> dict[str, str]:
        """Give the variables that its container wants."""
        return {}

    def local_command(self) -> list[str]:
        """Give the command line of the local binary."""
        return self.command(HOST)

    def start(self) -> None:
        """Start it and return once it answers.

        Raises:
            RuntimeError: it has ended instead; the message has the end of what it wrote.
        """
        self._process.start()
        wait_until(lambda: self._process.has_ended() or self.ready(), f"{self.name} on {self.address} (see {self.directory})")
        if self._process.has_ended():
            raise RuntimeError(f"{self.name} on {self.address} has ended: {self._said()}")

    def stop(self) -> None:
        """Kill it, frozen or not; connections are refused from then on."""
        self._process.stop()
        frozen.freeze(self.port, frozen=False)

    def restart(self) -> None:
        """Stop it and start it on the same port; what it held in memory only is gone."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Halt it: the kernel still accepts connections, nothing is answered."""
        self._process.freeze()
        frozen.freeze(self.port, frozen=True)

    def thaw(self) -> None:
        """Let a frozen one run on, and return once it answers."""
        self._process.thaw()
        frozen.freeze(self.port, frozen=False)
        wait_until(self.ready, f"{self.name} on {self.address}")

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Start it, and remove it at the end."""
        try:
            self.start()
            yield self
        finally:
            self._process.remove()

    def _said(self) -> str:
        log = self.directory / "server.log"
        return log.read_text(errors="replace")[-1000:] if log.exists() else "it wrote no log here"

    def _launch(self) -> Process:
        if own_source(self.binary) is Source.DOCKER:
            return ContainerProcess(self.name, self.command("0.0.0.0"), self.port, self.directory, self.environment())
        return LocalProcess(self.local_command(), self.directory, self.farewell)


def own_port(owner: object) -> int:
    """Give a port on which nobody listens, and that no other test run is given as long as its owner lives.

    Two that are chosen before either is listened on may be the same: its number is claimed as that of a UDP port, which no server uses.
    """
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True:
        port = int(port_for.select_random())
        with contextlib.suppress(OSError):
            claim.bind((HOST, port))
            weakref.finalize(owner, claim.close)
            return port


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a folder for a server, with a path short enough for a socket and open to another user, as pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="stockstore-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def wait_until(ready: Callable[[], bool], what: str) -> None:
    """Ask every few milliseconds until `ready` says so; a server tells no other process when it is.

    Raises:
        TimeoutError: it was not ready in a minute.
    """
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} was not ready in {START_SECONDS:.0f} s")
        time.sleep(0.01)


def answer(question: bytes, *, port: int = 0, path: Path | None = None) -> bytes:
    """Ask a server one question by its unix socket, or else its port; empty when it does not answer."""
    try:
        with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as connection:
            connection.settimeout(frozen.PATIENCE)
            connection.connect(str(path) if path else (HOST, port))
            connection.sendall(question)
            return connection.recv(4096)
    except OSError:
        return b""
