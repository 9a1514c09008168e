"""Cursors: they come back as they were, and nothing else is taken for one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas.errors import InvalidUsage
from meterfold_service.pages import RowOrder, cursor_of, next_offset, offset_of, position_of, sliced
from meterfold_sink.keyset import Key, behind, ordered, sorted_by

KEYS = (Key("at", "Int64"), Key("value", "Decimal(38, 9)"), Key("id", breaks_ties=True))
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.integers(-(2**63), 2**63 - 1), st.decimals(-(10**20), 10**20, places=9), TEXT)
def test_a_cursor_is_the_position_that_it_was_made_of(at: int, value: Any, name: str) -> None:
    position = (at, f"{value:f}", name)
    assert position_of(cursor_of("alerts -at", position), "alerts -at", KEYS) == position


def _cursor(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "====",
        _cursor({}),
        _cursor(["alerts", 1, "1", "a"]),  # of another order
        _cursor(["alerts -at", 1, "1"]),
        _cursor(["alerts -at", True, "1", "a"]),
        _cursor(["alerts -at", 2**63, "1", "a"]),
        _cursor(["alerts -at", 1.5, "1", "a"]),
        _cursor(["alerts -at", 1, "NaN", "a"]),
        _cursor(["alerts -at", 1, "1e5", "a"]),
        _cursor(["alerts -at", 1, "9" * 40, "a"]),
        _cursor(["alerts -at", 1, "1", None]),
        _cursor(["alerts -at", 1, "1", "\ud800"]),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
)
def test_anything_else_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidUsage, match="cursor"):
        position_of(cursor, "alerts -at", KEYS)


def test_an_order_is_chosen_from_a_list_of_names() -> None:
    order = RowOrder("alerts", {"at": KEYS}, "-at")
    keys, after = order.start(None, None)
    assert (sorted_by(keys), after) == ("at DESC, value DESC, id", None)
    assert sorted_by(order.start("at", None)[0]) == "at, value, id"
    with pytest.raises(InvalidUsage, match="must be one of at, -at"):
        order.start("id; DROP TABLE", None)
    cursor = order.cursor("at", (1, "1", "a"))
    with pytest.raises(InvalidUsage, match="same list"):
        order.start("-at", cursor)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.integers(0, 9)), unique=True, min_size=1),
    st.booleans(),
)
def test_the_condition_selects_exactly_what_follows(rows: list[tuple[int, str, int]], down: bool) -> None:
    keys = ordered((Key("a", "Int64"), Key("b"), Key("c", "Int64", breaks_ties=True)), descending=down)

    def place(row: tuple[int, str, int]) -> tuple[int, int, int]:
        sign = -1 if down else 1
        return sign * row[0], sign * ord(row[1]), row[2]

    rows.sort(key=place)
    sql, parameters = behind(keys, rows[0])
    text = sql.replace(" = ", " == ").replace(" AND ", " and ").replace(" OR ", " or ")
    for number, key in enumerate(keys):
        text = text.replace(f"{{after_{number}:{key.type}}}", repr(parameters[f"after_{number}"]))
    found = [row for row in rows if eval(text, {}, dict(zip("abc", row, strict=True)))]  # noqa: S307
    assert found == rows[1:]


def test_a_short_list_has_pages_too() -> None:
    page = sliced("tries", range(5), 2, None)
    assert (page.rows, page.total) == ((0, 1), 5)
    assert sliced("tries", range(5), 2, next_offset("tries", 2, 2, 5)).rows == (4,)
    assert sliced("tries", range(5), 2, next_offset("tries", 2, 2, 5)).cursor is None
    with pytest.raises(InvalidUsage):
        offset_of("tries", next_offset("endpoints", 0, 1, 2))
