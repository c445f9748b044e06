"""Copies and tenants: what one does not see of another."""

import re
import threading
from contextvars import ContextVar
from typing import Any

import pytest

from stockstore import CodecError, ConfigurationError, ProcessMemoryStore
from tests.stores.memory.readings import every_reading
from tests.stores.things import User, user

pytestmark = pytest.mark.sa_agnostic


def test_copies_isolate_both_ways() -> None:
    """With ``copy=True`` neither what the writer nor what a reader changes later is seen by others."""
    store = ProcessMemoryStore(copy=True)
    ann = user(1, tags=["a"])
    store.put(ann)
    ann.tags.append("writer")
    found = store.get(User, 1)
    assert found is not None
    assert found is not ann
    assert found.tags == ["a"]
    found.tags.append("reader")
    found.email = "changed"
    again = store.batch_get(User, [1, {"email": "1@b.c"}])
    assert [obj and obj.tags for obj in again] == [["a"], ["a"]]
    assert again[0] is not again[1]


def test_what_cannot_be_copied_is_refused_before_anything_is_stored() -> None:
    """A batch with an object that cannot be copied is CodecError naming its class, and none of it is stored."""
    store = ProcessMemoryStore(copy=True)
    with pytest.raises(CodecError, match=r"a tests\.stores\.things\.User cannot be copied, as copy=True asks: cannot pickle"):
        store.batch_put([user(1), user(2, lock=threading.Lock())])
    assert store.batch_get(User, [1, 2]) == [None, None]


# -- tenants ----------------------------------------------------------------------------------------------


def test_tenants_are_apart() -> None:
    """A callable namespace is asked at each call: what one tenant puts, no other reads, deletes or clears."""
    tenant = ContextVar("tenant", default="a")
    store = ProcessMemoryStore(namespace=tenant.get)
    people = {}
    for name in ("a", "b", "a:b"):
        tenant.set(name)
        people[name] = user(1, email=f"{name}@b.c")
        store.put(people[name])
    for name, ann in people.items():
        tenant.set(name)
        assert set(every_reading(store, User, 1)) == {ann}
        assert set(every_reading(store, User, {"email": f"{name}@b.c"})) == {ann}
        assert store.partition == name
    tenant.set("b")
    assert store.delete(User, 1)
    tenant.set("a")
    assert store.get(User, 1) is people["a"]
    store.clear()
    assert store.get(User, 1) is None
    tenant.set("a:b")
    assert store.get(User, 1) is people["a:b"]


@pytest.mark.parametrize("namespace", ["", None, 7, b"shop"])
def test_a_namespace_that_is_no_text_is_refused(namespace: Any) -> None:
    """A namespace that is empty or no text is ConfigurationError, at once or when the callable gives it."""
    message = re.escape(f"a namespace is a text that is not empty, or a callable that gives one, not {namespace!r}")
    with pytest.raises(ConfigurationError, match=message):
        ProcessMemoryStore(namespace=namespace)
    with pytest.raises(ConfigurationError, match=message):
        ProcessMemoryStore(namespace=lambda: namespace).get(User, 1)


def test_a_namespace_that_takes_arguments_is_refused() -> None:
    """A callable that could not be called is ConfigurationError when the store is made, not a bare TypeError at its first use."""

    def of_request(request: object) -> str:
        return str(request)

    with pytest.raises(
        ConfigurationError, match=r"^a namespace's callable is called with nothing, and <function .*of_request at .* takes arguments$"
    ):
        ProcessMemoryStore(namespace=of_request)  # type: ignore[arg-type]
