"""Objects' attributes and numbers' texts, by what is compiled and by Python alike."""

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockstore.native import _compiled, plain_batches

pytestmark = pytest.mark.sa_agnostic

BOTH = pytest.mark.parametrize("native", [_compiled, plain_batches], ids=["compiled", "plain"])
TYPES = (int, str, type(None))


class Open:
    """Has a dictionary."""

    def __init__(self, **attributes: Any) -> None:
        """Set any attributes."""
        self.__dict__.update(attributes)


class Half:
    """Has a slot beside its dictionary, and hides both from those who look them up in the usual way."""

    __slots__ = ("__dict__", "slot")

    def __init__(self, slot: Any, **attributes: Any) -> None:
        """Set the slot and any attributes."""
        object.__setattr__(self, "slot", slot)
        object.__getattribute__(self, "__dict__").update(attributes)

    def __getattribute__(self, name: str) -> Any:
        """Give something else."""
        return f"hidden {name}"


@dataclass(slots=True)
class Closed:
    """Has slots alone."""

    one: Any
    two: Any


@BOTH
def test_rows(native: ModuleType) -> None:
    """The values of the fixed names first, then the dictionary's."""
    objects = [Open(a=number, b=str(number)) for number in range(3)]
    assert native.rows_of((), ("a", "b"), TYPES, objects) == [(0, "0"), (1, "1"), (2, "2")]
    assert native.rows_of((), ("a", "b"), TYPES, tuple(objects)) == [(0, "0"), (1, "1"), (2, "2")]
    assert native.rows_of(("slot",), ("a",), TYPES, [Half(1, a=2), Half(None, a="x")]) == [(1, 2), (None, "x")]
    assert native.rows_of(("two", "one"), None, TYPES, [Closed(1, 2)]) == [(2, 1)]
    assert native.rows_of((), (), TYPES, [Open(), Open()]) == [(), ()]


@BOTH
@pytest.mark.parametrize(
    "odd",
    [Open(a=1), Open(a=1, b=2, c=3), Open(b=2, a=1), Open(a=1, c=2), Open(a=1, b=True), Open(a=1, b=b""), Open(**{"a": 1, "": 2})],
    ids=lambda odd: repr(vars(odd)),
)
def test_no_rows_where_one_object_is_odd(native: ModuleType, odd: Open) -> None:
    """It has fewer attributes, more, another order, other names or a value of another type."""
    fine = Open(a=1, b=2)
    assert native.rows_of((), ("a", "b"), TYPES, [fine, odd]) is None
    assert native.rows_of((), ("a", "b"), TYPES, [odd, fine]) is None
    assert native.rows_of(("slot",), ("a",), TYPES, [Half(1.5, a=1)]) is None


@BOTH
def test_names_that_are_equal_and_not_the_same(native: ModuleType) -> None:
    """As they are where somebody filled the dictionary from elsewhere; a key that is no text is none."""
    name = "".join(reversed("gnol"))
    assert name is not sys.intern("long")
    assert native.rows_of((), (sys.intern("long"),), TYPES, [Open(**{name: 1})]) == [(1,)]
    odd = Open()
    odd.__dict__[7] = 1  # type: ignore[index]
    assert native.rows_of((), ("long",), TYPES, [odd]) is None


@BOTH
@pytest.mark.parametrize(("fixed", "odd"), [((), Open()), (("slot",), Half(1))], ids=["open", "half"])
def test_a_dictionary_that_gives_other_values_than_it_holds(native: ModuleType, fixed: tuple[str, ...], odd: Any) -> None:
    """Goes another way, on which it is asked for them."""

    class Giving(dict[str, int]):
        def values(self) -> Any:
            return [7]

    object.__setattr__(odd, "__dict__", Giving(a=1))
    assert native.rows_of(fixed, ("a",), TYPES, [odd]) is None


@BOTH
@pytest.mark.parametrize("fixed", [(), ("slot",)])
def test_an_object_that_another_thread_changes(native: ModuleType, fixed: tuple[str, ...]) -> None:
    """No value of one attribute is given as another's, whatever is deleted and set again between two looks at the object."""
    odd = Half(0, a=1, b=2) if fixed else Open(a=1, b=2)
    state, done = object.__getattribute__(odd, "__dict__"), threading.Event()

    def change() -> None:
        while not done.is_set():
            state.pop("a")
            state["c"] = 3
            state.clear()
            state.update(a=1, b=2)

    with ThreadPoolExecutor(1) as pool, _switching_often():
        changing = pool.submit(change)
        found = [_rows_unless_changed(native, fixed, odd) for _ in range(20_000)]
        done.set()
        changing.result()
    assert [rows for rows in found if rows not in (None, [(*[0] * len(fixed), 1, 2)])] == []


@BOTH
def test_a_slot_that_is_not_set(native: ModuleType) -> None:
    """The attribute is named."""
    empty = Closed.__new__(Closed)
    with pytest.raises(AttributeError, match="two"):
        native.rows_of(("two",), None, TYPES, [Closed(1, 2), empty])


def test_objects_that_change_the_batch() -> None:
    """A list that grows shorter while attributes are looked up does no harm; the object lives as long as these are."""
    objects: list[Any] = []

    class Emptying:
        def __init__(self) -> None:
            self.number = 1

        @property
        def one(self) -> int:
            objects.clear()
            gc.collect()
            return 1

        @property
        def two(self) -> int:
            return self.number

    objects[:] = [Emptying() for _ in range(10)]
    assert _compiled.rows_of(("one", "two"), None, TYPES, objects) == [(1, 1)]


def test_nobody_sees_a_row_before_it_has_all_its_values() -> None:
    """Not even who asks the collector for all its objects while attributes are looked up."""
    seen: list[int] = []

    class Looking:
        @property
        def one(self) -> int:
            return 123_456

        @property
        def two(self) -> int:
            seen.append(sum(type(found) is tuple and gc.get_referents(found) == [123_456] for found in gc.get_objects()))
            return 1

    assert _compiled.rows_of(("one", "two"), None, TYPES, [Looking()]) == [(123_456, 1)]
    assert seen == [0]


@pytest.mark.parametrize("dynamic", [1, ["a"]])
def test_names_that_are_no_tuple(dynamic: Any) -> None:
    """What is compiled would crash on them."""
    with pytest.raises(TypeError, match="a tuple or None"):
        _compiled.rows_of((), dynamic, TYPES, [Open(a=1)])


@BOTH
def test_names_that_are_no_text(native: ModuleType) -> None:
    """No object has them."""
    assert native.rows_of((), (7,), TYPES, [Open(a=1)]) is None


@BOTH
@given(st.lists(st.integers(), min_size=1))
def test_texts_of_any_numbers(native: ModuleType, numbers: list[int]) -> None:
    """Each after the prefix, in decimal; none where one is too large."""
    below = 10**18
    expected = [f"shop:i{number}" for number in numbers] if all(-below < number < below for number in numbers) else None
    assert native.numbered_texts("shop:i", numbers, below) == expected


@BOTH
def test_texts_of_numbers_at_their_bounds(native: ModuleType) -> None:
    """Those of the amount of the bound have none."""
    bound = 10**18
    assert native.numbered_texts("", [1 - bound, bound - 1, 0], bound) == [str(1 - bound), str(bound - 1), "0"]
    assert [native.numbered_texts("", [1, number], bound) for number in (bound, -bound, 2**63, -(2**63), 2**64, 10**30)] == [None] * 6


@BOTH
@pytest.mark.parametrize("below", [0, -1, -(2**63)])
def test_no_texts_of_numbers_below_nothing(native: ModuleType, below: int) -> None:
    """No amount is."""
    assert native.numbered_texts("a", [-1, 0, 1], below) is None


@pytest.mark.parametrize("allocations", range(-10, 10))
def test_numbers_that_the_collector_changes(allocations: int) -> None:
    """It may run when the list of the texts is made."""
    numbers = list(range(1000))
    kept: list[list[int]] = [[] for _ in range(200)]  # where no list is left over for reuse
    with _collecting_after(allocations, numbers.clear):
        texts = _compiled.numbered_texts("a", numbers, 2000)
    assert texts in (None, [f"a{number}" for number in range(1000)])
    assert len(kept) == 200


@BOTH
@pytest.mark.parametrize("values", [[], ["1"], [1, True], [1, 1.0], [None]])
def test_no_texts_of_what_are_no_numbers(native: ModuleType, values: list[Any]) -> None:
    """Nor where there is none, or of what is merely equal to one."""
    assert native.numbered_texts("a", values, 100) is None


def test_a_prefix_that_is_not_of_ascii() -> None:
    """Is left to the longer way."""
    assert _compiled.numbered_texts("é", [1], 100) is None
    assert plain_batches.numbered_texts("a", (1, 2), 100) == _compiled.numbered_texts("a", (1, 2), 100) == ["a1", "a2"]


def _rows_unless_changed(native: ModuleType, fixed: tuple[str, ...], obj: Any) -> Any:
    with suppress(RuntimeError):
        return native.rows_of(fixed, ("a", "b"), TYPES, [obj])


@contextmanager
def _switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@contextmanager
def _collecting_after(allocations: int, called: Callable[[], None]) -> Iterator[None]:
    def call(*_: Any) -> None:
        called()

    threshold = gc.get_threshold()
    gc.callbacks.append(call)
    gc.set_threshold(gc.get_count()[0] + allocations)
    yield
    gc.callbacks.remove(call)
    gc.set_threshold(*threshold)


def _rows_and_texts(held: list[Any]) -> list[Callable[[], Any]]:
    fine, odd, wrong, prefix, name, types = held
    return [
        lambda: _compiled.rows_of((), (name,), types, [fine]),
        lambda: _compiled.rows_of((), (name,), types, [fine, odd]),
        lambda: _compiled.rows_of((), (name,), types, [fine, wrong]),
        lambda: _compiled.rows_of((name,), None, types, [odd]),
        lambda: _compiled.numbered_texts(prefix, [1000, 2000], 3000),
        lambda: _compiled.numbered_texts(prefix, [1000, 5000], 3000),
    ]


@pytest.mark.usefixtures("uncollected")
def test_no_call_keeps_a_reference() -> None:
    """Whether it gives something or not."""
    held = [Open(long=1), Open(other=1), Open(long=1000.5), "prefix", "long", TYPES]
    kept = [*held, None, 1, int, held[0].__dict__, vars(held[2])["long"], "__dict__"]
    for call in _rows_and_texts(held):
        objects, before = len(gc.get_objects()), [sys.getrefcount(one) for one in kept]
        for _ in range(200):
            with suppress(AttributeError):
                call()
        assert len(gc.get_objects()) - objects < 100
        grown = [sys.getrefcount(one) - count for one, count in zip(kept, before, strict=True)]
        assert max(map(abs, grown)) < 100, grown
