"""A process that is killed in the middle of a commit: its change is flushed, its markers stand, and COMMIT never comes."""

import json
import logging
import os
import signal
import sys

from sqlalchemy import event
from sqlalchemy.orm import sessionmaker

from examples.shop.models import Customer
from examples.shop.tiers import Places
from stockstore import ChainedStore, ProcessMemoryStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync


def main() -> None:
    logging.getLogger("stockstore_ext").setLevel(logging.ERROR)
    places = Places(*json.load(sys.stdin))
    database = SqlAlchemyStore(places.database)
    sessions = sessionmaker(database.engine)
    SessionSync(ChainedStore([ProcessMemoryStore(), *places.stores().values(), database])).attach(sessions)
    with sessions() as session:
        session.get_one(Customer, 14).email = "killed@example.org"
        session.flush()
        # Last of those who hear of the commit: the hook has marked what is written by now.
        event.listen(database.engine, "commit", lambda _connection: os.kill(os.getpid(), signal.SIGKILL))
        session.commit()


if __name__ == "__main__":
    main()
