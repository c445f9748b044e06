"""What every store must do with plain and with mapped objects, and with subclasses of either."""

import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.orm import Session

from stockstore.errors import NotKeyedError, UnknownKeyError
from stockstore.stores.base import Store
from stockstore.testing.samples import Anything, MappedGuest, MappedMember, MappedUser, PlainGuest, PlainMember, PlainUser
from stockstore.testing.store_basics import Model, StoreBasics, ann, bob, fields


class KindsContract(StoreBasics):
    """The tests that depend on the sort of class."""

    forgets_mapped = True
    """Whether ``clear`` drops mapped objects that were put; a database's rows stay."""

    attaches = True
    """Whether ``session=`` gives persistent objects."""

    def test_plain_objects_are_held_or_refused(self, store: Store) -> None:
        """A store without room for plain objects says so at put, by the class."""
        if self.holds_plain_objects:
            store.put(PlainUser(id=1))
        else:
            with pytest.raises(NotKeyedError, match=r"samples\.PlainUser is not mapped"):
                store.put(PlainUser(id=1))

    def test_plain_keys_are_typed(self, store: Store) -> None:
        """Values of different kinds are different keys, None included."""
        if not self.holds_plain_objects:
            return
        store.batch_put([Anything(key, repr(key)) for key in (1, "1", b"1", None, "None", "")])
        found = store.batch_get(Anything, [1, "1", b"1", None, "None", ""])
        assert [None if item is None else item.label for item in found] == ["1", "'1'", "b'1'", "None", "'None'", "''"]

    def test_plain_classes_do_not_share_keys(self, store: Store) -> None:
        """Equal key values of different classes are different objects."""
        if not self.holds_plain_objects:
            return
        store.batch_put([Anything(1, "one"), PlainUser(id=1)])
        assert store.delete(Anything, 1) is True
        assert fields(store.get(PlainUser, 1)) == (1, None, None, None, 1)

    def test_a_plain_base_class_does_not_find_subclasses(self, store: Store) -> None:
        """Without ``polymorphic`` a plain object is found by its own class only, and hides no object of its base."""
        if not self.holds_plain_objects:
            return
        store.put(PlainUser(id=1, email="base"))
        store.put(PlainMember(id=1, email="sub", level=3))
        assert fields(store.get(PlainUser, 1)) == (1, "base", None, None, 1)
        assert fields(store.get(PlainMember, 1)) == (1, "sub", None, None, 1)
        assert store.get(PlainUser, email="sub") is None

    def test_a_subclass_is_not_given_for_its_sibling(self, store: Store, model: Model) -> None:
        """A class's objects are found by it, and by no sibling of it."""
        member: Model = PlainMember if model is PlainUser else MappedMember
        guest: Model = PlainGuest if model is PlainUser else MappedGuest
        store.put(member(id=1, email="m"))
        store.put(guest(id=2, email="g"))
        assert store.get(guest, 1) is None
        assert store.get(guest, email="m") is None
        assert store.batch_get(guest, [1, {"email": "m"}]) == [None, None]
        assert fields(store.get(member, email="m")) == (1, "m", None, None, 1)
        assert fields(store.get(guest, 2)) == (2, "g", None, None, 1)

    def test_a_mapped_base_class_finds_subclasses(self, store: Store) -> None:
        """A mapped object is found by every class of its hierarchy above it, as an instance of its own class."""
        if not self.holds_mapped_objects:
            return
        store.put(MappedMember(id=1, email="m", level=3))
        store.put(MappedGuest(id=2, email="g", room="x"))
        for key in (1, {"email": "m"}):
            found = store.get(MappedUser, key)
            assert isinstance(found, MappedMember)
            assert (found.id, found.email, found.level, found.kind) == (1, "m", 3, "member")
        assert [type(user) for user in store.batch_get(MappedUser, [2, 1])] == [MappedGuest, MappedMember]
        assert store.delete(MappedUser, 1) is True
        assert store.get(MappedMember, 1) is None

    def test_all_of_an_index_are_given(self, store: Store) -> None:
        """A store with a database, which alone knows all rows, gives those with some values, by their primary keys, at once and after each write."""
        if self.forgets_mapped:
            return
        store.batch_put([MappedGuest(id=3, tenant=7), MappedMember(id=1, tenant=7), MappedUser(id=2, tenant=8), MappedUser(id=4)])
        for _ in range(2):
            assert [type(user) for user in store.get_all(MappedUser, tenant=7)] == [MappedMember, MappedGuest]
            assert [user.id for user in store.get_all(MappedGuest, tenant=7)] == [3]
            assert [user.id for user in store.get_all(MappedUser, tenant=None)] == [4]
            assert [user.id for user in store.get_all(MappedUser, username=None, visits=1)] == [1, 2, 3, 4]
            assert store.get_all(MappedUser, tenant=404) == []
        moved = store.get(MappedUser, 2)
        assert moved is not None
        moved.tenant = 7
        store.put(moved)
        assert [user.id for user in store.get_all(MappedUser, tenant=7)] == [1, 2, 3]
        assert store.get_all(MappedUser, tenant=8) == []
        store.delete(MappedUser, 1)
        assert [user.id for user in store.get_all(MappedUser, {"tenant": 7})] == [2, 3]

    def test_an_unknown_index_is_refused(self, store: Store, model: Model) -> None:
        """What the class does not declare is named, whatever the store."""
        with pytest.raises(UnknownKeyError, match="has no index 'nothing'"):
            store.get_all(model, nothing=1)

    def test_mapped_objects_are_detached(self, store: Store) -> None:
        """A mapped object that was read belongs to no session, and its columns are there."""
        if not self.holds_mapped_objects:
            return
        store.put(ann(MappedUser))
        for found in (store.get(MappedUser, 1), *store.batch_get(MappedUser, [{"email": "a@b.c"}])):
            assert inspect(found, raiseerr=True).detached
            assert fields(found) == fields(ann(MappedUser))

    def test_a_session_gets_persistent_objects(self, store: Store) -> None:
        """With ``session=`` a mapped object is persistent there, and one that is there already wins."""
        if not (self.holds_mapped_objects and self.attaches):
            return
        store.batch_put([ann(MappedUser), bob(MappedUser)])
        with Session(create_engine("sqlite://")) as session:
            found = store.get(MappedUser, 1, session=session)
            assert found in session
            assert fields(found) == fields(ann(MappedUser))
            assert store.get(MappedUser, email="a@b.c", session=session) is found
            assert store.batch_get(MappedUser, [2, 1, 404], session=session)[1:] == [found, None]
