"""The private names of SQLAlchemy by which statements tell what they write mean what they are taken to mean."""

from typing import Any

from sqlalchemy import Delete, Insert, Update, delete, insert, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import load_only

from tests.stores.shop import Customer

COLUMNS: Any = Customer.__table__.c


def test_insert() -> None:
    """_values are those of one row, _multi_values those of several, and _post_values_clause says what a conflict does."""
    plain: Insert = insert(Customer)
    assert (plain._values, plain._multi_values, plain._post_values_clause, plain._prefixes) == (None, (), None, ())
    assert [*(plain.values(id=1)._values or {})] == [COLUMNS.id]
    rows = plain.values([{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
    assert rows._values is None
    assert [dict(row) for several in rows._multi_values for row in several] == [
        {COLUMNS.id: 1, COLUMNS.name: "a"},
        {COLUMNS.id: 2, COLUMNS.name: "b"},
    ]
    kinds: list[Any] = [
        insert_or(Customer).on_conflict_do_nothing(),
        insert_or(Customer).on_conflict_do_update(index_elements=["id"], set_={"name": "a"}),
    ]
    assert [kind._post_values_clause.__visit_name__ for kind in kinds] == ["on_conflict_do_nothing", "on_conflict_do_update"]
    assert len(plain.prefix_with("OR REPLACE")._prefixes) == 1


def test_update() -> None:
    """What is set stands in _values, or in _ordered_values where there are such."""
    plain: Update = update(Customer)
    assert not plain._values
    assert not getattr(plain, "_ordered_values", None)
    assert [*(plain.values(name="a")._values or {})] == [COLUMNS.name]
    ordered: Any = plain.ordered_values((COLUMNS.name, "a"), (COLUMNS.status, "b"))
    pairs = ordered._values or ordered._ordered_values
    assert [pair[0] if isinstance(pair, tuple) else pair for pair in pairs] == [COLUMNS.name, COLUMNS.status]


def test_criteria_and_returning() -> None:
    """Criteria, options, and columns that are given back stand in collections of their own."""
    plain: Delete = delete(Customer)
    assert (plain._where_criteria, plain._with_options, plain._returning) == ((), (), ())
    assert not plain._return_defaults
    made: Any = plain.where(Customer.id == 1, Customer.name == "a").options(load_only(Customer.id)).returning(Customer.id)
    assert [criterion.right.value for criterion in made._where_criteria] == [1, "a"]
    assert (len(made._with_options), len(made._returning)) == (1, 1)
    assert insert(Customer).return_defaults()._return_defaults
