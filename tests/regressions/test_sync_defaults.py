"""What flushes did wrong once that load what the database has made."""

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Mapped, defer, mapped_column

from stockstore import ProcessMemoryStore
from tests.regressions.hooked import Base, hook


class Sheet(Base):
    """It has the database's defaults fetched at once, those that were deferred too."""

    __tablename__ = "sheets"
    __keys__ = ["id", "slug"]
    __mapper_args__ = {"eager_defaults": True}
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str] = mapped_column(server_default="draft")


@pytest.mark.parametrize("state", [None, "done"])
def test_a_primary_key_is_changed(engine: Engine, namespace: str, state: str | None) -> None:
    """SQLAlchemy gives the object its new key before it loads the defaults; the old key is not served any more."""
    with hook(engine, ProcessMemoryStore(max_staleness=None, namespace=namespace)) as hooked:
        with hooked.maker() as session:
            session.add(Sheet(id=2, slug="a"))
            session.commit()
        assert hooked.store.get(Sheet, 2) is not None
        with hooked.maker() as session:
            sheet = session.get_one(Sheet, 2, options=[defer(Sheet.state)])
            sheet.id = 9
            if state is not None:
                sheet.state = state
            session.commit()
        assert hooked.store.get(Sheet, 2) is None
        assert [found and found.id for found in hooked.store.batch_get(Sheet, [9, {"slug": "a"}])] == [9, 9]
