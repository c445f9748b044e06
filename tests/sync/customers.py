"""Two customers, of whom the first is cached."""

from sqlalchemy.orm import Session

from tests.stores.shop import Customer
from tests.sync.paths import Path


def seed(path: Path) -> Path:
    """Insert two customers, and have the first cached."""
    path.seed(Customer(id=1, email="a", name="ann"), Customer(id=2, email="b", name="bob"))
    path.prove_cached((Customer, 1))
    return path


def rename(session: Session, name: str) -> None:
    """Change the first customer."""
    session.get_one(Customer, 1).name = name
    session.flush()


def ann(path: Path) -> object:
    """Give the name that the chain has for the first customer."""
    return (path.read(Customer, 1) or {})["name"]
