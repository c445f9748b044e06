"""A small shop's tasks on Celery: ``celery --app examples.shop_celery.app worker``.

``SHOP_BROKER`` is the broker's URL, ``SHOP_DATABASE`` the database's, ``SHOP_CACHE`` those of the caches, as in the shops on the web beside it.
The tasks use SQLAlchemy's sessions as ever; the shops on the web see what these commit.
"""

import os
from typing import Any

from celery import Celery, Task
from celery.signals import worker_process_shutdown
from sqlalchemy.orm import sessionmaker

from examples.shop_api.models import Item
from stockstore import ChainedStore, SqlAlchemyStore, open_store
from stockstore_ext.sqlalchemy import SessionSync

# Made before Celery forks its pool: stores and sessions that have opened a connection open others in each child.
caches = os.environ.get("SHOP_CACHE", "thread:// redis://localhost").split()
database = SqlAlchemyStore(os.environ.get("SHOP_DATABASE", "sqlite:///shop.db"))
store = ChainedStore([*(open_store(url) for url in caches), database])
sessions = sessionmaker(database.engine)
SessionSync(store, read_through=True).attach(sessions)


class ShopTask(Task):
    """What one task has read is kept for that task, and is gone with it."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with store.scope():
            return super().__call__(*args, **kwargs)


broker = os.environ.get("SHOP_BROKER", "redis://localhost/1")
app = Celery("shop", broker=broker, backend=broker, task_cls=ShopTask)


@worker_process_shutdown.connect
def close(**_: Any) -> None:
    store.close()


@app.task
def restock(number: int, quantity: int) -> dict[str, Any]:
    """Add to what there is of an item."""
    with sessions() as session:
        item = session.get_one(Item, number, with_for_update=True)
        item.stock += quantity
        session.commit()
        return item.shown()


@app.task
def look(number: int) -> dict[str, Any]:
    """Tell how often the request's own tier has answered in this task, and in which process it ran."""
    before = store.tiers[0].stats().hits
    for _ in range(2):
        with sessions() as session:
            item = session.get_one(Item, number).shown()
    return {"item": item, "hits": store.tiers[0].stats().hits - before, "process": os.getpid()}
