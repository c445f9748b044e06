"""Triggers for PostgreSQL that note in the outbox what anybody writes: psql, other applications, cascades, functions.

Per table there are four of them, one for each kind of statement. They run once per statement, inside its transaction, and
insert one row with the keys of all its rows. Nothing depends on the application then but the names and types of its keys.
"""

# ruff: noqa: S608 - DDL takes no parameters; names are quoted, and key texts have no quotes

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Table, text
from sqlalchemy.orm import Mapper, configure_mappers

from stockstore.channels.notices import PAYLOAD_LIMIT
from stockstore.channels.postgresql_telling import CHANNEL
from stockstore.errors import ConfigurationError
from stockstore.evidence import Outbox
from stockstore.keys import KeyPlan, keys_of, namespace_text
from stockstore.keys.declared import identity_class
from stockstore.keys.prefixes import KEY_LIMIT, key_prefix
from stockstore.mapped.hydrate import all_mappers
from stockstore_ext.sqlalchemy.trigger_lists import Listing, listings
from stockstore_ext.sqlalchemy.trigger_parts import column_of, part_of, single_percents

ROWS_LIMIT: Final = 1000
"""The rows of one statement above which its table's classes are noted instead of keys."""
SKIP: Final = text("SELECT set_config('stockstore.synced', '1', true)")
"""What a transaction executes, before it writes, whose writes nobody needs to note."""
_NAME: Final = "stockstore_outbox_"
_TOLD: Final = "stockstore_told"
_EVENTS: Final = {
    "insert": ("REFERENCING NEW TABLE AS new_rows", ("new_rows",)),
    "update": ("REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows", ("old_rows", "new_rows")),
    "delete": ("REFERENCING OLD TABLE AS old_rows", ("old_rows",)),
    "truncate": ("", ()),
}
_INSTALLED: Final = text(
    """
    SELECT CAST(CAST(tgrelid AS regclass) AS text) AS table, tgname AS trigger, CAST(CAST(tgfoid AS regprocedure) AS text) AS function
    FROM pg_trigger WHERE starts_with(tgname, :name) AND NOT tgisinternal AND (CAST(:table AS text) IS NULL OR tgrelid = CAST(CAST(:table AS text) AS regclass))
    ORDER BY 1, 2
    """
)


class Installed(NamedTuple):
    """A trigger that is there.

    Attributes:
        table: The table's name, with its schema where the search path needs it.
        trigger: The trigger's name.
        function: The function that it calls.
    """

    table: str
    trigger: str
    function: str

    @property
    def event(self) -> str:
        """The kind of statement that it notes."""
        return self.trigger.removeprefix(_NAME)


class _Key(NamedTuple):
    """How the rows of a table name records of one hierarchy: an SQL expression for each part, or none where SQL cannot tell."""

    plan: KeyPlan
    columns: tuple[str, ...]
    parts: tuple[str, ...]
    lists: tuple[Listing, ...] = ()


def install(
    connection: Connection,
    tables: Iterable[str],
    *,
    namespaces: Collection[str] = ("stockstore",),
    outbox: Outbox | None = None,
    note: bool = True,
    notify: bool = False,
) -> list[str]:
    """Make the triggers of tables, or make them anew.

    Args:
        connection: One of PostgreSQL, whose transaction is the caller's to commit; its role owns the tables, or may make triggers.
        tables: Names of tables that mapped classes, which are imported already, have their rows in.
        namespaces: The namespaces of all caches that hold these classes.
        outbox: The outbox, which is there.
        note: Whether to note keys in the outbox, for a janitor; without a shared cache there is none that would take the rows away.
        notify: Whether to tell process memory that hears PostgreSQL, within the transaction that writes. PostgreSQL prepares none
            that has (two-phase commits), and their commits wait for one another.

    Returns:
        The names of the tables.

    Raises:
        ConfigurationError: Nobody is to be told, it is no PostgreSQL, a table is not there or no class has its rows in it, or there is no outbox.
    """
    _refuse_others(connection)
    if not (note or notify):
        raise ConfigurationError("triggers note in the outbox (note=True), tell process memory (notify=True), or both")
    if not all(namespaces):
        raise ConfigurationError("a namespace is a text that is not empty")
    configure_mappers()
    mappers = all_mappers()  # held until the end: a class that nobody else holds could go in the middle
    target = _outbox_name(connection, outbox or Outbox())
    found = [table for name in tables for table in _tables_named(name, mappers)]
    for table in found:
        keys = list(_keys(connection, table, mappers))
        spaces = list(map(namespace_text, namespaces))
        _install(connection, table, keys, spaces, target, _ways(keys, spaces, target, note=note, notify=notify))
    return list(dict.fromkeys(table.fullname for table in found))


def remove(connection: Connection, tables: Iterable[str]) -> list[Installed]:
    """Drop the triggers of tables and their functions, and give what was there."""
    gone = installed(connection, tables)
    for trigger in gone:
        _run(connection, f"DROP TRIGGER {trigger.trigger} ON {trigger.table}")
        _run(connection, f"DROP FUNCTION {trigger.function}")
    return gone


def installed(connection: Connection, tables: Iterable[str] | None = None) -> list[Installed]:
    """Give the triggers that are there, of some tables or of all that can be seen."""
    _refuse_others(connection)
    names = [None] if tables is None else [_named(connection, name) for name in tables]
    rows = [row for name in names for row in connection.execute(_INSTALLED, {"name": _NAME, "table": name})]
    return [Installed(*row) for row in rows]


def _refuse_others(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        raise ConfigurationError(f"triggers can be made on PostgreSQL, not on {connection.dialect.name}; call sync.invalidate() there")


def _named(connection: Connection, name: str) -> str:
    """Give the table of a name with or without a schema's before it; a table's own name may have a point."""
    quote = connection.dialect.identifier_preparer.quote
    whole = single_percents(quote(name), name)
    return _lookup(connection, whole) or _existing(connection, single_percents(".".join(map(quote, name.split("."))), name))


def _lookup(connection: Connection, name: str) -> str | None:
    found: str | None = connection.execute(text("SELECT CAST(to_regclass(:name) AS text)"), {"name": name}).scalar()
    return found


def _existing(connection: Connection, name: str) -> str:
    found = _lookup(connection, name)
    if found is None:
        raise ConfigurationError(f"the database has no table {name}; give its schema too where that is not in the search path")
    return found


def _outbox_name(connection: Connection, outbox: Outbox) -> str:
    table = outbox.definition
    place = text(
        "SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE pg_class.oid = to_regclass(:name)"
    )
    schema = connection.execute(place, {"name": _quoted(connection, table)}).scalar()
    if schema is None:
        raise ConfigurationError(
            f"the database has no table {table.fullname}, which the triggers write to; make it with Outbox().create(engine)"
        )
    return f"{schema}.{connection.dialect.identifier_preparer.quote(table.name)}"


def _tables_named(name: str, mappers: Collection[Mapper[Any]]) -> list[Table]:
    tables = {table: None for mapper in mappers for table in mapper.tables if isinstance(table, Table)}
    found = [table for table in tables if name in {table.fullname, table.name}]
    if not found:
        known = ", ".join(sorted({table.fullname for table in tables})) or "none"
        raise ConfigurationError(f"no mapped class has its rows in a table {name!r}; those imported have theirs in {known}")
    return found


def _install(connection: Connection, table: Table, keys: Sequence[_Key], namespaces: Sequence[str], outbox: str, ways: str) -> None:
    name = _quoted(connection, table)
    _existing(connection, name)
    schema = outbox.rpartition(".")[0]
    for event, (referencing, sources) in _EVENTS.items():
        function = f"{schema}.{_NAME}{event}_{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}"
        body = _body(keys, sources, namespaces) + ways
        _run(connection, _function(function, body))
        _run(connection, f"DROP TRIGGER IF EXISTS {_NAME}{event} ON {name}")
        _run(
            connection,
            f"CREATE TRIGGER {_NAME}{event} AFTER {event} ON {name} {referencing} FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
        )


def _quoted(connection: Connection, table: Table) -> str:
    return single_percents(connection.dialect.identifier_preparer.format_table(table), table.fullname)


def _keys(connection: Connection, table: Table, mappers: Collection[Mapper[Any]]) -> Iterator[_Key]:
    """Give the key of each hierarchy that has rows in a table, by the mapper that knows most of its columns."""
    types = _types(connection, table)
    found: dict[KeyPlan, _Key] = {}
    for mapper in mappers:
        if table in mapper.tables:
            lists = listings(connection, identity_class(mapper.class_), table, types)
            key = _key(connection, mapper, table, types)._replace(lists=lists)
            if key.parts or key.plan not in found:
                found[key.plan] = key
    yield from found.values()


def _types(connection: Connection, table: Table) -> dict[str, str]:
    asked = text("SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attnum > 0")
    return {row.attname: row.type for row in connection.execute(asked, {"name": _quoted(connection, table)})}


def _key(connection: Connection, mapper: Mapper[Any], table: Table, types: dict[str, str]) -> _Key:
    plan = keys_of(identity_class(mapper.class_)).identity
    columns = [column for name in plan.names if (column := column_of(mapper, name, table)) is not None]
    parts = [part_of(column, f"k{number}", types.get(column.name, "")) for number, column in enumerate(columns)]
    if len(columns) < len(plan.names) or not all(parts):
        return _Key(plan, (), ())
    return _Key(
        plan,
        tuple(single_percents(connection.dialect.identifier_preparer.quote(column.name), column.name) for column in columns),
        tuple(parts),
    )


def _function(name: str, body: str) -> str:
    # The one who writes need not have any right to the outbox. No name of a column can end the quotes.
    quotes = f"$stockstore_{hashlib.blake2b(body.encode(), digest_size=6).hexdigest()}$"
    return f"""
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {quotes}
DECLARE
    {_TOLD} text;
BEGIN
    IF current_setting('stockstore.synced', true) = '1' THEN
        RETURN NULL;
    END IF;
{body}
    RETURN NULL;
END
{quotes}"""


def _body(keys: Sequence[_Key], sources: Sequence[str], namespaces: Sequence[str]) -> str:
    whole = f"{_TOLD} := '{_classes(keys, namespaces)}';"
    if not sources:
        return f"    {whole}"
    some = " UNION ALL ".join(f"SELECT 1 FROM {source}" for source in sources)
    selects = [_texts(key, sources, space) for space in namespaces for key in keys]
    selects += [listing.texts(sources, space) for space in namespaces for key in keys for listing in key.lists]
    texts = "\n        UNION ALL\n".join(selects)
    return f"""
    IF (SELECT count(*) FROM (SELECT 1 FROM ({some}) AS changed LIMIT {ROWS_LIMIT + 1}) AS first) > {ROWS_LIMIT} THEN
        {whole}
    ELSE
        {_TOLD} := (SELECT string_agg(DISTINCT key, E'\\n') FROM (
{texts}
        ) AS keys);
    END IF;"""


def _classes(keys: Sequence[_Key], namespaces: Sequence[str]) -> str:
    return "\n".join(f"{space}:{key.plan.label}:" for space in namespaces for key in keys)


def _ways(keys: Sequence[_Key], namespaces: Sequence[str], outbox: str, *, note: bool, notify: bool) -> str:
    """Give what notes keys in the outbox, and what tells of them those who listen, in one payload: of a long list the classes."""
    classes = _classes(keys, namespaces)
    short = classes if len(classes) < PAYLOAD_LIMIT else "\n".join(f"{space}:" for space in namespaces)
    noted = f"INSERT INTO {outbox} (texts) VALUES ({_TOLD});" if note else ""
    payload = f"E'\\n' || CASE WHEN octet_length({_TOLD}) < {PAYLOAD_LIMIT} THEN {_TOLD} ELSE '{short}' END"
    told = f"PERFORM pg_notify('{CHANNEL}', {payload});" if notify else ""
    return f"""
    IF {_TOLD} IS NOT NULL THEN
        {noted} {told}
    END IF;"""


def _texts(key: _Key, sources: Sequence[str], namespace: str) -> str:
    whole = f"'{namespace}:{key.plan.label}:'"
    # By names of our own: a column may be called as a variable of PL/pgSQL is.
    named = [", ".join([f"{source}.{column} AS k{number}" for number, column in enumerate(key.columns)] or ["1"]) for source in sources]
    rows = " UNION ALL ".join(f"SELECT {columns} FROM {source}" for columns, source in zip(named, sources, strict=True))
    if not key.parts:
        return f"        SELECT {whole} AS key FROM ({rows}) AS changed"
    made = " || ':' || ".join(f"({part})" for part in key.parts)
    return f"""        SELECT coalesce(CASE WHEN length(made) < {KEY_LIMIT} THEN made END, {whole}) AS key FROM (
            SELECT '{key_prefix("", key.plan.record_space).replace(":", namespace + ":", 1)}' || {made} AS made FROM ({rows}) AS changed) AS made"""


def _run(connection: Connection, statement: str) -> None:
    # Neither colons nor percent signs mean a parameter here.
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
