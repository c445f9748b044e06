"""What every cache store must do that takes ``lifetime``, ``polymorphic`` and ``namespace``, as tests.

The test file of a store is a subclass and a fixture::

    class TestMine(CacheStoreContract):
        @pytest.fixture
        def make_store(self):
            return lambda **options: MyStore(..., **options)

The stores that one test makes share their storage unless ``shares_storage`` is false.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone

import pytest

from stockstore.errors import ConfigurationError
from stockstore.stores.base import Store
from stockstore.testing.samples import PlainGuest, PlainMember, PlainUser
from stockstore.testing.store_basics import Model, User, ann, fields
from stockstore.testing.store_contract import StoreContract

MakeStore = Callable[..., Store]
DAYS = 24 * 3600


class CacheStoreContract(StoreContract):
    """The tests of ``StoreContract``, and those of the options. A subclass gives the fixture ``make_store``."""

    shares_storage = True
    """Whether two stores that a test makes see each other's objects."""

    @pytest.fixture
    def store(self, make_store: MakeStore) -> Iterator[Store]:
        """The store without options."""
        with make_store() as store:
            yield store

    @pytest.fixture
    def made(self, make_store: MakeStore) -> Iterator[MakeStore]:
        """A function of options that makes a store and closes it after the test."""
        with ExitStack() as stack:
            yield lambda **options: stack.enter_context(make_store(**options))

    # -- lifetimes ------------------------------------------------------------------------------

    def test_a_lifetime_keeps_an_object(self, made: MakeStore, model: Model) -> None:
        """Every form and length of lifetime keeps an object for now, under every key."""
        moment = datetime.now(timezone.utc) + timedelta(hours=1)
        years = timedelta(days=3650)
        for lifetime in (None, 60, 60.5, timedelta(minutes=1), moment, 29 * DAYS, 31 * DAYS, years, math.inf, 10**400):
            store = made(lifetime=lifetime)
            store.put(ann(model))
            assert [fields(user) for user in store.batch_get(model, [1, {"email": "a@b.c"}])] == [fields(ann(model))] * 2
            store.delete(model, 1)

    def test_a_lifetime_of_nothing_stores_nothing(self, made: MakeStore, model: Model) -> None:
        """Zero, less, and a moment that is past mean: not stored."""
        past = datetime(2020, 1, 1, tzinfo=timezone.utc)
        for lifetime in (0, -1, 0.0, timedelta(0), timedelta(seconds=-1), past, -math.inf, -(10**400)):
            store = made(lifetime=lifetime)
            store.put(ann(model))
            assert store.batch_get(model, [1, {"email": "a@b.c"}]) == [None, None]

    def test_a_lifetime_of_nothing_removes_what_was_there(self, made: MakeStore, model: Model) -> None:
        """A put whose lifetime is zero leaves no older value by any key."""
        store = made(lifetime=lambda user: user.visits)
        store.put(model(id=1, email="a@b.c", visits=60))
        assert store.contains(model, 1)
        store.put(model(id=1, email="a@b.c", visits=0))
        assert store.batch_get(model, [1, {"email": "a@b.c"}]) == [None, None]

    def test_a_callable_is_asked_about_each_object(self, made: MakeStore, model: Model) -> None:
        """A callable decides by the object, within one batch too."""
        asked: list[object] = []

        def lifetime(user: User) -> float:
            asked.append(user.id)
            return 60.0 if user.visits else -1.0

        store = made(lifetime=lifetime)
        store.batch_put([model(id=1, visits=1), model(id=2, visits=0)])
        assert [user is None for user in store.batch_get(model, [1, 2])] == [False, True]
        assert set(asked) == {1, 2}

    def test_a_bad_lifetime_is_refused_at_put(self, made: MakeStore, model: Model) -> None:
        """A lifetime that is none is refused when something is put, directly or from a callable, and nothing is stored."""
        cases: list[tuple[object, type[Exception], str]] = [
            (True, TypeError, "a lifetime is None, seconds, a timedelta or an aware datetime, not bool True"),
            ("60", TypeError, "not str '60'"),
            (math.nan, ValueError, "a lifetime cannot be NaN"),
            (datetime(2099, 1, 1), ValueError, "has no time zone; give an aware datetime"),  # noqa: DTZ001 - the input
        ]
        for lifetime, error, message in cases:
            for given in (lifetime, lambda _, bad=lifetime: bad):
                store = made(lifetime=given)
                with pytest.raises(error, match=message):
                    store.put(ann(model))
                assert store.get(model, 1) is None

    def test_a_bad_jitter_is_refused(self, make_store: MakeStore) -> None:
        """Jitter is a fraction."""
        for jitter in (-0.1, 1, 1.5, True, "0.1", math.nan):
            with pytest.raises(ConfigurationError, match="jitter is a fraction from 0 to below 1, not"):
                make_store(jitter=jitter)

    # -- namespaces -----------------------------------------------------------------------------

    def test_namespaces_do_not_meet(self, made: MakeStore, model: Model) -> None:
        """What one tenant puts, reads, deletes and clears is nothing to another."""
        tenant = ["north"]
        store = made(namespace=lambda: tenant[0])
        store.put(model(id=1, email="n"))
        tenant[0] = "south"
        assert store.batch_get(model, [1, {"email": "n"}]) == [None, None]
        store.put(model(id=1, email="s"))
        store.clear()
        assert store.delete(model, 1) is False
        tenant[0] = "north"
        assert fields(store.get(model, email="n")) == (1, "n", None, None, 1)

    def test_a_bad_namespace_is_refused(self, made: MakeStore, model: Model) -> None:
        """A namespace is a text that is not empty; a callable's is checked at its use."""
        for namespace in ("", None, 7):
            with pytest.raises(ConfigurationError, match="a namespace is a text that is not empty"):
                made(namespace=namespace)
            with pytest.raises(ConfigurationError, match="a namespace is a text that is not empty"):
                made(namespace=lambda bad=namespace: bad).put(ann(model))

    def test_stores_of_one_namespace_share(self, made: MakeStore, model: Model) -> None:
        """Two stores on one storage see each other's objects, by every key."""
        one, two = made(), made()
        one.put(ann(model))
        expected = fields(ann(model)) if self.shares_storage else None
        assert [fields(user) for user in two.batch_get(model, [1, {"email": "a@b.c"}])] == [expected] * 2

    # -- polymorphism ---------------------------------------------------------------------------

    def test_polymorphic_finds_by_the_base(self, made: MakeStore) -> None:
        """A plain object is found by its keyed bases too, as the object that it is, and by no sibling."""
        store = made(polymorphic=True)
        store.put(PlainMember(id=1, email="m", tenant=1, username="m", level=3))
        for key in (1, {"email": "m"}, {"tenant": 1, "username": "m"}):
            found = store.get(PlainUser, key)
            assert isinstance(found, PlainMember)
            assert (found.id, found.email, found.level) == (1, "m", 3)
            assert store.get(PlainGuest, key) is None
            assert store.contains(PlainMember, key)

    def test_polymorphic_delete_by_the_base_leaves_nothing(self, made: MakeStore) -> None:
        """A delete by the base deletes the object itself."""
        store = made(polymorphic=True)
        store.put(PlainMember(id=1, email="m", level=3))
        assert store.delete(PlainUser, email="m") is True
        assert store.batch_get(PlainMember, [1, {"email": "m"}]) == [None, None]
        assert store.batch_get(PlainUser, [1, {"email": "m"}]) == [None, None]

    def test_polymorphic_siblings_hide_no_base(self, made: MakeStore) -> None:
        """Of two subclasses and a base object with one key value each is found by its own class."""
        store = made(polymorphic=True)
        store.put(PlainUser(id=1, email="base"))
        store.put(PlainMember(id=1, email="m"))
        store.put(PlainGuest(id=1, email="g"))
        assert fields(store.get(PlainMember, 1)) == (1, "m", None, None, 1)
        assert fields(store.get(PlainGuest, 1)) == (1, "g", None, None, 1)
        assert fields(store.get(PlainUser, 1)) == (1, "base", None, None, 1)

    def test_polymorphic_clear_of_the_base_clears_subclasses(self, made: MakeStore) -> None:
        """Clearing a class clears what is found by it."""
        store = made(polymorphic=True)
        store.put(PlainMember(id=1, email="m"))
        store.clear(PlainUser)
        assert store.get(PlainMember, 1) is None
        assert store.get(PlainUser, email="m") is None
