"""The numbers of the shop's rows, and where each one's version stands in the clients' shared array."""

from typing import Final

ITEMS: Final = 20
"""How many each user sells."""


def email_of(user: int) -> str:
    return f"user{user}@example.org"


def seller_of(item: int) -> int:
    return (item - 1) // ITEMS + 1


def first_item(user: int) -> int:
    return (user - 1) * ITEMS + 1


def user_place(user: int) -> int:
    """Give a user's place; his items' places follow it."""
    return user * (ITEMS + 1)


def item_place(item: int) -> int:
    return user_place(seller_of(item)) + (item - 1) % ITEMS + 1


def places(users: int) -> int:
    return (users + 1) * (ITEMS + 1)
