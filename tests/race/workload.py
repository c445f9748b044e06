"""What writers do to the rows: every way to write, each telling the versions that its commit will make."""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import and_, delete, insert, select, text, update
from sqlalchemy.orm import Session

from tests.race.log import Change
from tests.race.models import GRAVES, SHELVES, Seen
from tests.race.naive import seen_of


class Work:
    """One transaction's writes, in an open session.

    Attributes:
        rows: The rows as they will be.
        gone: Ids and slugs of the rows that will not be there.
        changes: The versions of the registers that its commit makes.
        commits: Whether it is to be committed.
    """

    def __init__(self, session: Session, item: Any, keys: int, all_keys: int, chance: random.Random) -> None:
        """Begin with nothing written, on the first keys of all."""
        self.session, self.item, self.keys, self.all_keys, self.chance = session, item, keys, all_keys, chance
        self.rows: list[Seen] = []
        self.gone: list[tuple[int, str]] = []
        self.changes: list[Change] = []
        self.commits = True

    def some(self, number: int) -> list[int]:
        """Choose ids, in order."""
        return sorted(self.chance.sample(range(self.keys), min(number, self.keys)))

    def locked(self, ids: Sequence[int]) -> list[Any]:
        """Load rows of ids, locked in their order; those that are there."""
        wanted = select(self.item).where(self.item.id.in_(ids)).order_by(self.item.id).with_for_update()
        return list(self.session.scalars(wanted))

    def changed(self, rows: Sequence[Any], *, slugs: bool = False) -> None:
        """Note rows as they will be committed."""
        for row in rows:
            self.rows.append(seen_of(row))
            self.changes.append(Change(row.id, row.version))
            if slugs:
                self.changes.append(Change(self.slug_register(row.slug), row.slug_version))

    def slug_register(self, slug: str) -> int:
        """Give the register of a slug; it stands behind those of the ids."""
        return self.all_keys + int(slug.rpartition("-")[2])

    def raised(self) -> dict[str, Any]:
        """Give what an UPDATE sets to make the next version."""
        return {"version": self.item.version + 1, "double": 2 * (self.item.version + 1)}


def raise_version(row: Any) -> None:
    """Give a row its next version."""
    row.version, row.double = row.version + 1, 2 * (row.version + 1)


def change_objects(work: Work) -> None:
    """Change one to three objects in the unit of work."""
    rows = work.locked(work.some(work.chance.randint(1, 3)))
    for row in rows:
        raise_version(row)
    work.session.flush()
    work.changed(rows)


def change_by_expression(work: Work) -> None:
    """Let the database reckon the new version of an object."""
    for row in work.locked(work.some(1)):
        row.version, row.double = work.item.version + 1, 2 * (work.item.version + 1)
        work.session.flush()
        work.session.refresh(row)
        work.changed([row])


def change_in_core(work: Work) -> None:
    """UPDATE the table of one row."""
    table = work.item.__table__
    raised = {"version": table.c.version + 1, "double": 2 * (table.c.version + 1)}
    statement = update(table).where(table.c.id == work.some(1)[0]).values(raised).returning(*_columns(work))
    work.changed(work.session.execute(statement).all())


def change_in_bulk(work: Work) -> None:
    """UPDATE some rows by the class."""
    _bulk(work, work.item.id.in_(work.some(3)))


def change_widely(work: Work) -> None:
    """UPDATE more rows than are followed one by one."""
    _bulk(work, and_(work.item.id % 2 == work.chance.randint(0, 1), work.item.id < work.keys))


def _bulk(work: Work, criterion: Any) -> None:
    work.locked(list(work.session.scalars(select(work.item.id).where(criterion))))
    statement = update(work.item).where(criterion).values(work.raised()).returning(*_columns(work))
    work.changed(work.session.execute(statement, execution_options={"synchronize_session": False}).all())


def change_by_text(work: Work) -> None:
    """UPDATE one row by SQL as text."""
    name = work.item.__table__.name
    sql = f"UPDATE {name} SET version = version + 1, double = 2 * (version + 1) WHERE id = :id RETURNING id, slug, version, slug_version, double"
    work.changed(work.session.execute(text(sql), {"id": work.some(1)[0]}).all())


def change_in_savepoints(work: Work) -> None:
    """Change two objects, one in a savepoint that is kept, and one in a savepoint that is not."""
    rows = work.locked(work.some(3))
    for at, row in enumerate(rows):
        savepoint = work.session.begin_nested()
        raise_version(row)
        work.session.flush()
        if at == 1:
            row.version = -row.version
            work.session.flush()
            savepoint.rollback()
        else:
            savepoint.commit()
            work.changed([row])


def take_back(work: Work) -> None:
    """Write versions that nobody may ever see, and roll back."""
    for row in work.locked(work.some(2)):
        row.version = -row.version - 1
    work.session.flush()
    work.commits = False


def remove(work: Work) -> None:
    """Delete an object; its versions go on in its grave."""
    for row in work.locked(work.some(1)):
        grave = {"id": row.id, "slug": row.slug, "version": row.version + 1, "slug_version": row.slug_version + 1}
        work.session.delete(row)
        work.session.flush()
        work.session.execute(insert(GRAVES).values(grave))
        work.gone.append((row.id, row.slug))
        work.changes.append(Change(row.id, grave["version"], absent=True))
        work.changes.append(Change(work.slug_register(row.slug), grave["slug_version"], absent=True))


def revive(work: Work) -> None:
    """Insert the objects of some graves anew."""
    wanted = select(GRAVES.c.id).limit(3).with_for_update(skip_locked=True)
    for grave in work.session.execute(delete(GRAVES).where(GRAVES.c.id.in_(wanted.scalar_subquery())).returning(GRAVES)).all():
        work.changed([_new(work, grave)], slugs=True)


def replace(work: Work) -> None:
    """Delete an object and insert it anew in one transaction."""
    for row in work.locked(work.some(1)):
        work.session.delete(row)
        work.session.flush()
        work.changed([_new(work, row)], slugs=True)


def _new(work: Work, old: Any) -> Any:
    version = old.version + 1
    row = work.item(
        id=old.id, slug=old.slug, version=version, slug_version=old.slug_version + 1, double=2 * version, shelf=old.id % SHELVES
    )
    work.session.add(row)
    work.session.flush()
    return row


def swap_slugs(work: Work) -> None:
    """Let two objects change their slugs."""
    rows = work.locked(work.some(2))
    if len(rows) < 2:
        return
    one, other = rows
    (one_slug, one_version), (other_slug, other_version) = ((row.slug, row.slug_version) for row in rows)
    one.slug = None
    work.session.flush()
    other.slug, other.slug_version = one_slug, one_version + 1
    raise_version(other)
    work.session.flush()
    one.slug, one.slug_version = other_slug, other_version + 1
    raise_version(one)
    work.session.flush()
    work.changed(rows, slugs=True)


def _columns(work: Work) -> list[Any]:
    table = work.item.__table__
    return [table.c[name] for name in Seen._fields]


WAYS: Final[dict[Callable[[Work], None], int]] = {
    change_objects: 8,
    change_by_expression: 3,
    change_in_core: 2,
    change_in_bulk: 3,
    change_widely: 1,
    change_by_text: 1,
    change_in_savepoints: 3,
    take_back: 3,
    remove: 3,
    revive: 4,
    replace: 2,
    swap_slugs: 3,
}
"""Each way to write, and how often it comes."""
