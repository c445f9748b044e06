"""A store's objects as a dictionary: what it can, and what a store cannot."""

from collections.abc import Callable, MutableMapping

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import StaticPool

from stockstore import ChainedStore, ConfigurationError, NotKeyedError, ProcessMemoryStore, SqlAlchemyStore, StoreMapping, UnknownKeyError
from tests.stores.things import Cat, Dog, User, user


class Base(DeclarativeBase):
    pass


class Country(Base):
    __tablename__ = "countries"
    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def users() -> StoreMapping[User]:
    """Users in process memory, of whom one is there."""
    store = ProcessMemoryStore()
    store.put(user(1))
    return StoreMapping(store, User)


@pytest.mark.sa_agnostic
def test_it_reads_writes_and_deletes_by_any_key(users: StoreMapping[User]) -> None:
    """Keys are those of the store: bare, or a dict of names; an object that is put is there under all of them."""
    two = user(2)
    users[2] = two
    assert users[2] is users[{"email": "2@b.c"}] is users[{"username": "u2", "tenant": 2}] is two
    assert users.get(3) is None
    assert users.get(3, two) is two
    assert [key in users for key in (1, 2, 3, {"email": "1@b.c"})] == [True, True, False, True]
    del users[{"email": "2@b.c"}]
    assert 2 not in users


@pytest.mark.sa_agnostic
def test_the_other_verbs_of_a_dictionary(users: StoreMapping[User]) -> None:
    """``pop``, ``setdefault`` and ``update`` are those of any mutable mapping."""
    one, two, three = users[1], user(2), user(3)
    assert isinstance(users, MutableMapping)
    assert users.setdefault(1, two) is one
    assert users.setdefault(2, two) is two
    users.update({3: three})
    assert users.pop(3) is three
    assert users.pop(3, None) is None
    assert (users[2], 3 in users) == (two, False)


@pytest.mark.sa_agnostic
@pytest.mark.parametrize("key", [404, {"email": "404@b.c"}])
def test_what_is_absent_is_a_key_error_with_the_key(users: StoreMapping[User], key: object) -> None:
    """Reading and deleting what is not there tell the very key."""
    with pytest.raises(KeyError) as reading:
        users[key]
    with pytest.raises(KeyError) as deleting:
        del users[key]
    assert reading.value.args == deleting.value.args == (key,)


@pytest.mark.sa_agnostic
@pytest.mark.parametrize(("key", "value"), [(2, user(3)), ({"email": "2@b.c"}, user(3)), (2, Dog(id=2, name="Rex", chip="c")), (2, None)])
def test_an_object_that_does_not_carry_the_key_is_refused(users: StoreMapping[User], key: object, value: User) -> None:
    """It would never be found there: nothing is put."""
    with pytest.raises(UnknownKeyError, match=r"does not carry the key .* of tests\.stores\.things\.User; change the object"):
        users[key] = value
    assert 2 not in users
    assert 3 not in users


@pytest.mark.sa_agnostic
def test_an_undeclared_key_is_refused(users: StoreMapping[User]) -> None:
    """A key that the class does not declare is no absent one."""
    with pytest.raises(UnknownKeyError, match="User has no key 'phone'"):
        users.get({"phone": 1})


@pytest.mark.sa_agnostic
@pytest.mark.parametrize("use", [len, list, StoreMapping.popitem, StoreMapping.clear, lambda users: [*users.items()], dict])
def test_what_would_list_the_store_is_a_type_error(users: StoreMapping[User], use: Callable[[StoreMapping[User]], object]) -> None:
    """A store cannot list what it has, and says so."""
    with pytest.raises(TypeError, match=r"^StoreMapping\(ProcessMemoryStore\(maxsize=100000\), tests\.stores\.things\.User\) cannot be "):
        use(users)
    assert 1 in users


@pytest.mark.sa_agnostic
def test_it_is_true_and_equals_itself(users: StoreMapping[User]) -> None:
    """Truth, comparison and hash count nothing."""
    assert users
    assert users == users  # noqa: PLR0124 - asked for its own sake
    assert users != {1: users[1]}
    assert {users: 1}[users] == 1


@pytest.mark.sa_agnostic
def test_it_faces_blocking_stores_and_keyed_classes() -> None:
    """What is no store, and a class without keys, are refused at once."""
    with pytest.raises(ConfigurationError, match="a StoreMapping faces a blocking store"):
        StoreMapping({}, Cat)  # type: ignore[arg-type]
    with pytest.raises(NotKeyedError, match=r"builtins\.int declares no keys"):
        StoreMapping(ProcessMemoryStore(), int)


def test_it_reads_and_writes_rows_through_a_chain() -> None:
    """Mapped objects are put by a commit and read from the cache: an update that goes past it stays unseen."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with ChainedStore([ProcessMemoryStore(), SqlAlchemyStore(engine=engine)]) as chain:
        countries = StoreMapping(chain, Country)
        countries["de"] = Country(code="de", name="Germany")
        with engine.begin() as connection:
            assert connection.execute(text("SELECT name FROM countries")).scalar_one() == "Germany"
            connection.execute(text("UPDATE countries SET name = 'unseen'"))
        assert countries["de"].name == "Germany"
        del countries["de"]
        assert "de" not in countries
    engine.dispose()
