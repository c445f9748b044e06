import pytest

from tests.servers.images import image
from tests.servers.source import NoServer, Source, choose

pytestmark = pytest.mark.sa_agnostic


def test_a_url_comes_first() -> None:
    """A URL of the environment wins over Docker and a binary."""
    assert choose("redis-server", url="redis://elsewhere", docker=True, path="/usr/bin/redis-server") is Source.URL


def test_docker_comes_before_a_binary() -> None:
    """Docker, with its pinned versions, wins over a binary of any version."""
    assert choose("memcached", url=None, docker=True, path="/usr/bin/memcached") is Source.DOCKER


def test_a_binary_comes_last() -> None:
    """A binary serves where neither of the others does; an empty URL is none."""
    assert choose("postgres", url="", docker=False, path="/usr/bin/postgres") is Source.BINARY


def test_nothing_is_a_failure_that_tells_the_fix() -> None:
    """Without any of them the failure names the binary and the command that brings it."""
    with pytest.raises(NoServer, match=r"no postgres on this machine .* 'sudo apt-get install -y postgresql'"):
        choose("postgres", url=None, docker=False, path=None)


@pytest.mark.parametrize("name", ["redis", "memcached", "postgres"])
def test_images_are_pinned(name: str) -> None:
    """Every server's image carries a version of at least two numbers."""
    assert image(name).startswith(f"{name}:")
    assert image(name).count(".") >= 1


def test_an_unknown_image_is_an_error() -> None:
    """A server that docker-compose.yml does not name is a LookupError that names it."""
    with pytest.raises(LookupError, match="pins no image 'mysql'"):
        image("mysql")
