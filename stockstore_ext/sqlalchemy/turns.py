"""What statements make names mean, and snapshots show, on a connection."""

import re
from functools import lru_cache
from typing import Final, TypeAlias

from sqlalchemy import Connection

from stockstore.mapped import TURNED
from stockstore.mapped.statements import LONG
from stockstore.mapped.tables import roots_named
from stockstore_ext.sqlalchemy.frames import Frame

_Names: TypeAlias = tuple[str, ...]

_TURNS: Final = re.compile(
    r"\b(?:re)?set\s+(?:(local|session)\s+)?(?:search_path|role|schema|session\s+authorization)\b"
    r"|\bset_config\s*\(\s*'(?:search_path|role)'"
    r"|^\s*use\s+\w",
    re.IGNORECASE,
)
_NAME: Final = r"[\"`\[]?(\w+)"
_MADE: Final = r"create\b[^;(]{0,80}?\b(?:table|view)\s+(?:if\s+not\s+exists\s+)?"
_HIDES: Final = re.compile(
    rf"\b(?:(?=create\b[^;(]{{0,40}}?\btemp(?:orary)?\b){_MADE}(?:[\"`\[]?\w+[\"`\]]?\s*\.\s*)?|into\s+temp(?:orary)?\s+(?:table\s+)?"
    rf"|{_MADE}[\"`\[]?temp[\"`\]]?\s*\.\s*|(?:{_MADE}|into\s+(?:table\s+)?)[\"]?pg_temp\w*[\"]?\s*\.\s*){_NAME}",
    re.IGNORECASE,
)
"""A table of the connection's own, which may stand before another of its name."""
_RENAMES: Final = re.compile(rf"\balter\s+(?:table|view)\b[^;]{{0,200}}?\brename\s+(?:to\s+|as\s+)?{_NAME}", re.IGNORECASE)
"""A table with another name from now on, which may be one of the connection's own."""
_ISOLATES: Final = re.compile(
    r"\bset\b[^;]*(?:\b|_)(?:isolation|characteristics)\b|\bset_config\b[^;]*_isolation\b|\breset\s+all\b|\bdiscard\s+all\b", re.IGNORECASE
)
LEVEL: Final = "stockstore.level"
"""Where a connection has its isolation level."""
_OWN: Final = "stockstore.own_tables"
"""Of a connection that has made tables of its own."""


def turns_foreign(connection: Connection, frame: Frame, sql: str) -> None:
    """Heed a statement that lets names mean other tables, or snapshots stand."""
    turns, hidden, renamed, isolates = _reading_of(sql)
    if turns is not None:
        frame.foreign = True
        if turns != "local":
            # It may outlive the transaction, and go with the connection through the pool.
            connection.info[TURNED] = True
    if (hidden or renamed) and _note_hidden(connection, hidden, renamed, sql):
        frame.foreign = True
    if isolates:
        frame.pin(True)
        connection.info.pop(LEVEL, None)


def _reading_of(sql: str) -> tuple[str | None, _Names, _Names, bool]:
    return _remembered(sql) if len(sql) < LONG else _read(sql)


@lru_cache(maxsize=500)
def _remembered(sql: str) -> tuple[str | None, _Names, _Names, bool]:
    return _read(sql)


def _read(sql: str) -> tuple[str | None, _Names, _Names, bool]:
    """Tell what a statement does.

    Whether it sets what names mean, and how; which tables of its own it makes; what it calls tables from now on; whether it may set the
    isolation level.
    """
    turns = _TURNS.search(sql)
    turned = None if turns is None else (turns[1] or "").lower()
    return turned, tuple(_HIDES.findall(sql)), tuple(_RENAMES.findall(sql)), _ISOLATES.search(sql) is not None


def heed(connection: Connection, sql: str) -> None:
    """Heed a statement of somebody who has no session, and may leave a connection with other tables or another isolation level.

    What sets the names' meaning there is the engine's own way, such as a listener that does so for each transaction.
    """
    _, hidden, renamed, isolates = _reading_of(sql)
    if hidden or renamed:
        _note_hidden(connection, hidden, renamed, sql)
    if isolates:
        connection.info.pop(LEVEL, None)


def _note_hidden(connection: Connection, made: _Names, renamed: _Names, sql: str) -> bool:
    """Note on a connection that tables of its own stand before mapped ones, if they do or may."""
    if made:
        connection.info[_OWN] = True
    if not roots_named((*made, *renamed) if _OWN in connection.info else made):
        return False
    if "on commit drop" not in " ".join(sql.lower().split()):
        connection.info[TURNED] = True
    return True
