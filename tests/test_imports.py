"""What importing costs, and what it says where a driver is missing."""

import subprocess
import sys

import pytest

import stockstore

DRIVERS = ("sqlalchemy", "redis", "pymemcache", "msgspec", "greenlet", "psycopg")


def run(script: str) -> str:
    """Run a script in a new interpreter and give what it prints."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def run_without(driver: str, script: str) -> str:
    """Run a script where a driver cannot be imported, and give type and message of the error it ends with."""
    return run(f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {driver!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
try:
    {script}
except Exception as error:
    print(type(error).__name__, error, sep=": ")
""")


@pytest.mark.sa_agnostic
def test_importing_costs_no_driver() -> None:
    """``import stockstore`` loads no driver, and neither do the errors."""
    script = f"import sys, stockstore; stockstore.UnknownKeyError; print([name for name in {DRIVERS} if name in sys.modules])"
    assert run(script) == "[]"


@pytest.mark.sa_agnostic
@pytest.mark.parametrize(
    ("use", "free_of"),
    [
        ("stockstore.ProcessMemoryStore().get(Plain, 1)", ("sqlalchemy", "redis", "pymemcache")),
        ("stockstore.open_store('memory://', 'thread://', 'null://').get(Plain, 1)", ("sqlalchemy", "redis", "pymemcache")),
        ("stockstore.MappingStore({}).get(Plain, 1)", ("sqlalchemy", "redis", "pymemcache")),
        ("stockstore.RedisStore('redis://localhost')", ("sqlalchemy", "pymemcache")),
        ("stockstore.MemcacheStore('localhost')", ("sqlalchemy", "redis")),
    ],
)
def test_a_store_loads_no_driver_but_its_own(use: str, free_of: tuple[str, ...]) -> None:
    """Using one store leaves the drivers of the others unloaded."""
    script = f"import sys, stockstore\nclass Plain: __keys__ = ['id']\n{use}\nprint([name for name in {free_of} if name in sys.modules])"
    assert run(script) == "[]"


@pytest.mark.parametrize("name", stockstore.__all__)
def test_every_public_name_resolves(name: str) -> None:
    """Each name that the package lists is there, and known by that name."""
    assert name in dir(stockstore)
    assert getattr(stockstore, name).__name__ == name


def test_an_unknown_name_is_no_attribute() -> None:
    """A name that the package does not have is AttributeError, as of any module."""
    with pytest.raises(AttributeError, match=r"^module 'stockstore' has no attribute 'MongoStore'$"):
        stockstore.MongoStore  # noqa: B018 - the attribute itself is asked for


@pytest.mark.sa_agnostic
@pytest.mark.parametrize(
    ("driver", "script", "message"),
    [
        (
            "redis",
            "from stockstore import RedisStore",
            'ConfigurationError: Redis needs its driver, which is missing: pip install "redis[hiredis]>=5"',
        ),
        (
            "pymemcache",
            "from stockstore import MemcacheStore",
            'ConfigurationError: memcached needs its driver, which is missing: pip install "pymemcache>=4"',
        ),
        (
            "psycopg",
            "from stockstore import SqlAlchemyStore; SqlAlchemyStore('postgresql+psycopg://localhost/shop')",
            'ConfigurationError: the database driver is missing: psycopg; pip install it, for PostgreSQL e.g. pip install "stockstore[postgresql]"',
        ),
        (
            "dogpile",
            "import stockstore_ext.dogpile",
            'ConfigurationError: stockstore_ext.dogpile needs dogpile.cache, which is missing: pip install "stockstore[dogpile]"',
        ),
        (
            "flask",
            "import stockstore_ext.flask",
            'ConfigurationError: stockstore_ext.flask needs Flask, which is missing: pip install "stockstore[flask]"',
        ),
        (
            "redis",
            "from stockstore import open_store; open_store('redis://localhost')",
            'ConfigurationError: Redis needs its driver, which is missing: pip install "redis[hiredis]>=5"',
        ),
        (
            "pymemcache",
            "from stockstore import open_store; open_store('memcached://localhost')",
            'ConfigurationError: memcached needs its driver, which is missing: pip install "pymemcache>=4"',
        ),
        (
            "psycopg",
            "from stockstore import open_store; open_store('postgresql+psycopg://localhost/shop')",
            'ConfigurationError: the database driver is missing: psycopg; pip install it, for PostgreSQL e.g. pip install "stockstore[postgresql]"',
        ),
    ],
)
def test_a_missing_driver_is_named_with_the_line_that_installs_it(driver: str, script: str, message: str) -> None:
    """A store whose driver is missing says what to type, by name and by URL."""
    assert run_without(driver, script) == message
