"""What a type checker sees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sa_agnostic

USE = """
from collections.abc import Mapping
from typing_extensions import assert_type
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from stockstore import AsyncStore, ChainedStore, MappingStore, NullStore, ProcessMemoryStore, Stats, Store, ThreadLocalStore, open_store

class Base(DeclarativeBase):
    pass

class User(Base):
    __tablename__ = "users"
    __keys__ = ["id", "email", ("tenant_id", "username")]
    id: Mapped[int] = mapped_column(primary_key=True)

class Plain:
    __keys__ = ["id"]

def load(key: object) -> Plain:
    return Plain()

def use(store: Store, session: Session) -> None:
    assert_type(store.get(User, 1), User | None)
    assert_type(store.get(User, {"email": "a@b.c"}), User | None)
    assert_type(store.get(User, email="a@b.c"), User | None)
    assert_type(store.get(User, 1, session=session), User | None)
    assert_type(store.get(Plain, ("a", 2)), Plain | None)
    assert_type(store.batch_get(User, [{"id": 1}, 2]), list[User | None])
    assert_type(store.batch_get(User, (key for key in (1, 2)), session=session), list[User | None])
    assert_type(store.get_or_load(Plain, 1, load), Plain | None)
    assert_type(store.get_or_load(Plain, 1, lambda: None), Plain | None)
    assert_type(store.contains(User, 1), bool)
    assert_type(store.delete(User, 1), bool)
    assert_type(store.delete(User()), bool)
    assert_type(store.batch_delete([User()]), int)
    assert_type(store.batch_delete(User, [1, {"email": "a"}]), int)
    assert_type(store.stats(), Stats)
    assert_type(store.stats().tiers, tuple[Stats, ...])
    store.put(User())
    store.batch_put([User(), Plain()])
    store.clear(User)
    store.clear()

with ProcessMemoryStore(maxsize=10, lifetime=lambda obj: 1.5, namespace=lambda: "tenant") as memory:
    assert_type(memory, ProcessMemoryStore)
    assert_type(memory.get(User, 1), User | None)
    assert_type(memory.batch_get(User, [1]), list[User | None])
with ThreadLocalStore() as local, local.scope() as scoped:
    assert_type(scoped, ThreadLocalStore)
chain = ChainedStore([memory, MappingStore({}), NullStore()])
assert_type(chain.get(User, 1), User | None)
assert_type(chain.batch_get(User, [1]), list[User | None])
assert_type(open_store("memory://"), ChainedStore)

async def load_async(key: object) -> Plain | None:
    return Plain()

async def use_awaited(store: AsyncStore, session: AsyncSession) -> None:
    assert_type(await store.get(User, 1), User | None)
    assert_type(await store.get(User, email="a@b.c", session=session), User | None)
    assert_type(await store.batch_get(User, [1, 2]), list[User | None])
    assert_type(await store.get_or_load(Plain, 1, load_async), Plain | None)
    assert_type(await store.get_or_load(Plain, 1, load), Plain | None)
    assert_type(await store.contains(User, 1), bool)
    assert_type(await store.delete(User, 1), bool)
    assert_type(await store.batch_delete(User, [1]), int)
    assert_type(store.stats(), Stats)
    async with AsyncStore(chain) as entered:
        assert_type(entered, AsyncStore)
    with store.scope() as scoped:
        assert_type(scoped, AsyncStore)
    (await store.get(User, 1)).id  # type: ignore[union-attr]

def misuse(store: Store) -> None:
    store.get(User, 1).id  # type: ignore[union-attr]
    user: User = store.get(User, 1)  # type: ignore[assignment]
    store.batch_get(User, [1])[0].id  # type: ignore[union-attr]
    store.batch_get(User, 1)  # type: ignore[arg-type]
    store.batch_put(User())  # type: ignore[arg-type]
    store.get("User", 1)  # type: ignore[arg-type]
    store.stats().hits = 1  # type: ignore[misc]
    ProcessMemoryStore(10)  # type: ignore[call-arg]
    ProcessMemoryStore(lifetime="60")  # type: ignore[arg-type]
"""


def test_a_checker_sees_the_class_that_was_asked_for(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Reads give the class or None, batches lists of it; misuse is an error, and so an "ignore" that is used."""
    file = tmp_path / "snippet.py"
    file.write_text(USE)
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir("mypy")
    options = ["--strict", "--config-file", os.devnull, "--cache-dir", str(cache), "--no-error-summary"]
    environment = {**os.environ, "MYPYPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, "-m", "mypy", *options, file], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, "")
