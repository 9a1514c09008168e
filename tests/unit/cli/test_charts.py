"""Bars of text: in proportion, within the width, on either side of zero."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_cli.charts import ASCII, BLOCKS, Bar, bars


def of(*values: object) -> list[Bar]:
    texts = ["-" if value is None else str(value) for value in values]
    return [
        Bar(f"d{number}", None if value is None else Decimal(str(value)), text)
        for number, (value, text) in enumerate(zip(values, texts, strict=True))
    ]


def test_bars_are_in_proportion_and_an_empty_period_has_none() -> None:
    assert bars(of(8, 4, 1, 0, None, "0.001"), 17) == [
        "d0 ████████     8",
        "d1 ████         4",
        "d2 █            1",
        "d3              0",
        "d4              -",
        "d5 ▏        0.001",
    ]


def test_eighths() -> None:
    assert bars(of(64, 33, 9), 14) == ["d0 ████████ 64", "d1 ████▏    33", "d2 █▏        9"]


def test_negative_values_go_left_of_an_axis() -> None:
    assert bars(of(6, -3, 0, "-0.1"), 18) == [
        "d0    │██████    6",
        "d1 ███│         -3",
        "d2    │          0",
        "d3   ▐│       -0.1",
    ]


def test_only_negative_values() -> None:
    assert bars(of(-8, -4), 15) == ["d0 ████████│ -8", "d1     ████│ -4"]


def test_a_narrow_terminal_keeps_label_and_number() -> None:
    assert bars(of(12, None), 8) == ["d0 12", "d1  -"]


def test_ascii() -> None:
    assert bars(of(8, 3), 13, ASCII) == ["d0 ######## 8", "d1 ###      3"]


def test_nothing() -> None:
    assert bars([], 80) == []
    assert bars(of(None, None), 20) == ["d0                 -", "d1                 -"]


VALUES = st.lists(
    st.none() | st.decimals(min_value=-(10**20), max_value=10**20, allow_nan=False, places=9), min_size=1, max_size=20
)


@given(VALUES, st.integers(20, 200), st.sampled_from([BLOCKS, ASCII]))
def test_lines_are_aligned_within_the_width_and_ordered_as_their_values(
    values: list[Decimal | None], width: int, blocks: object
) -> None:
    lines = [Bar(str(number), value, "x") for number, value in enumerate(values)]
    drawn = bars(lines, width, blocks)  # type: ignore[arg-type]
    assert {len(line) for line in drawn} == {width}
    assert all(line.endswith(" x") for line in drawn)

    def size(line: str) -> int:
        parts = BLOCKS.right if blocks is BLOCKS else ""
        found = 8 * (line.count("█") + line.count("#")) + 4 * line.count("▐")
        return found + sum(parts.index(character) + 1 for character in line if parts and character in parts)

    sized = [(value, size(line)) for value, line in zip(values, drawn, strict=True) if value is not None]
    for value, cells in sized:
        assert (cells > 0) == (value != 0)
        for other, more in sized:
            if value * other > 0 and abs(value) < abs(other):
                assert cells <= more


@pytest.mark.parametrize("highest", ["1", "123456789012345678901.123456789"])
def test_the_largest_value_fills_its_side(highest: str) -> None:
    (line,) = bars([Bar("a", Decimal(highest), "x")], 30)
    assert line.count("█") == 26
