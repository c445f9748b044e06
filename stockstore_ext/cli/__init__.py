"""The command line: ``stockstore janitor`` and ``stockstore triggers``."""

import argparse
import logging
import sys
from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from stockstore.errors import StockstoreError
from stockstore_ext.cli import janitor, triggers

FAILED = 2
"""The exit status of whatever could not be done, as of a wrong command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and give its exit status; what went wrong is told in one line on standard error."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    asked = _parser().parse_args(arguments)
    try:
        asked.run(asked)
    except (StockstoreError, SQLAlchemyError, ImportError) as error:
        told = getattr(error, "orig", None) or error
        print(f"stockstore: {' '.join(str(told).split())}", file=sys.stderr)
        return FAILED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stockstore", description="Keep the caches of a database true.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    janitor.add_to(commands)
    triggers.add_to(commands)
    return parser
