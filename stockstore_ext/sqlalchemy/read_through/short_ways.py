"""The short ways to the rows of a question, tried one after the other."""

from sqlalchemy.orm import Session

from stockstore_ext.sqlalchemy.read_through.batches import Batch
from stockstore_ext.sqlalchemy.read_through.found import Found
from stockstore_ext.sqlalchemy.read_through.remote import RemoteRows
from stockstore_ext.sqlalchemy.read_through.seen import Seen, SeenList
from stockstore_ext.sqlalchemy.read_through.shapes import Question
from stockstore_ext.sqlalchemy.read_through.shortcut import Shortcut


class ShortWays:
    """Gives rows that are all plain hits of process memory, or of the first shared cache.

    Args:
        shortcut: Reads process memory.
        remote: Reads the shared cache.
    """

    def __init__(self, shortcut: Shortcut, remote: RemoteRows) -> None:
        """Read nothing yet."""
        self._shortcut = shortcut
        self._remote = remote

    def in_memory(self, session: Session, question: Question, *, is_sure: bool = False) -> Found | None:
        """Give rows that process memory has, as :meth:`Shortcut.rows`."""
        return self._shortcut.rows(session, question, is_sure=is_sure)

    def read(self, session: Session, question: Question) -> Seen | SeenList | None:
        """Give what was read, with the rows where all were hits; ``None``: nothing was."""
        rows = self._shortcut.rows(session, question)
        return self.below(session, question) if rows is None else Seen(rows)

    def below(self, session: Session, question: Question) -> Seen | SeenList | None:
        """Do as :meth:`read` where process memory lacks the rows."""
        lookups = question.lookups
        if question.listed:
            return self._remote.read_list(session, question.entity.cls, lookups[0]) if len(lookups) == 1 else None
        return (
            self._remote.read(session, question.entity.cls, lookups.values)
            if type(lookups) is Batch and lookups and question.sorted
            else None
        )

    def learn(self, session: Session, cls: type) -> None:
        """Take a session that the longer way has just served for one of those that these serve."""
        self._shortcut.learn(session, cls)
        self._remote.learn(session, cls)
