"""Loads the servers' fixtures, and runs the examples of README and docstrings."""

from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

pytest_plugins = ["tests.servers.plugin", "tests.servers.databases"]

readme = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    pattern="README.md",
    fixtures=["redis_url", "memcached_address", "postgres_schema_url", "tmp_path"],
)
docstrings = Sybil(
    parsers=[DocTestParser()],
    patterns=["stockstore/*.py", "stockstore/**/*.py", "stockstore_ext/*.py", "stockstore_ext/**/*.py"],
    document_types={".py": PythonDocStringDocument},
)

pytest_collect_file = (readme + docstrings).pytest()
