"""A database's store that halts a test's reads and writes half-way."""

from collections.abc import Callable, Sequence
from typing import Any

from stockstore import SqlAlchemyStore


class HaltingWrites(SqlAlchemyStore):
    """Lets a test go on in the middle of a write, and of what a subclass reads, once each."""

    after_read: Callable[[], object] | None = None
    before_commit: Callable[[], object] | None = None
    after_commit: Callable[[], object] | None = None

    def batch_store(self, objects: Sequence[object], before_commit: Any = None) -> Any:
        """Halt when the caches have been told, before and after the commit."""

        def told(connection: Any, outcome: Any) -> None:
            if before_commit is not None:
                before_commit(connection, outcome)
            self._halt("before_commit")

        outcome = super().batch_store(objects, told)
        self._halt("after_commit")
        return outcome

    def _halt(self, where: str) -> None:
        step = getattr(self, where)
        setattr(self, where, None)
        if step is not None:
            step()
