"""Classes of every kind that the codecs know."""

from __future__ import annotations

import enum
import math
import typing
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property

import attrs
import msgspec
import pydantic
import typing_extensions

if typing.TYPE_CHECKING:
    from tests.codecs.nowhere import Missing  # type: ignore[import-not-found, import-untyped, unused-ignore]


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"
    VERMILION = "r"  # noqa: PIE796 - an alias


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Unit(str, enum.Enum):
    METRE = "m"


class Right(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Mode(enum.IntFlag):
    A = 1
    B = 2


class Outer:
    """A class around an enum."""

    class Inner(enum.Enum):
        """An enum within a class."""

        ONE = (1, 2)


@dataclass
class Address:
    street: str
    lines: list[object] = field(default_factory=list)


@dataclass
class User:
    id: int
    name: str
    address: Address
    seen: datetime | None = None
    tags: tuple[str, ...] = ()
    balance: Decimal = Decimal(0)
    color: Color = Color.RED


@dataclass(frozen=True)
class Frozen:
    x: int
    y: int = 2


@dataclass(slots=True, frozen=True)
class Slotted:
    x: int
    child: Slotted | None = None


@dataclass(slots=True)
class SlottedBase:
    x: int


@dataclass(slots=True)
class SlottedChild(SlottedBase):
    y: int = 3


@dataclass
class Initial:
    x: int
    factor: InitVar[int] = 2
    doubled: int = field(init=False)
    later: int = field(init=False)

    def __post_init__(self, factor: int) -> None:
        self.doubled = self.x * factor


@dataclass
class Base:
    a: int


@dataclass
class Derived(Base):
    b: str = "b"


@attrs.define
class AttrsSlotted:
    a: int
    _b: str = "b"


@attrs.frozen(cache_hash=True)
class AttrsFrozen:
    a: str


@attrs.frozen(slots=False, cache_hash=True)
class AttrsHashed:
    a: str


@attrs.define(slots=False)
class AttrsDict:
    a: int
    at: Address | None = None


class Struct(msgspec.Struct):
    a: int
    items: list[Address] = []


class FrozenStruct(msgspec.Struct, frozen=True, tag="frozen", gc=False, kw_only=True, omit_defaults=True):
    a: int
    b: str = "b"


class CountingStruct(msgspec.Struct):
    a: int
    note: str = ""

    def __post_init__(self) -> None:
        self.note += "!"


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int
    b: Decimal = Decimal("1.0")
    at: Address | None = None
    _secret: int = pydantic.PrivateAttr(default=1)


class FrozenModel(pydantic.BaseModel, frozen=True):
    a: set[int]


class Pair(typing.NamedTuple):
    left: int
    right: Address | None = None


class LabelledPair(Pair):
    """A named tuple with a dictionary."""


class Plain:
    """No annotations, and a constructor that must not run again."""

    made = 0

    def __init__(self, x: object, **others: object) -> None:
        type(self).made += 1
        self.x = x
        self.__dict__.update(others)
        self._hidden = (x,)

    @property
    def shown(self) -> object:
        """Not part of the state."""
        return math.nan

    @cached_property
    def costly(self) -> object:
        """Computed once."""
        return object()


class PlainSlots:
    __slots__ = ("__private", "__weakref__", "x", "y")

    def __init__(self, x: int) -> None:
        self.x = x
        self.__private = x + 1

    @property
    def private(self) -> int:
        """What a mangled slot holds."""
        return self.__private


class MixedSlots(PlainSlots):
    def __init__(self, x: int) -> None:
        super().__init__(x)
        self.z = "z"


class Guarded:
    """Refuses all that goes through its own methods."""

    x: int

    def __new__(cls, proof: bool) -> typing_extensions.Self:
        """Ask for an argument."""
        return super().__new__(cls)

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("no")

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("not asked for")


class Shape:
    pass


class Circle(Shape):
    centre: Point

    def __init__(self, centre: Point) -> None:
        self.centre = centre


@dataclass
class Point:
    x: int


@dataclass
class Drawing:
    shapes: dict[str, list[Shape]]
    missing: Missing | None = None
    frame: typing.Optional["Point"] = None  # noqa: UP037, UP045


class Stranger:
    pass
