"""What an INSERT, UPDATE or DELETE of the ORM writes."""

from typing import Any

from sqlalchemy import Result
from sqlalchemy.orm import ORMExecuteState

from stockstore_ext.sqlalchemy.collect.settings import Collecting, WritesOf


def orm_statement(execution: ORMExecuteState, writes_of: WritesOf, collecting: Collecting = Collecting()) -> Result[Any] | None:  # noqa: B008
    """Note what a statement of the ORM writes, one by one where its keys can be had, else the whole class.

    To be called in ``do_orm_execute`` for every statement; the listener has to return what it returns. Executes the statement itself
    where it adds a RETURNING to it, of which the caller sees nothing.
    """
    raise NotImplementedError
