"""Racks with bottles, which are loaded lazily in many ways."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    WriteOnlyMapped,
    attribute_keyed_dict,
    mapped_column,
    relationship,
)


class Base(DeclarativeBase):
    """The cellar's own tables."""


class Rack(Base):
    """Has bottles, by its primary key and by its code."""

    __tablename__ = "lazy_racks"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(unique=True)
    kind: Mapped[str] = mapped_column(default="rack")
    bottles: Mapped[list["Bottle"]] = relationship(
        back_populates="rack", cascade="all, delete-orphan", foreign_keys="Bottle.rack_id", order_by="Bottle.id"
    )
    latest: Mapped[list["Bottle"]] = relationship(viewonly=True, order_by="Bottle.year.desc(), Bottle.id", foreign_keys="Bottle.rack_id")
    unordered: Mapped[set["Bottle"]] = relationship(viewonly=True, foreign_keys="Bottle.rack_id")
    by_number: Mapped[dict[int, "Bottle"]] = relationship(
        viewonly=True, foreign_keys="Bottle.rack_id", collection_class=attribute_keyed_dict("id")
    )
    named: Mapped[list["Bottle"]] = relationship(viewonly=True, primaryjoin="Rack.code == foreign(Bottle.rack_code)", order_by="Bottle.id")
    red: Mapped[list["Bottle"]] = relationship(
        viewonly=True, primaryjoin="and_(Rack.id == foreign(Bottle.rack_id), Bottle.colour == 'red')", order_by="Bottle.id"
    )
    titled: Mapped[list["Bottle"]] = relationship(viewonly=True, order_by="Bottle.label", foreign_keys="Bottle.rack_id")
    any_one: Mapped["Bottle | None"] = relationship(viewonly=True, order_by="Bottle.id", uselist=False, foreign_keys="Bottle.rack_id")
    raising: Mapped[list["Bottle"]] = relationship(viewonly=True, lazy="raise", foreign_keys="Bottle.rack_id")
    raising_on_sql: Mapped[list["Bottle"]] = relationship(viewonly=True, lazy="raise_on_sql", foreign_keys="Bottle.rack_id")
    dynamic: DynamicMapped["Bottle"] = relationship(viewonly=True, order_by="Bottle.id", foreign_keys="Bottle.rack_id")
    written: WriteOnlyMapped["Bottle"] = relationship(viewonly=True, order_by="Bottle.id", foreign_keys="Bottle.rack_id")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "rack"}


class Cooler(Rack):
    """A rack of a subclass."""

    __mapper_args__ = {"polymorphic_identity": "cooler"}


class Bottle(Base):
    """Of two classes."""

    __tablename__ = "lazy_bottles"
    __indexes__ = ["rack_id", "rack_code", ("rack_id", "colour")]
    id: Mapped[int] = mapped_column(primary_key=True)
    rack_id: Mapped[int | None] = mapped_column(ForeignKey("lazy_racks.id"))
    rack_code: Mapped[str | None]
    colour: Mapped[str] = mapped_column(default="red")
    year: Mapped[int] = mapped_column(default=2000)
    label: Mapped[str] = mapped_column(default="old")
    kind: Mapped[str] = mapped_column(default="bottle")
    rack: Mapped[Rack | None] = relationship(back_populates="bottles", foreign_keys=rack_id)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "bottle"}


class Magnum(Bottle):
    """A larger one."""

    __mapper_args__ = {"polymorphic_identity": "magnum"}


def rows() -> list[object]:
    """Give two racks with bottles, two without any, and one of a subclass."""
    racks: list[object] = [Rack(id=1, code="a"), Rack(id=2, code="b"), Rack(id=3, code="c"), Rack(id=5), Cooler(id=4, code="d")]
    bottles = [
        Bottle(
            id=number, rack_id=1 + number % 2, rack_code="ab"[number % 2], colour=("red", "white")[number % 3 > 0], year=2010 - number // 2
        )
        for number in range(9, 1, -1)
    ]
    return [*racks, *bottles, Magnum(id=20, rack_id=4, rack_code="d"), Bottle(id=21, rack_id=4)]
