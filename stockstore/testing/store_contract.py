"""What every store must do, as tests.

The test file of a store is a subclass and a fixture::

    class TestMine(StoreContract):
        @pytest.fixture
        def store(self):
            with MyStore(...) as store:
                yield store

The store is empty at the start of each test. One with a database has the tables of ``samples.metadata``.
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import pytest

from stockstore.errors import UnknownKeyError
from stockstore.stores.base import Store
from stockstore.testing.samples import PlainUser, Seat
from stockstore.testing.store_basics import Model, SeatModel, User, ann, bob, fields
from stockstore.testing.store_kinds import KindsContract

MANY = 150


class StoreContract(KindsContract):
    """The tests. A subclass gives the fixture ``store``, and says by class attributes what it does otherwise."""

    by_reference = False
    """Whether ``get`` gives the very plain object that was put."""

    forgets = True
    """Whether ``clear`` drops plain objects that were put."""

    counts = True
    """Whether the store keeps its statistics."""

    # -- round trips ----------------------------------------------------------------------------

    def test_put_is_read_by_every_key(self, store: Store, model: Model) -> None:
        """An object is found by each of its keys, whatever the order of names."""
        store.batch_put([ann(model), bob(model)])
        for key in ({"id": 1}, {"tenant": 7, "username": "ann"}, *_keys_of_ann()):
            assert fields(store.get(model, key)) == (1, "a@b.c", 7, "ann", 3)
            assert store.contains(model, key)

    def test_keywords_are_a_key(self, store: Store, model: Model) -> None:
        """Keywords stand for the dict, in any order."""
        store.put(ann(model))
        assert fields(store.get(model, id=1)) == fields(ann(model))
        assert fields(store.get(model, email="a@b.c")) == fields(ann(model))
        assert fields(store.get(model, username="ann", tenant=7)) == fields(ann(model))
        assert store.contains(model, email="a@b.c")

    def test_a_tuple_is_the_canonical_key_in_its_declared_order(self, store: Store, seat: SeatModel) -> None:
        """A canonical key of two names is also given as the bare values."""
        store.put(seat(row="B", number=7))
        for key in (("B", 7), ["B", 7], {"number": 7, "row": "B"}):
            found = store.get(seat, key)
            assert found is not None
            assert (found.row, found.number) == ("B", 7)
        assert store.get(seat, ("B", 8)) is None

    def test_what_is_read_is_of_the_class(self, store: Store, model: Model) -> None:
        """A read gives an instance of exactly the class that was put."""
        store.put(ann(model))
        assert type(store.get(model, 1)) is model

    def test_a_later_put_replaces(self, store: Store, model: Model) -> None:
        """The last object put is the one read, also within a batch."""
        store.put(model(id=1, email="a@b.c", visits=1))
        store.batch_put([model(id=1, email="a@b.c", visits=2), model(id=1, email="a@b.c", visits=3)])
        assert fields(store.get(model, 1)) == (1, "a@b.c", None, None, 3)
        assert fields(store.get(model, email="a@b.c")) == (1, "a@b.c", None, None, 3)

    def test_the_later_of_two_new_objects_wins(self, store: Store, model: Model) -> None:
        """Of two objects of one key in a batch, put for the first time, the later one is read; one object may stand twice."""
        user = model(id=2, visits=5)
        store.batch_put([model(id=1, email="x", visits=2), user, model(id=1, email="y", visits=3), user])
        assert [fields(found) for found in store.batch_get(model, [1, 2])] == [(1, "y", None, None, 3), (2, None, None, None, 5)]
        assert store.get(model, email="x") is None

    def test_falsy_objects_are_found(self, store: Store, model: Model) -> None:
        """An object that is false is an object."""
        store.put(model(id=0, email="", tenant=0, username="", visits=0))
        for key in (0, {"email": ""}, {"tenant": 0, "username": ""}):
            assert fields(store.get(model, key)) == (0, "", 0, "", 0)
            assert store.contains(model, key)
        (found,) = store.batch_get(model, [0])
        assert fields(found) == (0, "", 0, "", 0)
        assert store.delete(model, 0) is True

    def test_numbers_that_compare_equal_are_one_key(self, store: Store, model: Model) -> None:
        """Any number equal to the key finds the object, singly, in a batch, and for a delete."""
        for one in (1, 1.0, True, Decimal(1), Decimal("1.00"), Fraction(1)):
            store.put(model(id=1, visits=5))
            assert fields(store.get(model, one)) == (1, None, None, None, 5)
            (found,) = store.batch_get(model, [{"id": one}])
            assert fields(found) == (1, None, None, None, 5)
            assert store.delete(model, one) is True
            assert store.get(model, 1) is None

    def test_any_text_is_a_key(self, store: Store, model: Model) -> None:
        """Text with spaces, colons, line ends, of any script and length finds its own object and no other."""
        texts = ["a b", "a:b", "a\nb", "a\r\nb", "ü€😀", "x" * 400, "x" * 401, "%20", "~", "*", "'; --", '"', "a", ""]
        store.batch_put([model(id=number, email=text) for number, text in enumerate(texts)])
        for number, text in enumerate(texts):
            assert fields(store.get(model, email=text)) == (number, text, None, None, 1)

    def test_objects_with_a_none_in_a_key_are_read_by_the_others(self, store: Store, model: Model) -> None:
        """Many objects may have None in a key that is not the canonical one."""
        store.batch_put([model(id=1, tenant=7), model(id=2, tenant=7)])
        assert [fields(user) for user in store.batch_get(model, [1, 2])] == [(1, None, 7, None, 1), (2, None, 7, None, 1)]

    def test_a_none_in_a_key_gives_no_wrong_object(self, store: Store, model: Model) -> None:
        """A read by a key with a None part gives an object that has it there, or nothing."""
        store.batch_put([model(id=1, tenant=7), model(id=2, email="b@b.c", tenant=8, username="bob")])
        assert fields(store.get(model, tenant=7, username=None)) in (None, (1, None, 7, None, 1))
        assert store.get(model, tenant=9, username=None) is None

    # -- batches --------------------------------------------------------------------------------

    def test_a_batch_keeps_positions_mixes_keys_and_repeats(self, store: Store, model: Model) -> None:
        """Each position gives its own key's object, whatever stands around it."""
        store.batch_put([ann(model), bob(model)])
        keys: list[object] = [{"email": "b@b.c"}, 404, 1, {"username": "bob", "tenant": 7}, {"id": 1}, 1, {"email": "none"}]
        found = store.batch_get(model, keys)
        assert [None if user is None else user.id for user in found] == [2, None, 1, 2, 1, 1, None]
        assert fields(found[0]) == fields(bob(model))

    def test_batches_may_be_generators(self, store: Store, model: Model) -> None:
        """Every batch verb takes any iterable."""
        store.batch_put(model(id=number) for number in range(3))
        assert [fields(user) for user in store.batch_get(model, iter([2, 0]))] == [(2, None, None, None, 1), (0, None, None, None, 1)]
        assert store.batch_delete(model, (number for number in (0, 2, 9))) == 2  # noqa: PLR2004 - two of them were there
        assert [user is None for user in store.batch_get(model, range(3))] == [True, False, True]

    def test_a_large_batch_is_one_like_any_other(self, store: Store, model: Model) -> None:
        """Hundreds of objects are put, read by each key and deleted at once."""
        store.batch_put([model(id=n, email=f"{n}@b.c", tenant=n % 7, username=f"u{n}", visits=n) for n in range(MANY)])
        for keys in (_ids(), [{"email": f"{n}@b.c"} for n in range(MANY)], [{"tenant": n % 7, "username": f"u{n}"} for n in range(MANY)]):
            found: Sequence[User | None] = store.batch_get(model, keys)
            assert [user.visits for user in found if user is not None] == list(range(MANY))
        assert store.batch_delete(model, _ids()) == MANY
        assert store.batch_get(model, _ids()) == [None] * MANY

    def test_a_batch_holds_several_classes(self, store: Store, model: Model, seat: SeatModel) -> None:
        """Objects of different classes are put and deleted in one batch, without a clash of equal key values."""
        user, place = model(id=1), seat(row="1", number=1)
        store.batch_put([user, place])
        assert store.contains(model, 1)
        assert store.contains(seat, ("1", 1))
        assert store.batch_delete([user, place]) == 2  # noqa: PLR2004 - both were there
        assert not store.contains(model, 1)
        assert not store.contains(seat, ("1", 1))

    # -- keys that change -----------------------------------------------------------------------

    def test_a_changed_key_misses_under_its_old_value(self, store: Store, model: Model) -> None:
        """After a put with another alternate key the old value misses and the new one finds."""
        store.put(model(id=1, email="old", tenant=1, username="old"))
        store.put(model(id=1, email="new", tenant=1, username="new"))
        assert store.get(model, email="old") is None
        assert store.get(model, tenant=1, username="old") is None
        assert store.batch_get(model, [{"email": "old"}]) == [None]
        assert fields(store.get(model, email="new")) == (1, "new", 1, "new", 1)
        assert fields(store.get(model, tenant=1, username="new")) == (1, "new", 1, "new", 1)

    def test_a_key_that_moves_finds_its_new_owner(self, store: Store, model: Model) -> None:
        """A key value that passes to another object gives that one, and nothing once it is deleted."""
        store.put(model(id=1, email="x"))
        store.put(model(id=1, email="y"))
        store.put(model(id=2, email="x"))
        assert fields(store.get(model, email="x")) == (2, "x", None, None, 1)
        assert fields(store.get(model, email="y")) == (1, "y", None, None, 1)
        store.delete(model, email="x")
        assert store.get(model, email="x") is None
        assert store.get(model, 2) is None
        assert fields(store.get(model, 1)) == (1, "y", None, None, 1)

    def test_keys_may_be_swapped(self, store: Store, model: Model) -> None:
        """Two objects that exchange a key value are each found by the new one."""
        store.batch_put([model(id=1, email="x"), model(id=2, email="y")])
        store.batch_put([model(id=1, email="y"), model(id=2, email="x")])
        found = store.batch_get(model, [{"email": "x"}, {"email": "y"}, 1, 2])
        assert [None if user is None else user.id for user in found] == [2, 1, 1, 2]

    # -- deletes --------------------------------------------------------------------------------

    def test_a_delete_by_any_key_leaves_nothing(self, store: Store, model: Model) -> None:
        """After a delete by one key no key finds the object, and others stay."""
        store.put(bob(model))
        for key in ({"id": 1}, *_keys_of_ann()):
            store.put(ann(model))
            assert store.delete(model, key) is True
            assert store.batch_get(model, _keys_of_ann()) == [None] * 3
            assert fields(store.get(model, 2)) == fields(bob(model))
            assert store.delete(model, key) is False

    def test_a_delete_of_an_object_leaves_nothing(self, store: Store, model: Model) -> None:
        """After a delete of an object, or of one with its canonical key, no key finds it."""
        for gone in (ann(model), model(id=1)):
            store.put(ann(model))
            assert store.delete(gone) is True
            assert store.batch_get(model, _keys_of_ann()) == [None] * 3
            assert store.delete(gone) is False

    def test_a_delete_after_a_changed_key_leaves_nothing(self, store: Store, model: Model) -> None:
        """Neither the old nor the new value of a key finds a deleted object."""
        store.put(model(id=1, email="old"))
        store.put(model(id=1, email="new"))
        store.delete(model(id=1, email="old"))
        assert store.batch_get(model, [{"email": "old"}, {"email": "new"}, 1]) == [None] * 3

    def test_a_batch_delete_counts_each_object_once(self, store: Store, model: Model) -> None:
        """A batch delete by mixed and repeated keys counts the objects that were there."""
        store.batch_put([ann(model), bob(model)])
        assert store.batch_delete(model, [1, {"email": "a@b.c"}, 1, {"email": "b@b.c"}, 404]) == 2  # noqa: PLR2004 - two objects
        assert store.batch_get(model, [1, 2]) == [None, None]

    def test_a_deleted_object_can_be_put_again(self, store: Store, model: Model) -> None:
        """A put after a delete is found by every key."""
        store.put(ann(model))
        store.delete(model, 1)
        store.put(ann(model))
        assert [fields(user) for user in store.batch_get(model, _keys_of_ann())] == [fields(ann(model))] * 3

    def test_clear_drops_a_class_or_everything(self, store: Store, model: Model, seat: SeatModel) -> None:
        """Clearing a class leaves the others; clearing all leaves nothing; an origin keeps its rows."""
        store.batch_put([ann(model), seat(row="A", number=1)])
        forgets = self.forgets if model is PlainUser else self.forgets_mapped
        store.clear(model)
        assert store.contains(model, 1) is not forgets
        assert store.contains(model, email="a@b.c") is not forgets
        assert store.contains(seat, ("A", 1))
        store.clear()
        assert store.contains(seat, ("A", 1)) is not (self.forgets if seat is Seat else self.forgets_mapped)

    # -- loaders --------------------------------------------------------------------------------

    def test_get_or_load_loads_once(self, store: Store, model: Model) -> None:
        """A loaded object is stored under all of its keys, so that the next read needs no loader; one that is there is not loaded."""
        calls: list[object] = []

        def load(key: object) -> User:
            calls.append(key)
            return ann(model)

        for key in _keys_of_ann():
            assert fields(store.get_or_load(model, key, load)) == fields(ann(model))
        assert calls == [1]
        store.put(bob(model))
        assert fields(store.get_or_load(model, 2, lambda: None)) == fields(bob(model))
        assert store.get_or_load(model, 404, lambda: None) is None

    def test_a_loader_that_gives_another_object_is_refused(self, store: Store, model: Model) -> None:
        """What a loader gives must carry the key that was asked for."""
        with pytest.raises(UnknownKeyError, match=r"the loader for .* 5 gave .*, which does not carry this key"):
            store.get_or_load(model, 5, lambda: ann(model))

    # -- counts and sharing ---------------------------------------------------------------------

    def test_stats_count_and_do_not_change(self, store: Store, model: Model) -> None:
        """Hits, misses, puts and deletes are counted, and a snapshot stays as it was."""
        before = store.stats()
        store.batch_put([ann(model), bob(model)])
        store.batch_get(model, [1, 2, 404])
        store.get(model, email="a@b.c")
        store.delete(model, 1)
        after = store.stats()
        assert store.stats() == after
        assert (before.hits, before.puts, before.deletes) == (0, 0, 0)
        if self.counts:
            assert (after.hits, after.misses, after.puts, after.deletes) == (3, 1, 2, 1)

    def test_readers_share_only_where_promised(self, store: Store, model: Model) -> None:
        """A store that keeps references gives the very object; any other gives each reader one of its own."""
        user = ann(model)
        store.put(user)
        one, two = store.get(model, 1), store.get(model, email="a@b.c")
        shared = self.by_reference and model is PlainUser
        assert (one is user) is shared
        assert (one is two) is shared

    def test_a_change_after_the_put_is_not_seen(self, store: Store, model: Model) -> None:
        """What is done to an object after its put, or to one that was read, reaches no other reader."""
        user = ann(model)
        store.put(user)
        if not (self.by_reference and model is PlainUser):
            user.visits = 99
            for _ in range(2):
                found = store.get(model, 1)
                assert found is not None
                assert found.visits == ann(model).visits
                found.visits = 98


def _keys_of_ann() -> list[object]:
    return [1, {"email": "a@b.c"}, {"username": "ann", "tenant": 7}]


def _ids() -> list[object]:
    return list(range(MANY))
