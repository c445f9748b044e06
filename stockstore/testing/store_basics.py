"""What every store must do, also one that keeps nothing: refuse bad input, take empty batches, close."""

import re
from typing import TypeAlias

import pytest

from stockstore.errors import ConfigurationError, NotKeyedError, StockstoreError, UnknownKeyError
from stockstore.keys import class_name
from stockstore.stores.base import Store
from stockstore.testing.samples import MappedSeat, MappedUser, PlainUser, Seat, Unkeyed

User: TypeAlias = PlainUser | MappedUser
Model: TypeAlias = type[PlainUser] | type[MappedUser]
SeatModel: TypeAlias = type[Seat] | type[MappedSeat]

COUNTS = ("hits", "misses", "puts", "deletes", "evictions", "expirations", "errors")


class StoreBasics:
    """The tests that also a store passes that forgets all it is given. A subclass gives the fixture ``store``."""

    holds_plain_objects = True
    """Whether plain objects can be put; a database refuses them."""

    holds_mapped_objects = True
    """Whether objects of classes that SQLAlchemy maps can be put."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test that takes ``model`` or ``seat`` for every sort of class that the store holds."""
        sorts = [self.holds_plain_objects, self.holds_mapped_objects]
        for name, classes in (("model", (PlainUser, MappedUser)), ("seat", (Seat, MappedSeat))):
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, [cls for cls, held in zip(classes, sorts, strict=True) if held])

    def test_a_key_never_put_is_a_miss(self, store: Store, model: Model) -> None:
        """Reads of what was never put give nothing, by every key and form."""
        assert store.get(model, 404) is None
        assert store.get(model, {"email": "a@b.c"}) is None
        assert store.get(model, tenant=1, username="ann") is None
        assert not store.contains(model, 404)
        assert store.batch_get(model, [404, {"email": "a@b.c"}, 404]) == [None, None, None]

    def test_deleting_what_is_not_there_says_so(self, store: Store, model: Model) -> None:
        """A delete of an unknown object or key is no error, and false."""
        assert store.delete(model, 404) is False
        assert store.delete(model, email="a@b.c") is False
        assert store.delete(model(id=404)) is False
        assert store.batch_delete(model, [404, {"tenant": 1, "username": "ann"}]) == 0

    def test_empty_batches_do_nothing(self, store: Store, model: Model) -> None:
        """Every batch verb takes an empty batch, a generator too."""
        store.batch_put([])
        store.batch_put(iter([]))
        assert store.batch_get(model, []) == []
        assert store.batch_get(model, iter([])) == []
        assert store.batch_delete([]) == 0
        assert store.batch_delete(model, []) == 0

    def test_an_undeclared_key_is_refused(self, store: Store, model: Model) -> None:
        """A name that is no key, or a part of one, is an error that names the key, the class and the declared keys."""
        for names in (("colour",), ("tenant",), ("id", "email"), ("email", "colour")):
            key = dict.fromkeys(names, 1)
            shown = repr(names[0] if len(names) == 1 else names)
            message = re.escape(f"{class_name(model)} has no key {shown}; it declares 'id', 'email', ('tenant', 'username')")
            for verb in (store.get, store.contains, store.delete):
                with pytest.raises(UnknownKeyError, match=message):
                    verb(model, key)
            for batch_verb in (store.batch_get, store.batch_delete):
                with pytest.raises(UnknownKeyError, match=message):
                    batch_verb(model, [1, key])

    def test_an_empty_key_is_refused(self, store: Store, model: Model) -> None:
        """An empty dict is no key."""
        with pytest.raises(UnknownKeyError, match="has no key"):
            store.get(model, {})

    def test_no_key_is_refused(self, store: Store, model: Model) -> None:
        """A read or a delete of a class without a key says what to give."""
        for verb in (store.get, store.contains, store.delete):
            with pytest.raises(UnknownKeyError, match="no key was given; give a dict, the canonical key's value, or names as keywords"):
                verb(model)

    def test_a_key_given_twice_is_refused(self, store: Store, model: Model) -> None:
        """A key both by position and by keywords is ambiguous."""
        for verb in (store.get, store.contains, store.delete):
            with pytest.raises(UnknownKeyError, match=r"the key was given twice, as 1 and as \{'email': 'a@b\.c'\}"):
                verb(model, 1, email="a@b.c")

    def test_an_object_and_a_key_are_refused(self, store: Store, model: Model) -> None:
        """A delete takes an object, or a class and a key, not both."""
        with pytest.raises(UnknownKeyError, match="delete takes an object, or a class and a key"):
            store.delete(model(id=1), 1)

    def test_a_bare_key_of_the_wrong_length_is_refused(self, store: Store, seat: SeatModel) -> None:
        """A canonical key of two names needs a tuple of two."""
        for key in ("A", ("A",), ("A", 1, 2), 7):
            with pytest.raises(UnknownKeyError, match=re.escape(f"('row', 'number'): it needs 2 values in this order, not {key!r}")):
                store.get(seat, key)

    def test_a_class_without_keys_is_refused(self, store: Store) -> None:
        """Every verb refuses a class that declares no keys."""
        message = re.escape(f'{class_name(Unkeyed)} declares no keys; give it __keys__ = ["id", ...]')
        for verb in (store.get, store.contains, store.delete):
            with pytest.raises(NotKeyedError, match=message):
                verb(Unkeyed, 1)
        with pytest.raises(NotKeyedError, match=message):
            store.put(Unkeyed())
        with pytest.raises(NotKeyedError, match=message):
            store.delete(Unkeyed())
        with pytest.raises(NotKeyedError, match=message):
            store.batch_get(Unkeyed, [1])

    def test_an_object_for_a_class_is_refused(self, store: Store) -> None:
        """A read of what is no class says what it was given."""
        with pytest.raises(NotKeyedError, match="the first argument is the class to look up, not 'User'"):
            store.get("User", 1)  # type: ignore[arg-type]

    def test_a_batch_that_is_none_is_refused(self, store: Store) -> None:
        """A batch to put is an iterable of objects."""
        for batch in (None, 7, "users", PlainUser):
            with pytest.raises(ConfigurationError, match="a batch is an iterable of objects, not"):
                store.batch_put(batch)  # type: ignore[arg-type]

    def test_a_key_value_that_cannot_be_one_is_refused(self, store: Store, model: Model) -> None:
        """A value without a canonical form is an error of the library's own."""
        with pytest.raises(StockstoreError, match=r"a key value cannot be of type builtins\.list"):
            store.get(model, {"email": []})

    def test_stats_have_every_count(self, store: Store) -> None:
        """The snapshot has each count as a whole number, and tiers."""
        stats = store.stats()
        assert {type(getattr(stats, name)) for name in COUNTS} == {int}
        assert isinstance(stats.tiers, tuple)

    def test_repr_names_the_class(self, store: Store) -> None:
        """A store's repr begins with its class."""
        assert repr(store).startswith(type(store).__name__ + "(")

    def test_clear_of_nothing_is_fine(self, store: Store, model: Model) -> None:
        """An empty store can be cleared."""
        store.clear()
        store.clear(model)

    def test_close_may_be_called_twice(self, store: Store) -> None:
        """Closing a closed store does nothing."""
        store.close()
        store.close()

    def test_a_store_is_a_context_manager(self, store: Store) -> None:
        """A store gives itself, and is closed at the end."""
        with store as entered:
            assert entered is store

    def test_a_scope_gives_the_store(self, store: Store) -> None:
        """Code that scopes its requests runs with any store."""
        with store.scope() as scoped:
            assert scoped is store


def fields(user: User | None) -> tuple[object, ...] | None:
    """Give the values of a user."""
    return None if user is None else (user.id, user.email, user.tenant, user.username, user.visits)


def ann(model: Model) -> User:
    """Give the user that most tests put."""
    return model(id=1, email="a@b.c", tenant=7, username="ann", visits=3)


def bob(model: Model) -> User:
    """Give another user."""
    return model(id=2, email="b@b.c", tenant=7, username="bob", visits=4)
