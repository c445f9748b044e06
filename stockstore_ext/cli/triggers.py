"""``stockstore triggers``."""

import sys
from argparse import Namespace
from importlib import import_module
from itertools import groupby
from typing import TYPE_CHECKING

from stockstore.errors import ConfigurationError
from stockstore.evidence import Outbox
from stockstore_ext.cli.connecting import add_database, database
from stockstore_ext.sqlalchemy import triggers

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction


def add_to(commands: "_SubParsersAction[ArgumentParser]") -> None:
    """Add the command and its own commands."""
    text = "note in the outbox what anybody writes to tables of PostgreSQL"
    actions = commands.add_parser("triggers", help=text, description=text).add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    install = _action(actions, "install", "make the triggers of tables, and the outbox where it is not there", install_triggers)
    install.add_argument("--models", metavar="MODULE", action="append", required=True, help="a module of mapped classes; may be repeated")
    install.add_argument("--namespace", metavar="NAME", action="append", help="a cache's namespace (stockstore); may be repeated")
    install.add_argument("--notify", action="store_true", help="tell process memory that hears PostgreSQL, within the writing transaction")
    install.add_argument("--no-note", action="store_true", help="note nothing in the outbox, as where there is no shared cache")
    remove = _action(actions, "remove", "drop the triggers of tables", remove_triggers)
    for parser in (install, remove):
        parser.add_argument("--table", metavar="NAME", action="append", required=True, help="a table; may be repeated")
    show = _action(actions, "show", "list the triggers that are there", show_triggers)
    show.add_argument("--table", metavar="NAME", action="append", help="a table (all); may be repeated")


def _action(actions: "_SubParsersAction[ArgumentParser]", name: str, text: str, run: object) -> "ArgumentParser":
    parser = actions.add_parser(name, help=text, description=text)
    add_database(parser)
    parser.set_defaults(run=run)
    return parser


def install_triggers(asked: Namespace) -> None:
    """Import the classes, and make the triggers of the tables."""
    # A console script's path has not the directory that it is called in.
    sys.path.insert(0, "")
    for module in asked.models:
        _import(module)
    with database(asked.database) as engine, engine.begin() as connection:
        Outbox().definition.create(connection, checkfirst=True)
        for name in triggers.install(
            connection, asked.table, namespaces=asked.namespace or ["stockstore"], note=not asked.no_note, notify=asked.notify
        ):
            print(f"installed on {name}")


def _import(module: str) -> None:
    try:
        import_module(module)
    except Exception as error:
        raise ConfigurationError(f"the module {module!r} cannot be imported: {type(error).__name__}: {error}") from error


def remove_triggers(asked: Namespace) -> None:
    """Drop the triggers of the tables."""
    with database(asked.database) as engine, engine.begin() as connection:
        for table in dict.fromkeys(trigger.table for trigger in triggers.remove(connection, asked.table)):
            print(f"removed from {table}")


def show_triggers(asked: Namespace) -> None:
    """List the triggers."""
    with database(asked.database) as engine, engine.connect() as connection:
        found = triggers.installed(connection, asked.table)
    for table, there in groupby(found, lambda trigger: trigger.table):
        print(f"{table}: {', '.join(trigger.event for trigger in there)}")
