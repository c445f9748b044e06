"""Servers that are spoken to by TLS."""

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.servers.memcached import MemcachedServer
from tests.servers.redis import RedisServer
from tests.servers.server import HOST, answer, folder

_REQUEST = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]


class SecureRedis(RedisServer):
    """Redis with TLS on its port; its unix socket is plain."""

    @property
    def url(self) -> str:
        """The URL of its database 0, with what its certificate is checked by."""
        return f"rediss://{self.address}/0?ssl_ca_certs={self.directory / 'certificate.pem'}"

    def command(self, listen: str) -> list[str]:
        """Give `redis-server` with a certificate of its own."""
        own, key = _certificate(self.directory)
        files = ["--tls-cert-file", str(own), "--tls-key-file", str(key), "--tls-ca-cert-file", str(own), "--tls-auth-clients", "no"]
        return [*super().command(listen), "--port", "0", "--tls-port", str(self.port), *files]

    def ready(self) -> bool:
        """Tell whether it answers PING."""
        return answer(b"PING\r\n", path=self.unix_path).startswith(b"+PONG")


class SecureMemcached(MemcachedServer):
    """memcached with TLS on its port."""

    @property
    def context(self) -> ssl.SSLContext:
        """What its certificate is checked by."""
        return ssl.create_default_context(cafile=self.directory / "certificate.pem")

    def command(self, listen: str) -> list[str]:
        """Give `memcached` with a certificate of its own."""
        own, key = _certificate(self.directory)
        return [*super().command(listen), "-Z", "-o", f"ssl_chain_cert={own},ssl_key={key}"]

    def ready(self) -> bool:
        """Tell whether it takes a connection; it accepts none before it listens to TLS."""
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
            return True
        return False


def _certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate that signs itself, and its key, where the server looks for them."""
    own, key = directory / "certificate.pem", directory / "key.pem"
    names = ["-addext", f"subjectAltName=IP:{HOST},DNS:localhost"]
    subprocess.run([*_REQUEST, *names, "-out", own, "-keyout", key], check=True, capture_output=True)
    key.chmod(0o644)
    return own, key


@contextlib.contextmanager
def running_secure_redis() -> Iterator[SecureRedis]:
    """Run a Redis that is spoken to by TLS."""
    with folder() as directory, SecureRedis(directory).running() as server:
        yield server


@contextlib.contextmanager
def running_secure_memcached() -> Iterator[SecureMemcached]:
    """Run a memcached that is spoken to by TLS."""
    with folder() as directory, SecureMemcached(directory).running() as server:
        yield server
