"""A process that puts a row through a chain on sharded databases, and halts between its markers and its commit until it is killed."""

import sys

from sqlalchemy import create_engine

from stockstore import ChainedStore, RedisStore, ShardedStore
from tests.stores.killed_writer import Halting
from tests.stores.shop import Customer


def main(redis: str, namespace: str, key: str, *databases: str) -> None:
    """Put the customer."""
    shards = ShardedStore([Halting(engine=create_engine(url)) for url in databases])
    ChainedStore([RedisStore(redis, namespace=namespace), shards]).put(Customer(id=int(key), email=key, name="new"))


if __name__ == "__main__":
    main(*sys.argv[1:])
