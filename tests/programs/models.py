"""The mapped classes of the programs: each way to map something that a cache could get wrong, with rows of each."""

import datetime as dt
import enum
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, Column, DateTime, ForeignKey, ForeignKeyConstraint, Numeric, String, Table, UniqueConstraint, func
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    MappedAsDataclass,
    WriteOnlyMapped,
    column_property,
    composite,
    mapped_column,
    relationship,
    synonym,
)


class Base(DeclarativeBase):
    type_annotation_map = {str: String(60)}  # MariaDB wants a length


class Kind(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Point:
    """Two columns in one."""

    x: int
    y: int


class Team(Base):
    """A UUID as its key; members that the database frees."""

    __tablename__ = "pr_teams"
    __keys__ = ["id", "code"]
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(unique=True)
    founded: Mapped[dt.date]
    members: Mapped[list["Owner"]] = relationship(back_populates="team", passive_deletes=True)


class Owner(Base):
    """All that columns can be, alternate keys of which parts may be NULL, and relationships of either sort."""

    __tablename__ = "pr_owners"
    __keys__ = ["id", "email", ("tenant", "login")]
    __indexes__ = ["team_id", ("tenant", "status")]
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column(unique=True)
    tenant: Mapped[int] = mapped_column(default=1)
    login: Mapped[str | None]
    title: Mapped[str] = mapped_column("title_col", default="ms")
    status: Mapped[str] = mapped_column(server_default="new")
    stamp: Mapped[str | None] = mapped_column(onupdate="touched")
    bio: Mapped[str | None] = mapped_column(default="bio", deferred=True)
    front: Mapped[str | None] = mapped_column(default="front", deferred=True, deferred_group="sides")
    back: Mapped[str | None] = mapped_column(default="back", deferred=True, deferred_group="sides")
    prefs: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSON))
    place: Mapped[Point] = composite(mapped_column("x", default=0), mapped_column("y", default=0))
    team_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("pr_teams.id", ondelete="SET NULL"))
    team: Mapped[Team | None] = relationship(back_populates="members")
    items: Mapped[list["Item"]] = relationship(
        back_populates="owner", cascade="all, delete-orphan", order_by="[Item.position.desc(), Item.id]"
    )
    pets: Mapped[list["Pet"]] = relationship(back_populates="owner")
    address = synonym("email")
    __table_args__ = (UniqueConstraint("tenant", "login"),)

    @hybrid_property
    def loud(self) -> str:
        """The title in capitals."""
        return self.title.upper()


item_tags = Table(
    "pr_item_tags",
    Base.metadata,
    Column("item_id", ForeignKey("pr_items.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("pr_tags.id"), primary_key=True),
)


class Item(Base):
    """Versions, an enum, a number with a scale; many-to-many."""

    __tablename__ = "pr_items"
    __indexes__ = ["owner_id", ("kind", "position")]
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("pr_owners.id"))
    position: Mapped[int] = mapped_column(default=0)
    kind: Mapped[Kind] = mapped_column(default=Kind.RED)
    price: Mapped[Decimal | None] = mapped_column(Numeric(8, 2))
    version: Mapped[int] = mapped_column()
    owner: Mapped[Owner | None] = relationship(back_populates="items")
    tags: Mapped[list["Tag"]] = relationship(secondary=item_tags, back_populates="items", order_by="Tag.id")
    __mapper_args__ = {"version_id_col": version}


class Tag(Base):
    __tablename__ = "pr_tags"
    __keys__ = ["id", "name"]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    items: Mapped[list[Item]] = relationship(secondary=item_tags, back_populates="tags", order_by="Item.id")


class Node(Base):
    """Belongs to another of its class; children that the database deletes."""

    __tablename__ = "pr_nodes"
    __keys__ = ["id", "label"]
    __indexes__ = ["parent_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str | None] = mapped_column(unique=True)
    rank: Mapped[int] = mapped_column(default=0)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("pr_nodes.id", ondelete="CASCADE"))
    parent: Mapped["Node | None"] = relationship(back_populates="children", remote_side="Node.id")
    children: Mapped[list["Node"]] = relationship(
        back_populates="parent", cascade="all", passive_deletes=True, order_by="Node.rank, Node.id"
    )


class Country(Base):
    """A natural key, which changes, and takes others along."""

    __tablename__ = "pr_countries"
    __keys__ = ["code", "name"]
    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    cities: Mapped[list["City"]] = relationship(back_populates="country", passive_updates=True, passive_deletes="all")


class City(Base):
    __tablename__ = "pr_cities"
    __indexes__ = ["country_code"]
    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(default=1)
    country_code: Mapped[str | None] = mapped_column(ForeignKey("pr_countries.code", onupdate="CASCADE", ondelete="CASCADE"))
    country: Mapped[Country | None] = relationship(back_populates="cities")


class Seat(Base):
    """A key of two columns, and one that users change."""

    __tablename__ = "pr_seats"
    __keys__ = [("row", "number"), "label"]
    row: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(unique=True)
    guests: Mapped[list["Guest"]] = relationship(back_populates="seat", order_by="Guest.id", passive_updates=False)


class Guest(Base):
    __tablename__ = "pr_guests"
    __indexes__ = [("seat_row", "seat_number")]
    id: Mapped[int] = mapped_column(primary_key=True)
    seat_row: Mapped[str | None]
    seat_number: Mapped[int | None]
    seat: Mapped[Seat | None] = relationship(back_populates="guests")
    __table_args__ = (ForeignKeyConstraint(["seat_row", "seat_number"], ["pr_seats.row", "pr_seats.number"]),)


class Pet(Base):
    """Joined inheritance."""

    __tablename__ = "pr_pets"
    __keys__ = ["id", "name"]
    __indexes__ = ["owner_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    species: Mapped[str]
    name: Mapped[str | None] = mapped_column(unique=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("pr_owners.id", ondelete="SET NULL"))
    owner: Mapped[Owner | None] = relationship(back_populates="pets")
    __mapper_args__ = {"polymorphic_on": "species", "polymorphic_identity": "pet", "with_polymorphic": "*"}


class Dog(Pet):
    __tablename__ = "pr_dogs"
    id: Mapped[int] = mapped_column(ForeignKey("pr_pets.id"), primary_key=True)
    bark: Mapped[int | None] = mapped_column(default=1)
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Bird(Pet):
    __tablename__ = "pr_birds"
    id: Mapped[int] = mapped_column(ForeignKey("pr_pets.id"), primary_key=True)
    wings: Mapped[int | None] = mapped_column(default=2)
    __mapper_args__ = {"polymorphic_identity": "bird"}


class Job(Base):
    """Single-table inheritance."""

    __tablename__ = "pr_jobs"
    __keys__ = ["id", "number"]
    __indexes__ = ["boss_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    number: Mapped[int] = mapped_column(unique=True)
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("pr_jobs.id"))
    __mapper_args__ = {"polymorphic_on": "type", "polymorphic_identity": "job"}


class Boss(Job):
    clerks: Mapped[list["Clerk"]] = relationship(back_populates="boss", foreign_keys="Job.boss_id", order_by="Clerk.id")
    __mapper_args__ = {"polymorphic_identity": "boss", "polymorphic_load": "inline"}


class Clerk(Job):
    boss: Mapped[Boss | None] = relationship(back_populates="clerks", foreign_keys="Job.boss_id", remote_side="Job.id")
    __mapper_args__ = {"polymorphic_identity": "clerk", "polymorphic_load": "inline"}


class Sheet(MappedAsDataclass, Base):
    """A mapped dataclass that fetches what the database makes."""

    __tablename__ = "pr_sheets"
    __keys__ = ["id", "slug"]
    id: Mapped[int] = mapped_column(primary_key=True, default=None)
    slug: Mapped[str | None] = mapped_column(unique=True, default=None)
    made: Mapped[dt.datetime | None] = mapped_column(DateTime, default=None)
    state: Mapped[str] = mapped_column(server_default="draft", init=False)
    edits: Mapped[int] = mapped_column(server_default="0", onupdate=func.length("abc"), init=False)
    __mapper_args__ = {"eager_defaults": True}


class Ticket(Base):
    """Eager by a statement, by a join, and not at all."""

    __tablename__ = "pr_tickets"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("pr_owners.id"))
    team_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("pr_teams.id"))
    node_id: Mapped[int | None] = mapped_column(ForeignKey("pr_nodes.id"))
    owner: Mapped[Owner | None] = relationship(lazy="selectin")
    team: Mapped[Team | None] = relationship(lazy="joined")
    node: Mapped[Node | None] = relationship(lazy="raise")
    __mapper_args__ = {"eager_defaults": False}


class Album(Base):
    """Collections that are never loaded whole."""

    __tablename__ = "pr_albums"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column()
    length: Mapped[int | None] = column_property(func.length(name))
    songs: WriteOnlyMapped["Song"] = relationship(
        back_populates="album", order_by="Song.id", passive_deletes=True, cascade="all, delete-orphan"
    )
    takes: DynamicMapped["Take"] = relationship(order_by="Take.id", passive_deletes=True)


class Song(Base):
    __tablename__ = "pr_songs"
    __indexes__ = ["album_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    album_id: Mapped[int | None] = mapped_column(ForeignKey("pr_albums.id", ondelete="CASCADE"))
    album: Mapped[Album | None] = relationship(back_populates="songs")


class Take(Base):
    __tablename__ = "pr_takes"
    __indexes__ = ["album_id"]
    id: Mapped[int] = mapped_column(primary_key=True)
    album_id: Mapped[int | None] = mapped_column(ForeignKey("pr_albums.id", ondelete="CASCADE"))
