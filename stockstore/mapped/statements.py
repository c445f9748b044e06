"""Where a statement writes."""

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy.engine import Compiled
from sqlalchemy.orm import FromStatement
from sqlalchemy.sql.expression import Alias, TableClause, TextClause, TextualSelect, UpdateBase
from sqlalchemy.sql.visitors import iterate


def text_in(statement: object) -> str | None:
    """Give the text that a statement consists of, ``None`` for one built of tables and columns."""
    inner = unwrapped(statement)
    return inner.text if isinstance(inner, TextClause) else None


def unwrapped(statement: object) -> object:
    """Give the statement inside of ``from_statement()`` and ``text().columns()``."""
    while isinstance(statement, FromStatement | TextualSelect):
        statement = statement.element
    return statement


def dml_in(statement: object) -> list[UpdateBase]:
    """Give the INSERTs, UPDATEs and DELETEs in a statement, those of its common table expressions too."""
    inner = unwrapped(statement)
    return [part for part in iterate(inner) if isinstance(part, UpdateBase)]  # type: ignore[arg-type]


def plain_table(selectable: object) -> TableClause | None:
    """Give the table that a statement is aimed at, ``None`` where it is something else."""
    element = selectable.element if isinstance(selectable, Alias) else selectable
    return element if isinstance(element, TableClause) else None


def tables_beside(dml: UpdateBase) -> list[TableClause]:
    """Give the tables whose columns a statement sets, as an UPDATE of several tables does on MariaDB and MySQL."""
    pairs: Any = getattr(dml, "_values", None) or getattr(dml, "_ordered_values", None) or ()
    columns = [pair[0] if isinstance(pair, tuple) else pair for pair in pairs]
    tables = [plain_table(getattr(column, "table", None)) for column in columns]
    return list(dict.fromkeys(table for table in tables if table is not None))


def table_written(compiled: Compiled, dml: UpdateBase) -> TableClause | None:
    """Give the table that a compiled statement, or one inside of it, writes to; of the ORM one is compiled anew for each table of a class."""
    state: Any = compiled.compile_state if dml is compiled.statement else None
    table = getattr(state, "dml_table", None)
    return plain_table(dml.table if table is None else table)


class Reading(NamedTuple):
    """What a text says about itself.

    Attributes:
        harmless: It changes no row.
        opaque: It does not tell what it changes.
        words: The words in it, in lower case.
    """

    harmless: bool
    opaque: bool
    words: frozenset[str]


_WRITING: Final = frozenset(("insert", "update", "delete", "merge"))
_TELLING: Final = _WRITING | {"replace", "truncate", "drop", "alter", "copy", "load"}
"""Verbs that name the table they write to."""
_EXPLAINING: Final = frozenset(("explain", "describe", "desc", "analyze"))
"""Verbs that may execute what follows them."""
_CALLING: Final = _WRITING | _EXPLAINING | {"replace", "select", "with", "values", "declare", "set"}
"""Verbs of statements that may call functions."""
_QUESTIONS: Final = """
select with values show table explain describe desc set reset use pragma begin start savepoint release rollback abort lock analyze vacuum
checkpoint discard declare fetch move close listen unlisten notify deallocate
"""
_ASKING: Final = frozenset(_QUESTIONS.split())
_DEFINING: Final = frozenset(("create", "comment", "grant", "revoke", "security"))
_WORDS_BEFORE_BRACKETS: Final = """
select values in and or not exists any all some from join on where having by as over partition filter within using when then else
between like ilike is union except intersect distinct limit offset row array interval returning set into lateral case end with
recursive materialized numeric decimal varchar char character varying timestamp time bit key references primary unique check conflict duplicate
"""
_FUNCTIONS: Final = """
count sum min max avg total abs ceil ceiling floor round trunc sign mod power sqrt exp ln log random greatest least coalesce nullif
ifnull iif if cast convert try_cast typeof lower upper length char_length octet_length trim ltrim rtrim btrim substr substring
position instr strpos replace reverse repeat lpad rpad left right concat concat_ws split_part initcap translate ascii chr hex md5
sha256 encode decode format quote_ident quote_literal printf glob regexp_replace regexp_matches regexp_match string_agg group_concat
array_agg json_agg jsonb_agg json_object_agg jsonb_object_agg json_build_object jsonb_build_object json_build_array json_object
json_array json_extract json_extract_path_text json_each json_array_length jsonb_array_length jsonb_array_elements
json_array_elements jsonb_set to_json to_jsonb row_to_json unnest generate_series array_length cardinality array_to_string
string_to_array bool_and bool_or every stddev variance percentile_cont percentile_disc mode corr row_number rank dense_rank ntile
lag lead first_value last_value nth_value now date datetime julianday strftime unixepoch date_part date_trunc extract age to_char
to_date to_timestamp to_number make_date make_interval clock_timestamp statement_timestamp transaction_timestamp current_timestamp
localtimestamp curdate curtime utc_timestamp unix_timestamp from_unixtime date_format date_add date_sub datediff timestampdiff year
month day hour minute second gen_random_uuid uuid uuid_generate_v4 version current_database current_schema current_setting
set_config database schema user pg_backend_pid pg_sleep pg_typeof pg_table_size pg_total_relation_size pg_relation_size
pg_size_pretty pg_current_xact_id_if_assigned pg_current_snapshot pg_snapshot_xmax pg_xact_status to_regclass obj_description
col_description format_type pg_get_expr pg_get_constraintdef pg_get_indexdef pg_table_is_visible similarity word_similarity
to_tsvector to_tsquery plainto_tsquery ts_rank ts_headline pg_advisory_lock pg_advisory_xact_lock pg_try_advisory_lock
pg_try_advisory_xact_lock pg_advisory_unlock table_info index_list index_info foreign_key_list table_xinfo last_insert_rowid changes
total_changes sqlite_version found_rows row_count last_insert_id connection_id get_lock release_lock sleep
"""
_SAFE_CALLS: Final = frozenset((_WORDS_BEFORE_BRACKETS + _FUNCTIONS).split())
"""What stands before a bracket and changes nothing."""
_FOR_ONE: Final = re.compile(r"\s*set\s+statement\b.*?\bfor\b(.*)", re.DOTALL)
"""A statement of MariaDB for which alone settings are made."""
_LOCKING: Final = re.compile(r"\bfor\s+(?:no\s+key\s+)?update\b")
_QUIET: Final = re.compile(r"'(?:[^']|'')*'|/\*(?!m?!).*?\*/|--(?=\s)[^\n]*|(?<![\w$])\$((?:[^\W\d]\w*)?)\$.*?\$\1\$", re.DOTALL)
_ODD: Final = re.compile(
    r"""[\\#]|--\S|--[^\n]*\r(?!\n)|/\*(?:(?!\*/).)*/\*|u&"|"[^"]*['\-/$;][^"]*"|`[^`]*['\-/$;][^`]*`|\[[^\]]*'[^\]]*\]""", re.DOTALL
)
"""Where it is not known where text, names and comments begin and end: databases differ, or names have signs in them that begin others."""
_ROUTINE: Final = re.compile(r"\s*create\b[^;(]*\b(?:trigger|function|procedure)\b")
_COMPOUND: Final = re.compile(_ROUTINE.pattern + r"[^;]*\bbegin\b")
"""A routine in whose statements are semicolons; after those of others comes another statement."""
_ATOMIC: Final = re.compile(r"\bbegin\s+atomic\b.*?;\s*end\s*;(.*)", re.DOTALL)
"""What follows a routine of standard SQL."""
_BODY: Final = re.compile(_ROUTINE.pattern + r"[^;']*?(\$\w*\$).*?\1", re.DOTALL)
"""A routine up to the end of its text in PostgreSQL's quotes, in which any sign may stand."""
_REPLACED: Final = re.compile(r"\s*create\s+or\s+replace\b[^;(]*\b(?:table|view)\b")
"""What takes the place of a table and its rows, on MariaDB, or of a view."""
_COPIED: Final = re.compile(r"\s*copy\s*\((.*)", re.DOTALL)
"""A query whose rows are copied."""
_FILLED: Final = re.compile(
    r"\s*create\b[^;(]*?\b(?:table|materialized)\b.*?(?:\bas\s*\(*\s*(?=(?:with|values|table|execute)\b)|(?=\bselect\b))(.*)", re.DOTALL
)
"""A table that is made of what a query gives."""
_WORD: Final = re.compile(r"\w+")
_QUOTED: Final = re.compile(r"(?:\b(?:into|update|from|table|exists|or\s+\w+)|\.)\s*'((?:[^']|'')*)'")
"""A text where a table is named, as which SQLite takes it."""
_CALL: Final = re.compile(r"(\w+)[\"`\]]?\s*\(")
_COLUMNS: Final = re.compile(r"\binto\s+[\w.\"`\[\]]+(?=\s*\()|\b\w+\s*\([^()]*\)(?=\s+as\s*(?:not\s+)?(?:materialized\s*)?\()")
"""A table before its list of columns, and a common table expression with its own."""


LONG: Final = 10_000
"""The signs from which on a text is not remembered: it is mostly full of values, and never comes again."""


def reading_of(sql: str) -> Reading:
    """Tell what a text says about itself; what is not understood counts as opaque.

    >>> reading_of("SELECT count(*) FROM users").harmless
    True
    >>> reading_of("SELECT archive_users()").opaque
    True
    """
    return _remembered(sql) if len(sql) < LONG else _read(sql)


@lru_cache(maxsize=2048)
def _remembered(sql: str) -> Reading:
    return _read(sql)


def _read(sql: str) -> Reading:
    text = sql.lower()
    body = _BODY.match(text)
    if body:
        text = f"create function {text[body.end() :]}"
    odd = _ODD.search(text)
    bare = text if odd else _QUIET.sub(" ", text)
    pieces = _parts(bare, _ROUTINE if odd else _COMPOUND)
    judged = {_judged(piece) for piece in pieces[: 1 if odd else None]} | {_judged_part(piece) for piece in pieces[1:] if odd}
    if 'u&"' in text:  # PostgreSQL's names by code points
        judged.add("opaque")
    words = frozenset(_WORD.findall(" ".join((bare, *_QUOTED.findall(text)))))
    return Reading(judged <= {"harmless"}, "opaque" in judged, words)


def _parts(bare: str, compound: "re.Pattern[str]") -> list[str]:
    """Give the statements of a text, a routine with all that are in it as one."""
    if not compound.match(bare):
        return [piece for piece in bare.split(";") if piece.strip()]
    followed = _ATOMIC.search(bare)
    return [bare, *_parts(followed[1], compound)] if followed else [bare]


def _judged(piece: str) -> str:
    inner = _FOR_ONE.match(piece)
    return _judged_verb(inner[1] if inner else piece)


def _judged_verb(piece: str) -> str:
    words = _WORD.findall(_LOCKING.sub(" ", piece))
    first = words[0] if words else ""
    if first in _DEFINING:
        return _judged_definition(piece)
    if first not in _ASKING and first not in _TELLING:
        return "opaque"
    if first in _EXPLAINING and "execute" in words:
        return "opaque"
    if first in _CALLING and _calls(piece):
        return "opaque"
    if copied := _COPIED.match(piece):
        return _judged(copied[1])
    return "telling" if first in _TELLING or "into" in words or not _WRITING.isdisjoint(words) else "harmless"


def _judged_definition(piece: str) -> str:
    if _ROUTINE.match(piece):
        return "harmless"
    if filled := _FILLED.match(piece):
        return _judged(filled[1])
    return "telling" if _REPLACED.match(piece) else "harmless"


def _judged_part(piece: str) -> str:
    """Judge what may as well be the rest of a text with a semicolon, and of whatever the statement does around that."""
    judged = _judged(piece)
    doubtful = judged == "harmless" and (_calls(piece) or not _WRITING.isdisjoint(_WORD.findall(piece)))
    return "opaque" if doubtful else judged


def _calls(piece: str) -> bool:
    """Whether a function is called of which it is not known that it changes nothing."""
    return not _SAFE_CALLS.issuperset(_CALL.findall(_COLUMNS.sub(" , ", piece)))
