"""Where a server comes from: a URL of the environment, then Docker, then a local binary, else a failure that tells the fix."""

import enum
import functools
import shutil
import subprocess
from pathlib import Path


class Source(enum.Enum):
    """The ways to get a server, best first."""

    URL = "a URL in the environment"
    DOCKER = "Docker"
    BINARY = "a local binary"


class NoServer(RuntimeError):
    """There is no way to get a server on this machine."""


def choose(binary: str, *, url: str | None, docker: bool, path: str | None) -> Source:
    """Choose the source of a server; `path` is where its binary lies, if anywhere.

    Raises:
        NoServer: none of the three is there. The message says what to do.
    """
    if url:
        return Source.URL
    if docker:
        return Source.DOCKER
    if path:
        return Source.BINARY
    raise NoServer(
        f"no {binary} on this machine and Docker does not answer: run ./scripts/test, or 'sudo apt-get install -y {PACKAGES[binary]}'"
    )


PACKAGES = {"redis-server": "redis-server", "memcached": "memcached", "postgres": "postgresql", "mariadbd": "mariadb-server"}


@functools.cache
def docker_answers() -> bool:
    """Tell whether a Docker engine answers within ten seconds."""
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@functools.cache
def binary_path(name: str) -> str | None:
    """Find a server's binary on the path or where Debian hides PostgreSQL's (the newest version wins)."""
    hidden = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(hidden[-1]) if hidden else shutil.which(name)


def own_source(binary: str) -> Source:
    """Choose the source of a server that a test may stop and freeze: a URL's server belongs to others."""
    return choose(binary, url=None, docker=docker_answers(), path=binary_path(binary))
