"""One server of a test's own, which it may stop, freeze and restart: a container or a local process."""

import atexit
import contextlib
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from mirakuru import SimpleExecutor
from mirakuru.base import cleanup_subprocesses
from testcontainers.core.container import DockerContainer

from tests.servers.images import image

# At the end of a process it kills whatever has the digits of its number in a name, which holds the starter's number and a random one:
# servers of another process, too. Ours are removed by who has started them.
atexit.unregister(cleanup_subprocesses)

_FAREWELL_SECONDS = 5.0


class Process(ABC):
    """A server's process, which may be started again after a stop."""

    @abstractmethod
    def start(self) -> None:
        """Start it; whether it is ready is not asked here."""

    @abstractmethod
    def stop(self) -> None:
        """End it, frozen or not; a stopped one is left alone."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Tell whether it has ended of itself."""

    @abstractmethod
    def freeze(self) -> None:
        """Keep it from running: connections are still accepted by the kernel, nothing is answered."""

    @abstractmethod
    def thaw(self) -> None:
        """Let a frozen one run on."""

    @abstractmethod
    def remove(self) -> None:
        """Stop it for good."""


class LocalProcess(Process):
    """A server from a local binary."""

    def __init__(self, command: Sequence[str], directory: Path, farewell: signal.Signals = signal.SIGKILL) -> None:
        self._command = list(command)
        self._directory = directory
        self._farewell = farewell
        self._executor: SimpleExecutor | None = None

    def start(self) -> None:
        """Start the process; what it prints is appended to `server.log` in its folder."""
        with (self._directory / "server.log").open("a") as log:
            self._executor = SimpleExecutor(self._command, cwd=str(self._directory), stdout=log, stderr=log).start()

    def stop(self) -> None:
        """Kill the process, as a crash would, and its children, which would hold on to what the next start needs."""
        if self._executor is not None:
            # Halted, it makes no more of them.
            processes = [] if self.has_ended() else self._signal(signal.SIGSTOP)
            self._executor.kill()
            self._executor = None
            _send(processes, signal.SIGKILL)
            _wait_for(processes, "ZX", "stat")

    def has_ended(self) -> bool:
        """Tell whether the process has ended of itself."""
        return self._executor is not None and not self._executor.running()

    def freeze(self) -> None:
        """Send SIGSTOP, and wait until it has reached every thread: one that still runs could answer once more."""
        _wait_for(self._signal(signal.SIGSTOP), "TZX", "task/*/stat")

    def thaw(self) -> None:
        """Send SIGCONT."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """End the process by its farewell, or else kill it; its folder is the caller's."""
        if self._executor is not None and not self.has_ended():
            self.thaw()
            server = self._server()
            server.send_signal(self._farewell)
            with contextlib.suppress(psutil.TimeoutExpired):
                server.wait(_FAREWELL_SECONDS)
        self.stop()

    def _signal(self, number: signal.Signals) -> list[psutil.Process]:
        server = self._server()
        server.send_signal(number)
        children = server.children(recursive=True)
        _send(children, number)
        return [server, *children]

    def _server(self) -> psutil.Process:
        if self._executor is None or self._executor.process is None:
            raise RuntimeError(f"the server does not run: {self._command}")
        return psutil.Process(self._executor.process.pid)


def _send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to PostgreSQL's children, which leave its process group; any of them may end at this moment."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _wait_for(processes: Sequence[psutil.Process], states: str, files: str) -> None:
    for process in processes:
        while any(_state(file) not in states for file in Path(f"/proc/{process.pid}").glob(files)):
            time.sleep(0.001)


def _state(task: Path) -> str:
    """Give the letter by which Linux tells what a thread is doing; a thread that has ended is dead."""
    try:
        return task.read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


class ContainerProcess(Process):
    """The same command in a container: same port inside and outside, and its folder mounted under its own path."""

    def __init__(self, name: str, command: Sequence[str], port: int, directory: Path, environment: Mapping[str, str]) -> None:
        directory.chmod(0o777)
        container = DockerContainer(image(name)).with_command(list(command)).with_envs(**environment)
        self._container = container.with_bind_ports(port, port).with_volume_mapping(directory, str(directory), "rw")
        self._made = False

    def start(self) -> None:
        """Make the container, or start it again."""
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._made = True

    def stop(self) -> None:
        """Kill the container, as a crash would."""
        container = self._container.get_wrapped_container()
        container.reload()
        if container.status == "paused":
            container.unpause()
        if container.status in {"running", "paused"}:
            container.kill()
            container.wait()

    def has_ended(self) -> bool:
        """Tell whether the container has ended of itself."""
        container = self._container.get_wrapped_container()
        container.reload()
        return bool(container.status in {"exited", "dead"})

    def freeze(self) -> None:
        """Pause the container."""
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        """Let the container run on."""
        self._container.get_wrapped_container().unpause()

    def remove(self) -> None:
        """Kill and remove the container."""
        self._container.stop()
