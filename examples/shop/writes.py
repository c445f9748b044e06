"""The application's own sessions write, and the caches stay true."""

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from examples.shop.models import Customer, Order, Product, Status
from examples.shop.tiers import Tiers
from stockstore_ext.sqlalchemy import SessionSync

PATIENCE = 10.0
"""Seconds in which what a killed writer left must be resolved."""


class Writers:
    """Sessions of an application that knows nothing of caches."""

    def __init__(self, tiers: Tiers) -> None:
        self.sessions = sessionmaker(tiers.database.engine)
        # What it would log is in the guarantee that the demo prints.
        logging.getLogger("stockstore_ext").setLevel(logging.ERROR)
        self.sync = SessionSync(tiers.chain).attach(self.sessions)
        self.places = tiers.places

    def savepoints(self) -> None:
        """Change one customer for good, and another in a savepoint that is rolled back."""
        with self.sessions() as session:
            with session.begin_nested():
                customer(session, 11).email = "kept@example.org"
            undone = session.begin_nested()
            customer(session, 12).email = "undone@example.org"
            undone.rollback()
            session.commit()

    def rollback(self) -> None:
        with self.sessions() as session:
            customer(session, 13).email = "never@example.org"
            session.flush()
            session.rollback()

    def bulk(self) -> None:
        """Change many rows by one statement, without loading them."""
        with self.sessions() as session:
            session.execute(update(Product).where(Product.id <= 20).values(price=Product.price + Decimal("1.50")))
            session.execute(update(Order).where(Order.id == 60).values(status=Status.SENT))
            session.commit()

    def killed(self) -> None:
        """Have another process begin to commit a change, and be killed in the middle of it."""
        root = Path(__file__).parents[2]
        command = [sys.executable, "-m", "examples.shop.killed"]
        ended = subprocess.run(command, input=json.dumps(self.places), text=True, cwd=root, check=False, timeout=60)
        assert ended.returncode == -signal.SIGKILL, "the writer ended by itself"

    def close(self) -> None:
        self.sync.detach()


def customer(session: Session, number: int) -> Customer:
    return session.get_one(Customer, number)


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds, and say whether it came to."""
    end = time.monotonic() + PATIENCE
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return holds
