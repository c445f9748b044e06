"""Plain objects found by their base classes."""

import pytest

from stockstore import ProcessMemoryStore
from tests.stores.memory.readings import every_reading
from tests.stores.things import Animal, Cat, Dog, Puppy

pytestmark = pytest.mark.sa_agnostic


def test_polymorphic_finds_by_every_base_and_key() -> None:
    """An object is found by its class and by each keyed base, by all of their keys."""
    store = ProcessMemoryStore(polymorphic=True)
    rex = Puppy(id=1, name="Rex", chip="c1")
    store.put(rex)
    for cls, key in [(kind, key) for kind in (Puppy, Dog, Animal) for key in ({"id": 1}, {"name": "Rex"}, {"chip": "c1"})]:
        if cls is not Animal or "chip" not in key:
            assert set(every_reading(store, cls, key)) == {rex}, (cls, key)
    assert set(every_reading(store, Animal, 1)) == {rex}
    assert set(every_reading(store, Cat, 1)) == {None}


def test_without_polymorphic_a_base_finds_nothing() -> None:
    """By default an object is found by its own class alone."""
    store = ProcessMemoryStore()
    store.put(Puppy(id=1, name="Rex", chip="c1"))
    assert [store.get(cls, id=1) is None for cls in (Puppy, Dog, Animal)] == [False, True, True]


def test_siblings_with_one_base_key_do_not_hide_each_other() -> None:
    """Each is found by its own class, whichever was put last, and after the other was deleted."""
    store = ProcessMemoryStore(polymorphic=True)
    dog, cat = Dog(id=1, name="Alex", chip="c1"), Cat(id=1, name="Alex")
    for first, second in ((dog, cat), (cat, dog)):
        store.batch_put([first, second])
        assert store.get(Dog, id=1) is dog
        assert store.get(Cat, id=1) is cat
        assert store.get(Dog, name="Alex") is dog
        assert store.get(Cat, name="Alex") is cat
        assert store.get(Animal, 1) is second
        assert store.delete(second)
        assert store.get(type(first), id=1) is first
        assert store.get(type(second), id=1) is None
        store.clear()


def test_delete_by_a_base_deletes_the_subclass_object() -> None:
    """What a base's key finds, a delete by it deletes."""
    store = ProcessMemoryStore(polymorphic=True)
    store.put(Dog(id=1, name="Rex", chip="c1"))
    assert store.delete(Animal, name="Rex")
    assert [store.get(cls, id=1) for cls in (Dog, Animal)] == [None, None]


def test_clearing_a_base_clears_its_subclasses() -> None:
    """With ``polymorphic=True`` a class is cleared with all below it, and without what stands beside it."""
    store = ProcessMemoryStore(polymorphic=True)
    store.batch_put([Puppy(id=1, name="Rex", chip="c1"), Cat(id=2, name="Tom"), Animal(id=3, name="It")])
    store.clear(Dog)
    assert [found is not None for found in store.batch_get(Animal, [1, 2, 3])] == [False, True, True]
    store.clear(Animal)
    assert store.batch_get(Animal, [1, 2, 3]) == [None] * 3
