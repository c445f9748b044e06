"""Plain objects by reference: what every key gives, and what is gone after a change of keys, a delete or a clear."""

import gc
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from stockstore import MappingStore, ProcessMemoryStore, UnknownKeyError
from tests.stores.memory.readings import USER_KEYS, counts, every_reading
from tests.stores.things import Code, Falsy, Quarrelsome, Thing, User, user

pytestmark = pytest.mark.sa_agnostic


# -- plain objects by reference ----------------------------------------------------------------------


@pytest.mark.parametrize("key", USER_KEYS)
def test_every_key_gives_the_very_object(key: Callable[[int], Any]) -> None:
    """By each declared key, and each way to read, comes the object that was put."""
    store, ann = ProcessMemoryStore(), user(1)
    store.batch_put([user(2), ann])
    assert all(found is ann for found in every_reading(store, User, key(1)))
    assert all(found is ann for found in every_reading(store, User, key(1)))
    assert every_reading(store, User, key(404)) == [None] * len(every_reading(store, User, key(404)))


@pytest.mark.parametrize("value", [1, 1.0, True])
def test_numbers_that_compare_equal_are_one_key(value: Any) -> None:
    """It does not matter by which type of number an object was put or is asked for."""
    store = ProcessMemoryStore()
    store.put(Code(code=value))
    for asked in (1, 1.0, True):
        assert all(found is not None and found.code is value for found in every_reading(store, Code, asked))
    for other in ("1", b"1", None, 2):
        assert every_reading(store, Code, other) == [None] * 4


class Naming(ProcessMemoryStore):
    """A store whose ``get`` names the options in any case."""

    def get(self, cls: Any, key: Any = None, *, session: Any = None, strict: bool = False, **names: Any) -> Any:
        """Give what the store itself gives."""
        return super().get(cls, key, session=session, strict=strict, **names)


def test_a_subclass_may_give_options_that_it_was_not_given() -> None:
    """Its ``get`` is not called again in turn."""
    store, ann = Naming(), user(1)
    store.put(ann)
    for _ in range(2):
        assert store.get(User, 1) is ann
        assert store.get(User, 404) is None
    assert store.stats().hits == store.stats().misses == 2


class Seat:
    """A thing with keys that are called like options of ``get``."""

    __keys__ = ("id", "session", "key")

    def __init__(self, number: int) -> None:
        """Give all keys other values."""
        self.id, self.session, self.key = number, number + 1, number + 2


def test_a_keyword_called_like_an_option_is_the_option() -> None:
    """The class, the key and the session may be given by their names, before and after the fast way was learned; keys called so as a dict."""
    store, seat = ProcessMemoryStore(), Seat(1)
    store.put(seat)
    given: list[dict[str, Any]] = [{"key": 1}, {"key": {"session": 2}}, {"id": 1, "session": None}, {"id": 1, "strict": True}, {"id": 1}]
    for _ in range(2):
        assert all(store.get(Seat, **names) is seat for names in given)
        assert store.get(cls=Seat, key=1) is store.get(Seat, 1, session=None) is store.get(Seat, {"key": 3}) is seat
        assert store.get(Seat, key=3) is None
        with pytest.raises(UnknownKeyError, match="no key was given"):
            store.get(Seat, session=None)
    shown, wanted = inspect.signature(store.get), inspect.signature(MappingStore({}).get)
    assert [(one.name, one.kind) for one in shown.parameters.values()] == [(one.name, one.kind) for one in wanted.parameters.values()]


def test_none_is_a_canonical_key_like_another() -> None:
    """A plain object whose canonical key is None is found by it, while None in other keys finds nothing."""
    store, nobody = ProcessMemoryStore(), User(id=None, email=None, tenant=1, username=None)
    store.put(nobody)
    assert store.get(User, None) is nobody
    assert store.get(User, email=None) is None
    assert store.get(User, tenant=1, username=None) is None


def test_a_batch_keeps_positions_mixes_keys_and_repeats() -> None:
    """Answers stand where their keys stand, whatever the keys' forms, and from any iterable."""
    store, people = ProcessMemoryStore(), [user(number) for number in range(4)]
    store.batch_put(iter(people))
    keys = [3, {"id": 0}, {"email": "2@b.c"}, 404, 3, {"tenant": 1, "username": "u1"}, {"email": "x"}]
    expected = [people[3], people[0], people[2], None, people[3], people[1], None]
    for _ in range(2):
        assert store.batch_get(User, keys) == expected
        assert store.batch_get(User, (key for key in keys)) == expected
    assert store.batch_get(User, [0, 1, 2]) == people[:3]
    assert store.batch_get(User, []) == []


@pytest.mark.parametrize("cls", [Falsy, Quarrelsome])
def test_objects_that_lie_about_themselves_are_found(cls: type[Thing]) -> None:
    """Objects that are false, empty, equal to all or not to be compared are hits, and are deleted."""
    store = ProcessMemoryStore()
    things = [cls(id=number) for number in range(3)]
    store.batch_put(things)
    for _ in range(2):
        for number, thing in enumerate(things):
            assert all(found is thing for found in every_reading(store, cls, number))
        assert [found is not None for found in store.batch_get(cls, [0, 404, 2])] == [True, False, True]
        assert store.contains(cls, 1)
    assert store.delete(things[0])
    assert store.get(cls, 0) is None
    assert store.get_or_load(cls, 9, lambda: cls(id=9)) is store.get(cls, 9)


def test_putting_again_replaces() -> None:
    """A later object of the same key wins, also within one batch, and its predecessor is let go."""
    store, old, new = ProcessMemoryStore(), user(1), user(1, email="new@b.c")
    gone = weakref.ref(old)
    store.batch_put([old, new])
    del old
    gc.collect()
    assert gone() is None
    assert store.get(User, 1) is new
    assert store.get(User, email="1@b.c") is None
    assert store.get(User, email="new@b.c") is new


# -- keys that change --------------------------------------------------------------------------------


def test_a_key_changed_in_place_misses_by_the_old_value() -> None:
    """Objects are kept by reference: what no longer carries the value asked for is a miss, and by its new value once put."""
    store, ann = ProcessMemoryStore(), user(1)
    store.put(ann)
    every_reading(store, User, {"email": "1@b.c"})
    ann.email, ann.username = "new@b.c", "new"
    for key in ({"email": "1@b.c"}, {"tenant": 1, "username": "u1"}):
        assert set(every_reading(store, User, key)) == {None}
    assert store.get(User, 1) is ann
    store.put(ann)
    for key in ({"email": "1@b.c"}, {"tenant": 1, "username": "u1"}):
        assert set(every_reading(store, User, key)) == {None}
    for key in ({"email": "new@b.c"}, {"tenant": 1, "username": "new"}):
        assert set(every_reading(store, User, key)) == {ann}


def test_a_canonical_key_changed_in_place_misses_by_the_old_value() -> None:
    """The same holds for the key under which an object is kept."""
    store, ann = ProcessMemoryStore(), user(1)
    store.put(ann)
    every_reading(store, User, 1)
    ann.id = 7
    assert set(every_reading(store, User, 1)) == {None}
    store.put(ann)
    assert set(every_reading(store, User, 7)) == {ann}
    assert set(every_reading(store, User, 1)) == {None}


def test_an_alternate_key_taken_over_gives_the_new_owner() -> None:
    """When an object takes a value that another had, the value gives the new owner, also after the old one is deleted."""
    store, ann, bob = ProcessMemoryStore(), user(1), user(2)
    store.batch_put([ann, bob])
    ann.email, bob.email = "else@b.c", "1@b.c"
    store.batch_put([ann, bob])
    assert store.get(User, email="1@b.c") is bob
    store.delete(ann)
    assert store.get(User, email="1@b.c") is bob
    assert store.get(User, email="2@b.c") is None


# -- deleting and clearing ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", USER_KEYS)
def test_delete_by_any_key_leaves_nothing_readable(key: Callable[[int], Any]) -> None:
    """A delete by one key takes the object from all of them, says whether there was one, and leaves the others."""
    store = ProcessMemoryStore()
    store.batch_put([user(1), user(2)])
    assert store.delete(User, key(1)) is True
    assert [store.get(User, other(1)) for other in USER_KEYS] == [None] * 4
    assert store.delete(User, key(1)) is False
    assert [store.contains(User, other(2)) for other in USER_KEYS] == [True] * 4


def test_delete_counts_each_object_once() -> None:
    """A batch that names an object by several keys, or twice, deletes one."""
    store = ProcessMemoryStore()
    store.batch_put([user(1), user(2), user(3)])
    assert store.batch_delete(User, [1, {"id": 1}, {"email": "1@b.c"}, 404]) == 1
    assert store.batch_delete([user(2), user(2), user(3)]) == 2
    assert store.batch_delete([]) == 0
    assert counts(store) == {"puts": 3, "deletes": 3}


def test_clear_drops_a_class_or_all() -> None:
    """Clearing a class leaves the others; clearing all leaves nothing; both leave the store usable."""
    store, ann, code = ProcessMemoryStore(), user(1), Code(code="x")
    store.batch_put([ann, code])
    store.clear(User)
    assert (store.get(User, 1), store.get(User, email="1@b.c"), store.get(Code, "x")) == (None, None, code)
    store.clear()
    assert store.get(Code, "x") is None
    store.put(ann)
    assert store.get(User, email="1@b.c") is ann


def test_close_forgets_all_and_may_be_repeated() -> None:
    """A closed store holds nothing."""
    with ProcessMemoryStore() as store:
        ann = user(1)
        gone = weakref.ref(ann)
        store.put(ann)
    store.close()
    del ann
    gc.collect()
    assert gone() is None


# -- subclasses ------------------------------------------------------------------------------------------------


def test_a_subclass_s_own_batch_get_is_what_get_asks() -> None:
    """The one-item verbs stand on the batch verbs: an override of those is seen by every read, also of hits."""
    asked: list[Any] = []

    class Watched(ProcessMemoryStore):
        def batch_get(self, cls: type[Any], keys: Any, *, session: Any = None) -> list[Any]:
            """Note what is asked for."""
            keys = list(keys)
            asked.extend(keys)
            return super().batch_get(cls, keys, session=session)

    store, ann = Watched(), user(1)
    store.put(ann)
    assert [store.get(User, 1) for _ in range(3)] == [ann] * 3
    assert store.contains(User, 1)
    assert len(asked) == 4
