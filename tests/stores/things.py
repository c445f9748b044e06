"""Plain keyed classes that the tests of local stores use."""

from typing import Any


class Thing:
    """Has any attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class User(Thing):
    __keys__ = ["id", "email", ("tenant", "username")]
    id: Any
    email: Any
    tenant: Any
    username: Any
    tags: list[str]


class Code(Thing):
    __keys__ = ["code"]
    code: Any
    version: Any


class Seat(Thing):
    """Its canonical key has two names, and not in the order of the alphabet."""

    __keys__ = [("row", "place"), "number", ("hall", "number", "day")]
    row: Any
    place: Any
    number: Any


class Falsy(Thing):
    """Says no to everything, and equals everything."""

    __keys__ = ["id"]

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class Quarrelsome(Thing):
    """Refuses to be compared or counted."""

    __keys__ = ["id"]

    def __bool__(self) -> bool:
        raise AssertionError("asked for a truth value")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        raise AssertionError("hashed")


class Animal(Thing):
    __keys__ = ["id", "name"]


class Dog(Animal):
    __keys__ = ["chip"]


class Puppy(Dog):
    pass


class Cat(Animal):
    pass


def user(number: int, **changed: Any) -> User:
    """Make a user with a value for every key."""
    return User(**{"id": number, "email": f"{number}@b.c", "tenant": number % 3, "username": f"u{number}", **changed})


def seat(number: int, **changed: Any) -> Seat:
    """Make a seat with a value for every key."""
    return Seat(**{"row": number, "place": f"p{number}", "number": f"n{number}", "hall": 1, "day": "monday", **changed})
