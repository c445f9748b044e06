"""Runs a program with the hook and without, and compares."""

import warnings
from collections.abc import Callable
from typing import Any

from tests.programs import observing
from tests.programs.caches import MODES
from tests.programs.checking import check, check_passed_by, warm
from tests.programs.running import Program, Run, run_in
from tests.programs.world import Database, MakeTiers, World


class Different(AssertionError):
    """With the hook a program shows something else."""


class Twins:
    """Two databases with the same rows, above one of which there are caches.

    Args:
        plain: The URL of the one.
        hooked: The URL of the other.
        tiers: Makes its caches.
        mode: The hook's options, by their name.
    """

    kind: Callable[[World, Program], Run] = Run

    def __init__(self, plain: str, hooked: str, tiers: MakeTiers, mode: str = "exact") -> None:
        """Make the tables."""
        self.plain = self._database(plain, outbox=False)
        self.hooked = self._database(hooked, outbox=mode == "outbox")
        self.tiers, self.settings = tiers, MODES[mode]

    def _database(self, url: str, *, outbox: bool) -> Database:
        return Database(url, outbox=outbox)

    def compare(self, program: Program) -> None:
        """Run a program in both worlds.

        Raises:
            Different: They differ.
        """
        compare(self, program)

    def close(self) -> None:
        """Close the connections."""
        self.plain.close()
        self.hooked.close()


def compare(both: Twins, program: Program) -> None:
    """Run a program in both worlds.

    Raises:
        Different: They differ.
    """
    options = {"expire_on_commit": program.expire, "autoflush": program.autoflush}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with both.plain.plain(**options) as world:
            expected = run_in(world, program, lambda run: None, lambda run: None, both.kind)
        with both.hooked.hooked(both.tiers, both.settings, **options) as world:
            found = run_in(world, program, warm, check_all, both.kind)
    for at, (one, other) in enumerate(zip(expected, found, strict=True)):
        results = one.get("result"), other.get("result")
        if any(map(observing.is_of_lock, results)) and (program.is_joined or both.plain.engine.dialect.name != "sqlite"):
            return  # the hook takes the locks of a flush and a commit in an order of its own
        if any(map(observing.is_of_refusal, results)) and all(map(observing.is_error, results)) and results[0] != results[1]:
            return  # it is refused a lock before anything else is wrong
        if other.get("apart"):
            return  # what came of it is for the database to say
        if one != other:
            raise Different(f"step {at}, {program.steps[at]}:\n" + "\n".join(differences(one, other)))


def check_all(run: Run) -> None:
    """Check what must hold whenever nothing is open."""
    check(run)
    check_passed_by(run)


def differences(without: Any, with_hook: Any, path: str = "") -> list[str]:
    """Tell where two values differ."""
    if without == with_hook:
        return []
    if isinstance(without, dict) and isinstance(with_hook, dict):
        names = sorted({*without, *with_hook}, key=repr)
        return [line for name in names for line in differences(without.get(name, "-"), with_hook.get(name, "-"), f"{path}.{name}")]
    if isinstance(without, list) and isinstance(with_hook, list) and len(without) == len(with_hook):
        return [line for at, pair in enumerate(zip(without, with_hook, strict=True)) for line in differences(*pair, f"{path}[{at}]")]
    return [f"  {path}: {with_hook!r}, without the hook {without!r}"]
