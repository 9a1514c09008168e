"""When a delivery is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_service.notify.schedule import DELAYS, next_try, retry_after

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
DAYS = timedelta(days=3)


def tries(chance: float) -> list[datetime]:
    """The times of all tries of a receiver that always fails at once."""
    times, attempt, give_up = [NOW], 1, NOW + DAYS
    while (due := next_try(attempt, times[-1], give_up, chance, None)) is not None:
        times.append(due)
        attempt += 1
    return times


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_tries_are_spread_over_three_days_and_the_last_one_is_at_the_end(chance: float) -> None:
    times = tries(chance)
    assert times[-1] == NOW + DAYS
    assert 15 <= len(times) <= 20
    assert times[4] - NOW < timedelta(minutes=30), "a short outage is over soon"
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) <= timedelta(hours=8) * 1.2


@given(
    attempt=st.integers(1, 60),
    chance=st.floats(0, 0.999),
    left=st.integers(1, 10**6),
    asked=st.none() | st.integers(-(10**5), 10**7),
)
def test_a_try_is_later_than_the_failure_and_not_after_the_end(
    attempt: int, chance: float, left: int, asked: int | None
) -> None:
    end = NOW + timedelta(seconds=left)
    after = None if asked is None else NOW + timedelta(seconds=asked)
    due = next_try(attempt, NOW, end, chance, after)
    assert due is not None
    assert NOW < due <= end
    shortest = timedelta(seconds=DELAYS[min(attempt, len(DELAYS)) - 1] * 0.8)
    assert due == end or due >= NOW + shortest
    if after is not None:
        assert due >= min(after, end), "the receiver's wish is kept"


def test_a_delivery_whose_time_is_over_is_given_up() -> None:
    assert next_try(3, NOW, NOW, 0.5, None) is None
    assert next_try(3, NOW, NOW - DAYS, 0.5, NOW + DAYS) is None


def test_deliveries_that_failed_together_do_not_return_together() -> None:
    assert next_try(5, NOW, NOW + DAYS, 0.0, None) != next_try(5, NOW, NOW + DAYS, 0.9, None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("999999999999999999", 366 * 86_400),
        ("Sun, 29 Nov 2026 12:02:00 GMT", 120),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("\N{ARABIC-INDIC DIGIT FIVE}", None),
        ("Sun, 99 Nov 2026 12:02:00 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: int | None) -> None:
    assert retry_after(value, NOW) == (None if seconds is None else NOW + timedelta(seconds=seconds))
