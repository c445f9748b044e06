"""A process that puts a row through a chain, and halts between its markers and its commit until it is killed."""

import sys
import time
from typing import Any

from sqlalchemy import create_engine

from stockstore import ChainedStore, MemcacheStore, RedisStore, SqlAlchemyStore, Store
from tests.patience import be_patient
from tests.stores.shop import Customer

be_patient()


class Halting(SqlAlchemyStore):
    """Halts once the caches have been told."""

    def batch_store(self, objects: Any, before_commit: Any = None) -> Any:
        """Tell the parent, and wait for the end."""

        def told(connection: Any, outcome: Any) -> None:
            before_commit(connection, outcome)
            sys.stdout.write("marked\n")
            sys.stdout.flush()
            time.sleep(600)

        return super().batch_store(objects, told)


def main(cache: str, address: str, namespace: str, database: str) -> None:
    """Put the customer."""
    store: Store = RedisStore(address, namespace=namespace) if cache == "redis" else MemcacheStore(address, namespace=namespace)
    ChainedStore([store, Halting(engine=create_engine(database))]).put(Customer(id=1, email="a", name="new"))


if __name__ == "__main__":
    main(*sys.argv[1:])
