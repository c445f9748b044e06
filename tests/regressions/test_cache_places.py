"""Records that stand where their objects no longer say, and payloads that stand where they do not belong."""

from dataclasses import dataclass

import pytest

from stockstore import MappingStore, ProcessMemoryStore

pytestmark = pytest.mark.sa_agnostic


@dataclass(eq=False)
class Employee:
    __keys__ = ["id", "email"]
    id: int
    email: str


@pytest.mark.parametrize("by_object", [True, False])
def test_a_delete_finds_a_shared_object_whose_canonical_key_was_changed(by_object: bool) -> None:
    """After the delete of an object whose id was changed in place, no key of it is readable."""
    store = ProcessMemoryStore()
    employee = Employee(1, "a@b.c")
    store.put(employee)
    employee.id = 2
    if by_object:
        store.delete(employee)
    else:
        store.delete(Employee, email="a@b.c")
    assert [store.get(Employee, key) for key in ({"id": 1}, {"id": 2}, {"email": "a@b.c"})] == [None, None, None]


def test_a_delete_by_an_alias_that_the_object_no_longer_carries_leaves_it() -> None:
    """A stale alias is no reason to drop the record it points to."""
    store = ProcessMemoryStore()
    employee = Employee(1, "a@b.c")
    store.put(employee)
    employee.email = "new@b.c"
    assert not store.delete(Employee, email="a@b.c")
    assert store.get(Employee, 1) is employee


def test_payloads_that_were_swapped_on_the_server_are_misses() -> None:
    """A record is checked against the key that was asked for, in batches and alone."""
    cells: dict[str, bytes] = {}
    store = MappingStore(cells)
    store.batch_put([Employee(1, "a"), Employee(2, "b")])
    one, two = [text for text in cells if ":id:" in text]
    cells[one], cells[two] = cells[two], cells[one]
    assert store.batch_get(Employee, [1, 2]) == [None, None]
    assert store.batch_get(Employee, [{"id": 1}, {"email": "a"}]) == [None, None]
    assert store.get(Employee, 1) is None
