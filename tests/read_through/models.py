"""Classes with what a load does beside columns: relationships of each way to load, deferred columns, composites, mutable values, versions."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint, func
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, composite, mapped_column, relationship, synonym


class Base(DeclarativeBase):
    pass


@dataclass
class Point:
    """Two columns in one."""

    x: int
    y: int


class Team(Base):
    __tablename__ = "rt_teams"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Owner(Base):
    """Served, with everything that a load has to see to."""

    __tablename__ = "rt_owners"
    __keys__ = ["id", "email"]
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    note: Mapped[str] = mapped_column(default="")
    bio: Mapped[str] = mapped_column(default="bio", deferred=True)
    prefs: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    place: Mapped[Point] = composite(mapped_column("x", default=0), mapped_column("y", default=0))
    version: Mapped[int] = mapped_column()
    team_id: Mapped[int | None] = mapped_column(ForeignKey("rt_teams.id"))
    team: Mapped[Team | None] = relationship()
    items: Mapped[list["Item"]] = relationship(back_populates="owner", order_by="Item.id")
    address = synonym("email")
    __mapper_args__ = {"version_id_col": version}

    @hybrid_property
    def shout(self) -> str:
        """The name in capitals."""
        return self.name.upper()


class Item(Base):
    """Belongs to an owner."""

    __tablename__ = "rt_items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="item")
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("rt_owners.id"))
    owner: Mapped[Owner | None] = relationship(back_populates="items")


class Ticket(Base):
    """Loads its owner by a statement of its own, always."""

    __tablename__ = "rt_tickets"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("rt_owners.id"))
    owner: Mapped[Owner] = relationship(lazy="selectin")


class Memo(Base):
    """Loads its owner at once, one by one."""

    __tablename__ = "rt_memos"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("rt_owners.id"))
    owner: Mapped[Owner] = relationship(lazy="immediate")


class Node(Base):
    """Belongs to another of its class."""

    __tablename__ = "rt_nodes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="node")
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("rt_nodes.id"))
    parent: Mapped["Node | None"] = relationship(remote_side="Node.id")


class Seat(Base):
    """Has a key of two columns."""

    __tablename__ = "rt_seats"
    row: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


class Guest(Base):
    """Belongs to a seat."""

    __tablename__ = "rt_guests"
    id: Mapped[int] = mapped_column(primary_key=True)
    seat_row: Mapped[str]
    seat_number: Mapped[int]
    seat: Mapped[Seat] = relationship()
    __table_args__ = (ForeignKeyConstraint(["seat_row", "seat_number"], ["rt_seats.row", "rt_seats.number"]),)


class Counted(Base):
    """Has an attribute that only the database computes."""

    __tablename__ = "rt_counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    length: Mapped[int] = column_property(func.length(name))


def rows() -> list[Base]:
    """Give some of each."""
    teams = [Team(id=1, name="team 1"), Team(id=2, name="team 2")]
    owners = [
        Owner(id=n, email=f"{n}@x", name=f"owner {n}", prefs={"n": n}, place=Point(n, -n), team_id=1 + n % 2 if n < 3 else None)
        for n in range(1, 5)
    ]
    items = [Item(id=n, owner_id=1 + n % 3 if n < 6 else None) for n in range(1, 8)]
    seats = [Seat(row="a", number=1, label="a1"), Seat(row="a", number=2, label="a2")]
    return [
        *teams,
        *owners,
        *items,
        *(Ticket(id=n, owner_id=n) for n in (1, 2)),
        *(Memo(id=n, owner_id=n) for n in (1, 2)),
        *(Node(id=n, parent_id=n - 1 or None) for n in range(1, 5)),
        *seats,
        *(Guest(id=n, seat_row="a", seat_number=1 + n % 2) for n in range(1, 4)),
        Counted(id=1, name="four"),
    ]
