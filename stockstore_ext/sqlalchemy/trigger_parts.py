"""Columns of a table in the SQL of its triggers: their names, and their values as key texts."""

# ruff: noqa: S608 - DDL takes no parameters

from typing import Any, Final

from sqlalchemy import Column, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import sqltypes

from stockstore.keys.encoding import DECIMAL_BELOW

_PLAIN: Final = "[A-Za-z0-9@.+_~-]"
_INTEGERS: Final = ("smallint", "integer", "bigint")


def column_of(mapper: Mapper[Any], name: str, table: Table) -> Column[Any] | None:
    """Give the column of a table in which an attribute of a mapper stands."""
    mapped = [column for column in mapper.get_property(name).columns if isinstance(column, Column)]
    own = [column for column in mapped if column.table is table]
    # A joined table whose key has another name refers to it.
    return next(iter([*own, *(c for c in table.primary_key if any(c.references(column) for column in mapped))]), None)


def part_of(column: Column[Any], name: str, actual: str) -> str:
    """Give SQL for the text of a value as `stockstore.keys` writes it, nothing where only Python knows the value."""
    declared = column.type
    if not type(declared).__module__.startswith("sqlalchemy."):
        return ""
    if isinstance(declared, sqltypes.Integer) and actual in _INTEGERS:
        return f"CASE WHEN {name} > -{DECIMAL_BELOW} AND {name} < {DECIMAL_BELOW} THEN 'i' || {name} END"
    if isinstance(declared, sqltypes.String) and not isinstance(declared, sqltypes.Enum) and actual in {"text", "character varying"}:
        return f"'s' || {_escaped(f'CAST({name} AS text)')}"
    if isinstance(declared, sqltypes.Uuid) and declared.as_uuid and actual == "uuid":
        return f"'u' || replace(CAST({name} AS text), '-', '')"
    return ""


def _escaped(value: str) -> str:
    each = """regexp_replace(upper(encode(convert_to(c, 'UTF8'), 'hex')), '(..)', E'%\\\\1', 'g')"""
    return f"""CASE WHEN {value} COLLATE "C" ~ '^{_PLAIN}*$' THEN {value} ELSE (
                SELECT string_agg(CASE WHEN c COLLATE "C" ~ '{_PLAIN}' THEN c ELSE {each} END, '' ORDER BY n)
                FROM regexp_split_to_table({value}, '') WITH ORDINALITY AS split (c, n)) END"""


def single_percents(quoted: str, name: str) -> str:
    """Give a quoted name as it stands in a statement without parameters."""
    # psycopg's dialect doubles them for statements with parameters, and here there are none.
    return quoted.replace("%%", "%") if quoted.count("%") > name.count("%") else quoted
