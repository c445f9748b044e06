"""The rows that every program begins with, and the values that it may write."""

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from tests.programs.models import (
    Album,
    Base,
    Bird,
    Boss,
    City,
    Clerk,
    Country,
    Dog,
    Guest,
    Item,
    Job,
    Kind,
    Node,
    Owner,
    Pet,
    Point,
    Seat,
    Sheet,
    Song,
    Tag,
    Take,
    Team,
    Ticket,
    item_tags,
)

UUIDS: Final = tuple(uuid.UUID(int=n) for n in range(1, 5))
IDS: Final = (1, 2, 3, 4, 5, 9)
REFERENCES: Final = (None, 1, 2, 3, 9)
TEXTS: Final = ("a", "b", "c", None, "d")
DAYS: Final = (dt.date(2020, 1, 1), dt.date(2021, 2, 3))

POOLS: Final[dict[type, dict[str, tuple[Any, ...]]]] = {
    Team: {"id": UUIDS, "code": TEXTS, "founded": DAYS},
    Owner: {
        "id": (*IDS, None),
        "email": TEXTS,
        "tenant": (1, 2),
        "login": TEXTS,
        "title": ("ms", "mr"),
        "status": ("new", "old"),
        "bio": ("bio", "other"),
        "front": ("front", "other"),
        "back": ("back", "other"),
        "prefs": ({"n": 1}, None, {}),
        "place": (Point(0, 0), Point(1, 2)),
        "team_id": (*UUIDS, None),
    },
    Item: {
        "id": (*IDS, None),
        "owner_id": REFERENCES,
        "position": (0, 1, 2),
        "kind": tuple(Kind),
        "price": (None, Decimal("1.50"), Decimal(2)),
    },
    Tag: {"id": (*IDS, None), "name": ("a", "b", "c", "d")},
    Node: {"id": (*IDS, None), "label": TEXTS, "rank": (0, 1, 2), "parent_id": REFERENCES},
    Country: {"code": ("de", "fr", "it", "at"), "name": ("a", "b", "c", "d")},
    City: {"id": (*IDS, None), "size": (1, 2), "country_code": ("de", "fr", "it", "xx", None)},
    Seat: {"row": ("a", "b"), "number": (1, 2), "label": ("a", "b", "c", "d", "e")},
    Guest: {"id": (*IDS, None), "seat_row": ("a", "b", None), "seat_number": (1, 2, None)},
    Pet: {"id": (*IDS, None), "name": TEXTS, "owner_id": REFERENCES},
    Dog: {"id": (*IDS, None), "name": TEXTS, "owner_id": REFERENCES, "bark": (1, 2, None)},
    Bird: {"id": (*IDS, None), "name": TEXTS, "owner_id": REFERENCES, "wings": (1, 2, None)},
    Job: {"id": (*IDS, None), "number": (1, 2, 3, 4, 5, 6), "boss_id": REFERENCES},
    Boss: {"id": (*IDS, None), "number": (1, 2, 3, 4, 5, 6), "boss_id": REFERENCES},
    Clerk: {"id": (*IDS, None), "number": (1, 2, 3, 4, 5, 6), "boss_id": REFERENCES},
    Sheet: {"id": (*IDS, None), "slug": TEXTS, "made": (None, dt.datetime(2020, 1, 1, 10)), "state": ("draft", "done")},
    Ticket: {"id": (*IDS, None), "owner_id": REFERENCES, "team_id": (*UUIDS, None), "node_id": REFERENCES},
    Album: {"id": (*IDS, None), "name": TEXTS},
    Song: {"id": (*IDS, None), "name": TEXTS, "album_id": REFERENCES},
    Take: {"id": (*IDS, None), "album_id": REFERENCES},
}
"""The values that programs give to each attribute of each class."""

CLASSES: Final = tuple(POOLS)


def seeds() -> list[Base]:
    """Give some rows of each class."""
    return [
        *(Team(id=UUIDS[n], code="ab"[n], founded=DAYS[n]) for n in (0, 1)),
        *(
            Owner(
                id=n,
                email="-abc"[n],
                tenant=1,
                login="-ab-"[n].strip("-") or None,
                prefs={"n": n},
                place=Point(n, -n),
                team_id=UUIDS[n % 2],
            )
            for n in (1, 2, 3)
        ),
        *(Tag(id=n, name="-ab"[n]) for n in (1, 2)),
        *(Item(id=n, owner_id=1 + n % 2, position=n % 2, kind=Kind.BLUE if n == 1 else Kind.RED) for n in (1, 2, 3)),
        Node(id=1, label="a"),
        Node(id=2, parent_id=1, label="b"),
        Node(id=3, parent_id=2, rank=1),
        *(Country(code=code, name=name) for code, name in (("de", "a"), ("fr", "b"))),
        *(City(id=n, country_code=("de", "fr")[n % 2]) for n in (1, 2, 3)),
        *(Seat(row="a", number=n, label="-ab"[n]) for n in (1, 2)),
        *(Guest(id=n, seat_row="a", seat_number=1 + n % 2) for n in (1, 2, 3)),
        Dog(id=1, name="a", owner_id=1),
        Bird(id=2, name="b", owner_id=1),
        Pet(id=3, name="c", owner_id=2),
        Boss(id=1, number=1),
        Clerk(id=2, number=2, boss_id=1),
        Clerk(id=3, number=3, boss_id=1),
        *(Sheet(id=n, slug="-ab"[n]) for n in (1, 2)),
        *(Ticket(id=n, owner_id=n, team_id=UUIDS[0], node_id=n) for n in (1, 2)),
        *(Album(id=n, name="a" * n) for n in (1, 2)),
        *(Song(id=n, album_id=1, name="a") for n in (1, 2)),
        *(Take(id=n, album_id=n) for n in (1, 2)),
    ]


_FIRST: Final = 20
_COUNTED: Final = text(f"SELECT table_name FROM information_schema.tables WHERE table_schema = database() AND auto_increment <> {_FIRST}")


class Reset:
    """Puts the first rows back, in few statements."""

    def __init__(self, engine: Engine) -> None:
        """Make the tables, and note what stands in them once the rows are there."""
        self._engine = engine
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(seeds())
            session.flush()
            session.execute(insert(item_tags).values([(1, 1), (1, 2), (2, 1)]))
            session.commit()
        with engine.connect() as connection:
            self._rows = {
                table: [dict(row) for row in connection.execute(table.select()).mappings()] for table in Base.metadata.sorted_tables
            }

    def __call__(self) -> None:
        """Do it."""
        with self._engine.begin() as connection:
            if connection.dialect.name == "mariadb":
                connection.exec_driver_sql("SET foreign_key_checks = 0")
                for name in connection.scalars(_COUNTED).all():
                    connection.exec_driver_sql(f"ALTER TABLE {name} AUTO_INCREMENT = {_FIRST}")
            if connection.dialect.name == "postgresql":
                for (sequence,) in connection.execute(
                    text("SELECT sequencename FROM pg_sequences WHERE schemaname = current_schema() AND sequencename LIKE 'pr%'")
                ).all():
                    connection.execute(text(f"ALTER SEQUENCE {sequence} RESTART WITH {_FIRST}"))
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())
            for table, rows in self._rows.items():
                connection.execute(table.insert(), rows)
            if connection.dialect.name == "mariadb":
                connection.exec_driver_sql("SET foreign_key_checks = 1")
