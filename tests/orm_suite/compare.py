"""Compares what SQLAlchemy's tests did without and with the hook, outcome by outcome, against the list of those that may differ.

A test may differ in nothing but the SQL that it counts or compares, and in what it hears of events and of ``get_bind``. Assertions about
SQL do not end a test here, so a test that differs in them has found all its values right. Each test that differs is on the list: by the
first statement that does, or by the assertion that fails. That a write gives its rows' keys back is the one way in which it may differ.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.orm_suite.run import Test, Tests

SERVED: Final = "a read was served"
REPLACED: Final = "a read was made by plain columns, to fill"
ADDED: Final = "rows were read before the commit, or keys before a statement"
RETURNED: Final = "a write gave its rows' keys back"
_LONGEST: Final = 160
_NO_ERROR: Final = ("passed", "skipped")  # which of several reasons SQLAlchemy gives for a skip is chance
_LISTS: Final = Path(__file__).parent / "listed"
_ADDRESS: Final = re.compile(r"\b0x[0-9a-f]+\b")
_RETURNING: Final = re.compile(r" RETURNING [^;]*")

Entry = dict[str, str]
"""The ``reason``; the ``statement`` that differs, or the ``assertion`` that fails."""


@dataclass
class Comparison:
    """What came of it.

    Attributes:
        identical: How many tests have the same result.
        differing: Those that differ as the list may say, in the list's own form.
        wrong: What must not be: by the test, what is wrong with it.
    """

    identical: int = 0
    differing: dict[str, Entry] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)


def compare(without: Tests, with_hook: Tests, listed: Mapping[str, Entry]) -> Comparison:
    """Compare two runs of the same tests."""
    made = Comparison()
    for name in sorted({*without, *with_hook}):
        if name not in without or name not in with_hook:
            made.wrong[name] = f"ran {'with' if name in with_hook else 'without'} the hook alone"
            continue
        found = difference(without[name], with_hook[name], listed.get(name, {}))
        if found is None:
            made.identical += 1
        else:
            made.differing[name] = found
        wrong = _judge(found, listed.get(name), with_hook[name])
        if wrong:
            made.wrong[name] = wrong
    return made


def difference(without: Test, with_hook: Test, listed: Entry) -> Entry | None:
    """Give in the list's form how a test differs, ``None`` where it has the same result."""
    if without.outcome != with_hook.outcome or (without.outcome not in _NO_ERROR and _told(without) != _told(with_hook)):
        assertion = listed.get("assertion", "")
        return {"reason": listed["reason"], "assertion": assertion} if assertion and assertion in with_hook.why else _failing(with_hook)
    if all(bool(one["error"]) == bool(other["error"]) for one, other in zip(without.sql, with_hook.sql, strict=False)):
        return None
    changes = [change for pair in zip(without.sql, with_hook.sql, strict=False) for change in _changes(*pair)]
    return {"reason": _reason(changes), "statement": shortened(changes[0])}


def _failing(test: Test) -> Entry:
    return {"reason": "", "assertion": _told(test)}


def _told(test: Test) -> str:
    """Give the last line of a traceback that says what is wrong."""
    lines = [line for line in test.why.strip().splitlines() if re.match(r"\S*(Error|Exception|Exit|Warning)\b", line)]
    return shortened(lines[-1]) if lines else test.why.strip()[-_LONGEST:]


def _changes(without: Mapping[str, Any], with_hook: Mapping[str, Any]) -> Iterator[str]:
    for line in difflib.ndiff(without["statements"], with_hook["statements"]):
        if line[0] in "+-":
            yield line


def _reason(changes: Sequence[str]) -> str:
    """Say why what the hook does may differ so; ``""`` where nothing that it does explains it."""
    writes = [change for change in changes if not change[2:].startswith(("SELECT", "WITH"))]
    if writes:
        return RETURNED if _bare("-", writes) == _bare("+", writes) else ""
    signs = {change[0] for change in changes}
    return REPLACED if len(signs) > 1 else SERVED if "-" in signs else ADDED


def _bare(sign: str, writes: Sequence[str]) -> list[str]:
    """Give what was written without or with the hook, less what it was to give back."""
    return [_RETURNING.sub("", write[2:]) for write in writes if write[0] == sign]


def shortened(text: str) -> str:
    """Give a text as it stands in a list: on one line, not too long, without addresses."""
    text = _ADDRESS.sub("0x", " ".join(text.split()))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _judge(found: Entry | None, listed: Entry | None, test: Test) -> str:
    """Say what is wrong with how a test differs; ``""``: nothing."""
    if found is None:
        return "" if listed is None else f"is listed ({listed['reason']}), and has the same result"
    if found == listed and found["reason"]:
        return ""
    if "assertion" in found:
        return f"{test.outcome}: {found['assertion']}"
    told = (
        "is not listed"
        if listed is None
        else f"is listed otherwise ({listed['reason']}: {listed.get('statement', listed.get('assertion'))})"
    )
    return f"{told}; {found['reason'] or 'a write was made otherwise'}: {found['statement']}"


# -- the lists --------------------------------------------------------------------------------------


def list_path(version: str, mode: str) -> Path:
    """Give where the list for a version of SQLAlchemy and what is attached stands."""
    return _LISTS / f"{'.'.join(version.split('.')[:2])}-{mode}.json"


def read_list(path: Path) -> dict[str, Entry]:
    """Give the tests that may differ."""
    found: dict[str, Entry] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write_list(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write the tests that may differ, one on a line."""
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(entries.items()))
    path.write_text(f"{{\n{lines}\n}}\n" if entries else "{}\n", encoding="utf-8")
