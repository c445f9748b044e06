"""What is found out once is found out anew when a class is mapped."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import registry

from stockstore_ext.sqlalchemy.collect import is_idle
from tests.mapped.models import table_of
from tests.sync.collect.conftest import Watch, Watching
from tests.sync.collect.models import Club, Vehicle, log


@pytest.fixture
def late() -> Iterator[registry]:
    """A registry whose classes no later test is to find."""
    made = registry()
    yield made
    made.dispose()
    gc.collect()


def map_late(late: registry, table: Any) -> type:
    """Map a class of its own to a table that is there; it goes with the one who holds it."""
    cls = type("Late", (), {})
    late.map_imperatively(cls, table)
    return cls


def watch_late(watching: Watching) -> Watch:
    """Give a session in which that class alone is noted."""
    return watching(holds=lambda root: root.__name__ == "Late")


def test_statement(watching: Watching, late: registry) -> None:
    """One and the same statement is idle while no class of a cache has rows in its table, and no longer."""
    watch = watch_late(watching)
    for number in (1, 2):
        watch.session.execute(insert(log).values(id=number))
        watch.expect()
    held = map_late(late, log)
    watch.session.execute(insert(log).values(id=3))
    watch.expect(inserted={held.__name__})


def test_flush(watching: Watching, late: registry) -> None:
    """A flush of a class that no cache keeps notes nothing, until one that a cache keeps is mapped to the same table."""
    watch = watch_late(watching)
    for number in (11, 12):
        watch.session.add(Vehicle(id=number))
        watch.session.flush()
        watch.expect()
    held = map_late(late, table_of(Vehicle))
    watch.session.add(Vehicle(id=13))
    watch.session.flush()
    watch.expect(classes={held.__name__})


def test_nothing_is_kept(watching: Watching) -> None:
    """What is known of a statement goes with it."""
    watch = watching(holds=lambda _root: False)
    watch.session.execute(insert(table_of(Club)).values(id=9))
    assert len(watch.collecting.idle) > 0
    watch.engine.clear_compiled_cache()
    gc.collect()
    assert len(watch.collecting.idle) == 0
    assert not is_idle(None, watch.collecting)
