"""Columns of times to windows, against datetime and against the calendar of the schemas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.fold import calendar
from meterfold_schemas.periods import Period, from_micros, micros, period_end, period_start

MOMENTS = st.datetimes(datetime(1600, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
NEXT_TO = [timedelta(microseconds=-1), timedelta(0), timedelta(microseconds=1), timedelta(hours=1)]
TURNS = [
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(2023, 3, 1, tzinfo=UTC),
    datetime(2000, 3, 1, tzinfo=UTC),  # a leap year, as every 400 years
    datetime(1900, 3, 1, tzinfo=UTC),  # none
    datetime(2100, 3, 1, tzinfo=UTC),
    datetime(2024, 12, 31, 23, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 1, tzinfo=UTC),
    datetime(2025, 3, 30, 1, tzinfo=UTC),  # clocks change in Berlin
    datetime(2025, 10, 26, 1, tzinfo=UTC),
]


def naive_start(period: Period, moment: datetime) -> datetime:
    if period is Period.LIFETIME:
        return datetime(1970, 1, 1, tzinfo=UTC)
    moment = moment.replace(minute=0, second=0, microsecond=0)
    if period is Period.HOURLY:
        return moment
    day = moment.replace(hour=0)
    match period:
        case Period.WEEKLY:
            return day - timedelta(days=day.weekday())
        case Period.MONTHLY:
            return day.replace(day=1)
        case Period.YEARLY:
            return day.replace(month=1, day=1)
        case _:
            return day


def start_in_columns(period: Period, moments: list[datetime]) -> list[datetime]:
    times = np.array([micros(moment) for moment in moments], dtype=np.int64)
    return [from_micros(start) for start in calendar.starts(period, calendar.ordinals(period, times)).tolist()]


@pytest.mark.parametrize("period", Period)
@given(moments=st.lists(MOMENTS, min_size=1, max_size=20))
def test_windows_are_those_of_datetime(period: Period, moments: list[datetime]) -> None:
    assert start_in_columns(period, moments) == [naive_start(period, moment) for moment in moments]


@pytest.mark.parametrize("period", Period)
def test_turns_of_months_years_and_clocks(period: Period) -> None:
    moments = [turn + step for turn in TURNS for step in NEXT_TO]
    assert start_in_columns(period, moments) == [naive_start(period, moment) for moment in moments]


@pytest.mark.parametrize("period", Period)
@given(time=st.integers(-(10**17), 10**17))
def test_agrees_with_the_schemas(period: Period, time: int) -> None:
    number = calendar.ordinals(period, np.array([time]))
    assert calendar.starts(period, number).tolist() == [period_start(period, time)]
    end = period_end(period, period_start(period, time))
    if end is not None:
        assert calendar.starts(period, number + 1).tolist() == [end]


def test_a_day_has_24_hours_also_where_clocks_change() -> None:
    local = datetime(2025, 3, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    times = [micros(local.astimezone(UTC) + timedelta(hours=hour)) for hour in range(48)]
    hours = calendar.ordinals(Period.HOURLY, np.array(times))
    assert np.diff(hours).tolist() == [1] * 47
    assert len(set(calendar.ordinals(Period.DAILY, np.array(times)).tolist())) == 3
