"""What a caller may group and filter by, and what each wrong argument says."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas.errors import InvalidUsage
from meterfold_service.usage.selection import filters_of, grouping_of
from meterfold_sink.usage_groups import FieldFilter, Grouping, field_conditions


def test_names_are_fields_but_for_the_subject() -> None:
    assert grouping_of(["region", "subject", "model"]) == Grouping(True, ("region", "model"))
    assert grouping_of("model") == Grouping(False, ("model",))
    assert grouping_of(iter(["a"]), by_subject=True) == Grouping(True, ("a",))
    assert grouping_of(()) == Grouping()


def test_one_value_is_a_list_of_one_and_none_is_a_missing_field() -> None:
    assert filters_of({"a": "x", "b": ["x", 1, None], "c": None}) == (
        FieldFilter("a", ('{"value":"x"}',)),
        FieldFilter("b", ('{"value":"x"}', '{"value":1}'), or_missing=True),
        FieldFilter("c", (), or_missing=True),
    )
    assert filters_of({}) == filters_of(None) == ()


TEXT = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=100)


@given(TEXT | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False))
def test_any_value_is_the_value_of_a_json_object(value: Any) -> None:
    ((_, (document,), _),) = [(one.field, one.values, one.or_missing) for one in filters_of({"a": value})]
    assert json.loads(document) == {"value": value}


def test_windows_do_unless_a_metadata_field_is_needed() -> None:
    assert grouping_of("subject", unique="subject").metadata_fields == ()
    every = grouping_of(["b", "subject", "a"], where={"c": 1, "a": 2}, unique="d")
    assert every.metadata_fields == ("b", "a", "c", "d")


@given(st.text(min_size=1))
def test_names_are_never_part_of_the_statement(name: str) -> None:
    grouping = Grouping(False, (name,), (FieldFilter(name, (name,), or_missing=True),), name)
    plain = Grouping(False, ("x",), (FieldFilter("x", ("x",), or_missing=True),), "x")
    assert (grouping.columns(), field_conditions(grouping.filters)) == (
        plain.columns(),
        field_conditions(plain.filters),
    )
    assert set(grouping.parameters()) == {"field_0", "filter_0", "values_0", "unique_field"}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: grouping_of([""]), "the metadata field in group_by must not be empty"),
        (lambda: grouping_of([5]), "the metadata field in group_by must be text, not int 5"),  # type: ignore[list-item]
        (lambda: grouping_of(5), "group_by must be text or a list, not 5"),  # type: ignore[arg-type]
        (lambda: grouping_of(["a", "a"]), "group_by has 'a' twice; give each field once"),
        (lambda: grouping_of([f"f{i}" for i in range(11)]), "group_by has 11 metadata fields; at most 10 are allowed"),
        (lambda: grouping_of((), unique=""), "the metadata field in unique_count must not be empty"),
        (lambda: grouping_of(["x" * 513]), "has 513 bytes; at most 512 are allowed"),
        (lambda: filters_of({"": 1}), "the metadata field in filter must not be empty"),
        (lambda: filters_of({"a": []}), "the filter of 'a' has no value; give at least one, or leave the field out"),
        (lambda: filters_of(["a"]), "filter must be a mapping such as {'region': 'eu'}, not ['a']"),  # type: ignore[arg-type]
        (lambda: filters_of({"subject": "user:ada"}), "give the argument subject=(type, id)"),
        (lambda: filters_of({"a": float("nan")}), "the filter of 'a' has the value nan, which no JSON number has"),
        (lambda: filters_of({"a": [Decimal(1)]}), "has the value Decimal('1') of the type Decimal; give text, a num"),
        (lambda: filters_of({"a": Decimal(1)}), "has the value Decimal('1') of the type Decimal; give text, a num"),
        (lambda: filters_of({"a": {"b": 1}}), "the filter of 'a' must be text or a list, not {'b': 1}"),
        (lambda: filters_of({"a": object()}), "has the value <object object at"),
        (lambda: filters_of({"a": "x\0"}), "has a NUL character"),
        (lambda: filters_of({"a": ["x" * 500] * 20}), "bytes as JSON; at most 8,192 are allowed. Give fewer values"),
    ],
)
def test_what_is_wrong_is_said(made: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidUsage) as caught:
        made()
    assert words in str(caught.value)
