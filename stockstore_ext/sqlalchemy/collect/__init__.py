"""What a session has written, by every way there is.

Four functions, each called by the listener of one event; together they see every statement that goes through the session's
connection once::

    before_flush        before_flush(session, writes_of)
    after_flush         flushed(session, flush_context, writes_of)
    do_orm_execute      result = orm_statement(execution); return it where it is not None
    before_cursor_execute   if may_write(context) and not is_idle(context): statement(context, sql, writes)

Each takes the settings (:class:`Collecting`) as its last argument. ``writes_of`` gives for a mapper the ``Writes`` of the connection that the session uses for it. The listeners must be there
from the first statement of a transaction on: a flush's own statements are told by ``flushed``, and until then noted as if they
had changed the whole class.
"""

from stockstore_ext.sqlalchemy.collect.bulk import orm_statement
from stockstore_ext.sqlalchemy.collect.settings import Collecting, Policy, WritesOf
from stockstore_ext.sqlalchemy.collect.statements import is_idle, may_write, statement
from stockstore_ext.sqlalchemy.collect.unit_of_work import before_flush, flushed

__all__ = ["Collecting", "Policy", "WritesOf", "before_flush", "flushed", "is_idle", "may_write", "orm_statement", "statement"]
