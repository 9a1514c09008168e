"""Which times of an event count: the rule that the SDK and `import` apply before sending, and the fold on arrival."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.fold.validate import timely
from meterfold_schemas.usage_rules import age_problem

SECOND = 1_000_000
DAY = 86_400 * SECOND
ARRIVAL = 1_795_000_000 * SECOND
HORIZON = 35 * DAY
TOLERANCE = 300 * SECOND


@pytest.mark.parametrize(
    ("distance", "reason"),
    [
        (0, None),
        (-HORIZON, None),
        (-HORIZON - 1, "too_old"),
        (-75 * DAY, "too_old"),
        (TOLERANCE, None),
        (TOLERANCE + 1, "in_future"),
        (365 * DAY, "in_future"),
        (-(10**18), "too_old"),
        (10**18, "in_future"),
    ],
)
def test_both_limits_are_included(distance: int, reason: str | None) -> None:
    problem = age_problem(ARRIVAL + distance, ARRIVAL, HORIZON, TOLERANCE)
    assert (problem and problem.reason) == reason


def test_an_unknown_limit_is_not_checked() -> None:
    assert age_problem(ARRIVAL - 75 * DAY, ARRIVAL, None, TOLERANCE) is None
    assert age_problem(ARRIVAL + 75 * DAY, ARRIVAL, HORIZON, None) is None


def test_the_text_names_rule_timestamp_limit_and_remedy() -> None:
    old = str(age_problem(ARRIVAL - 75 * DAY, ARRIVAL, HORIZON, TOLERANCE))
    assert old.startswith(
        "timestamp 2026-09-04T11:06:40Z is too old: the oldest that counts is 2026-10-14T11:06:40Z, "
        "35 days (the horizon) before the event arrives. "
    )
    assert "horizon_seconds" in old
    ahead = str(age_problem(ARRIVAL + TOLERANCE + 1, ARRIVAL, HORIZON, TOLERANCE))
    assert ahead.startswith(
        "timestamp 2026-11-18T11:11:40.000001Z is in the future: the latest that counts is 2026-11-18T11:11:40Z, "
        "5 minutes (the future tolerance) after the event arrives. "
    )
    assert "time zone" in ahead


@pytest.mark.parametrize(
    ("span", "text"),
    [(DAY, "1 day"), (5400 * SECOND, "90 minutes"), (SECOND, "1 second"), (0, "0 seconds"), (1_500_000, "1.5 seconds")],
)
def test_spans_are_said_exactly(span: int, text: str) -> None:
    assert f", {text} (the horizon)" in str(age_problem(ARRIVAL - span - 1, ARRIVAL, span, None))


@given(
    distance=st.integers(-(10**15), 10**15),
    horizon=st.integers(0, 10**15),
    tolerance=st.integers(0, 10**15),
)
def test_the_fold_decides_the_same(distance: int, horizon: int, tolerance: int) -> None:
    time = ARRIVAL + distance
    counts = pl.select(timely(pl.lit(time), pl.lit(ARRIVAL), horizon, tolerance)).item()
    assert (age_problem(time, ARRIVAL, horizon, tolerance) is None) == counts
