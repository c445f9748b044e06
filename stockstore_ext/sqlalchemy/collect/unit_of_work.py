"""What a flush writes."""

from sqlalchemy.orm import Session, UOWTransaction

from stockstore_ext.sqlalchemy.collect.settings import Collecting, WritesOf


def before_flush(session: Session, writes_of: WritesOf, collecting: Collecting = Collecting()) -> None:  # noqa: B008 - it is frozen
    """Note the rows that the database itself is going to delete or change along with those that the flush deletes.

    To be called in ``before_flush``, after the application's own listeners where that can be had. May execute SELECTs on the connection of
    the flush, which lock the rows that are going to be deleted.
    """
    raise NotImplementedError


def flushed(session: Session, flush_context: UOWTransaction, writes_of: WritesOf, collecting: Collecting = Collecting()) -> None:  # noqa: B008
    """Note the identities, old and new, of the rows that a flush has written. To be called in ``after_flush``; emits no SQL."""
    raise NotImplementedError
