"""Classes and values whose key texts are compared literally, also in other processes."""

import datetime as dt
import enum
import uuid
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network

from stockstore.keys import key_text, keys_of


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1


class Word(str, enum.Enum):
    ONE = "1"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class User:
    __keys__ = ["id", ("tenant", "username")]


class Sprawling:
    __keys__ = [tuple(f"a_rather_long_attribute_name_{number:02}" for number in range(12))]


GERMAN = type("Größe", (), {"__keys__": ["größe"], "__module__": __name__})
VERY_LONG = type("Very" * 50 + "Long", (), {"__keys__": ["id"], "__module__": __name__})

VALUES = [
    (1, "i1"),
    (-(10**18) + 1, "i-999999999999999999"),
    (10**18, "xde0b6b3a7640000"),
    (-(10**18), "x-de0b6b3a7640000"),
    ("1", "s1"),
    ("", "s"),
    ("a b:c\n", "sa%20b%3Ac%0A"),
    ("Grüße/%", "sGr%C3%BC%C3%9Fe%2F%25"),
    ("\ud800", "s%ED%A0%80"),
    ("a@b.c+d-e_f~g", "sa@b.c+d-e_f~g"),
    (b"1", "b1"),
    (b"", "b"),
    (b"\x00\xff ~", "b%00%FF%20~"),
    (None, "n"),
    (0.5, "q1/2"),
    (-0.1, "q-ccccccccccccd/80000000000000"),
    (Decimal("0.1"), "q1/a"),
    (Fraction(-1, 3), "q-1/3"),
    (float("inf"), "f+"),
    (Decimal("-Infinity"), "f-"),
    (uuid.UUID(int=1), "u00000000000000000000000000000001"),
    (dt.date(2024, 2, 29), "d2024-02-29"),
    (dt.datetime(2024, 2, 29, 1, 2, 3, 4), "t2024-02-29T01%3A02%3A03.000004"),
    (dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=1))), "T2024-02-29T00%3A02%3A03"),
    (dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-1))), "Tp2932897.3599.999999"),
    (dt.time(1, 2, 3), "h01%3A02%3A03"),
    (dt.time(1, 2, tzinfo=dt.timezone.utc), "h01%3A02%3A00+00%3A00"),
    (dt.timedelta(days=-1, microseconds=1), "p-1.0.1"),
    (Color.RED, "etests.keys.samples/Color/RED"),
    (Level.LOW, "etests.keys.samples/Level/LOW"),
    (Word.ONE, "etests.keys.samples/Word/ONE"),
    (Right.READ, "etests.keys.samples/Right/1"),
    (Right.READ | Right.WRITE, "etests.keys.samples/Right/3"),
    (ip_address("10.0.0.1"), "aIPv4Address.10.0.0.1"),
    (ip_address("fe80::1"), "aIPv6Address.fe80%3A%3A1"),
    (ip_network("10.0.0.0/8"), "aIPv4Network.10.0.0.0%2F8"),
    (ip_interface("10.0.0.1/8"), "aIPv4Interface.10.0.0.1%2F8"),
]
"""One value of each sort, and its part of a key text."""


def text_of_key(cls: type, key: object, *, namespace: str = "shop") -> str:
    """Give the text under which a class's record stands."""
    plan, native, _ = keys_of(cls).lookup(key)
    return key_text(namespace, plan.record_space, plan.parts(native))


def all_texts() -> list[str]:
    """Give many key texts, in a fixed order."""
    one_name = [text_of_key(User, value) for value, _ in VALUES]
    two_names = [text_of_key(User, {"username": value, "tenant": 1}) for value, _ in VALUES]
    others = [text_of_key(GERMAN, "x" * 1000), text_of_key(Sprawling, tuple(range(12))), text_of_key(VERY_LONG, 1, namespace="n" * 99)]
    return one_name + two_names + others
