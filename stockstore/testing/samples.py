"""The classes that the store contract puts: users, plain and mapped, of the same fields and keys."""

from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

metadata = MetaData()
"""The tables of the mapped samples; the fixture of a store with a database creates and empties them."""


@dataclass
class PlainUser:
    """Three keys, one of them of two names; falsy while there are no visits."""

    __keys__: ClassVar = ["id", "email", ("tenant", "username")]
    id: int
    email: str | None = None
    tenant: int | None = None
    username: str | None = None
    visits: int = 1

    def __len__(self) -> int:
        """Make objects without visits falsy."""
        return self.visits


@dataclass
class PlainMember(PlainUser):
    """A subclass."""

    level: int = 0


@dataclass
class PlainGuest(PlainUser):
    """A sibling of the subclass."""

    room: str = ""


@dataclass
class Seat:
    """A canonical key of two names, declared in an order that is not the alphabet's."""

    __keys__: ClassVar = [("row", "number")]
    row: str
    number: int


@dataclass
class Anything:
    """A key of any type."""

    __keys__: ClassVar = ["key"]
    key: object
    label: str = ""


@dataclass
class Unkeyed:
    """A class without keys."""

    id: int = 1


class Base(DeclarativeBase):
    """The base of the mapped samples."""

    metadata = metadata


class MappedUser(Base):
    """As ``PlainUser``, of a hierarchy in a single table."""

    __tablename__ = "stockstore_contract_users"
    __keys__ = ["id", "email", ("tenant", "username")]  # noqa: RUF012 - as users write it
    __indexes__ = ["tenant", ("username", "visits")]  # noqa: RUF012 - as users write it
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None]
    tenant: Mapped[int | None]
    username: Mapped[str | None]
    visits: Mapped[int]
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "user"}  # noqa: RUF012 - as users write it

    def __init__(self, *, visits: int = 1, **values: object) -> None:
        """Set the default at once, as a store without a database cannot."""
        super().__init__(visits=visits, **values)

    def __len__(self) -> int:
        """Make objects without visits falsy."""
        return self.visits


class MappedMember(MappedUser):
    """A subclass."""

    level: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "member"}  # noqa: RUF012 - as users write it


class MappedGuest(MappedUser):
    """A sibling of the subclass."""

    room: Mapped[str | None]
    __mapper_args__ = {"polymorphic_identity": "guest"}  # noqa: RUF012 - as users write it


class MappedSeat(Base):
    """As ``Seat``."""

    __tablename__ = "stockstore_contract_seats"
    row: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
