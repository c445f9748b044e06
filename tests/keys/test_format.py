"""The key texts. A change here makes what is stored unreachable for processes of another version."""

import subprocess
import sys

import pytest

from stockstore.keys import keys_of
from tests.keys.samples import GERMAN, VALUES, VERY_LONG, Sprawling, User, all_texts, text_of_key

pytestmark = pytest.mark.sa_agnostic


@pytest.mark.parametrize(("value", "part"), VALUES)
def test_values_have_these_texts(value: object, part: str) -> None:
    """Each sort of value has this text behind namespace, class and name, in each place of a key."""
    assert text_of_key(User, value) == f"shop:tests.keys.samples.User:id:{part}"
    assert text_of_key(User, {"username": value, "tenant": value}) == f"shop:tests.keys.samples.User:tenant,username:{part}:{part}"


def test_aliases_have_these_texts() -> None:
    """An alias is marked as such behind the class."""
    plan, native, _ = keys_of(User).lookup({"username": "ann", "tenant": 7})
    assert plan.alias_text("shop", native) == "shop:tests.keys.samples.User:~tenant,username:i7:sann"


LONG = [
    (text_of_key(User, "x" * 300), f"shop:tests.keys.samples.User:id:s{'x' * 184}~3612c5742c4a5f8eeb683854768bcf67"),
    (text_of_key(GERMAN, 1), "shop:tests.keys.samples.Gr%C3%B6%C3%9Fe:gr%C3%B6%C3%9Fe:i1"),
    (
        text_of_key(Sprawling, tuple(range(12))),
        (
            "shop:tests.keys.samples.Sprawling:a_rather_long_attribute_name_00,a_rather_long_attribute_name_01,"
            "a_rather_long_attribute_name_02,a_rather_long_attribute_name_03,a_rather_long_attribute_name_04,"
            "a_rather_long_attribute~a8025b1960e2275050c3715aee14bfce"
        ),
    ),
    (
        text_of_key(VERY_LONG, 1, namespace="n" * 99),
        f"nnnnnnn~5064fe92457f152514136c746da417bb:tests.keys.samples.{'Very' * 12}~3e7879eaf5f51022cc21c49f9f21d906:id:i1",
    ),
    (text_of_key(User, 1, namespace="ten ant:ü"), "ten%20ant%3A%C3%BC:tests.keys.samples.User:id:i1"),
]


@pytest.mark.parametrize(("found", "expected"), LONG)
def test_long_names_and_values_have_these_texts(found: str, expected: str) -> None:
    """What is too long is cut and ends in a digest."""
    assert found == expected


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_texts_are_the_same_in_every_process(seed: str) -> None:
    """Another process with another hash seed writes the very same texts."""
    script = "from tests.keys.samples import all_texts; print('\\n'.join(all_texts()))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == all_texts()
