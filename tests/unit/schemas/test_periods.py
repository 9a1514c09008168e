"""Period maths against the calendar of the standard library."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import RESET_PERIOD, Period, from_micros, micros, period_end, period_start

BOUNDED = [period for period in Period if period is not Period.LIFETIME]
# A year inside datetime's own limits, so that every window's end exists there too.
MOMENTS = st.integers(micros(datetime(2, 1, 1, tzinfo=UTC)), micros(datetime(9998, 12, 31, tzinfo=UTC))).map(
    from_micros
)


def calendar_start(period: Period, moment: datetime) -> datetime:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case Period.HOURLY:
            return moment.replace(minute=0, second=0, microsecond=0)
        case Period.DAILY:
            return midnight
        case Period.WEEKLY:
            return midnight - timedelta(days=moment.weekday())
        case Period.MONTHLY:
            return midnight.replace(day=1)
        case Period.YEARLY:
            return midnight.replace(month=1, day=1)
        case Period.LIFETIME:
            return datetime(1970, 1, 1, tzinfo=UTC)


def calendar_end(period: Period, start: datetime) -> datetime:
    match period:
        case Period.MONTHLY:
            return (start + timedelta(days=32)).replace(day=1)
        case Period.YEARLY:
            return start.replace(year=start.year + 1)
        case _:
            days = {Period.DAILY: 1, Period.WEEKLY: 7}
            return start + (timedelta(days=days[period]) if period in days else timedelta(hours=1))


@given(st.sampled_from(list(Period)), MOMENTS)
def test_starts_are_the_calendars(period: Period, moment: datetime) -> None:
    assert from_micros(period_start(period, micros(moment))) == calendar_start(period, moment)


@given(st.sampled_from(BOUNDED), MOMENTS)
def test_ends_are_the_calendars(period: Period, moment: datetime) -> None:
    start = period_start(period, micros(moment))
    end = period_end(period, start)
    assert end is not None
    assert from_micros(end) == calendar_end(period, from_micros(start))


@given(st.sampled_from(BOUNDED), st.integers(-(2**62), 2**62))
def test_windows_are_half_open_and_leave_no_gap(period: Period, instant: int) -> None:
    start = period_start(period, instant)
    end = period_end(period, start)
    assert end is not None
    assert start <= instant < end
    assert period_start(period, start) == start
    assert period_start(period, end - 1) == start
    assert period_start(period, end) == end


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        (datetime(2024, 2, 29, 23, 59, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)),
        (datetime(1900, 2, 28, tzinfo=UTC), datetime(1900, 2, 1, tzinfo=UTC), datetime(1900, 3, 1, tzinfo=UTC)),
        (datetime(2000, 12, 31, tzinfo=UTC), datetime(2000, 12, 1, tzinfo=UTC), datetime(2001, 1, 1, tzinfo=UTC)),
        (datetime(1969, 12, 31, tzinfo=UTC), datetime(1969, 12, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_months_with_leap_days_and_at_the_turn_of_a_year(moment: datetime, start: datetime, end: datetime) -> None:
    found = period_start(Period.MONTHLY, micros(moment))
    assert from_micros(found) == start
    ended = period_end(Period.MONTHLY, found)
    assert ended is not None
    assert from_micros(ended) == end


def test_a_lifetime_starts_at_zero_and_never_ends() -> None:
    assert period_start(Period.LIFETIME, 10**15) == 0
    assert period_end(Period.LIFETIME, 0) is None


@given(MOMENTS, st.timezones())
def test_micros_are_exact_in_any_timezone(moment: datetime, zone: ZoneInfo) -> None:
    assert from_micros(micros(moment.astimezone(zone))) == moment


@given(MOMENTS, st.timezones())
def test_a_local_time_that_a_clock_change_skips_is_read_as_python_reads_it(moment: datetime, zone: ZoneInfo) -> None:
    local = moment.replace(tzinfo=zone)
    assert from_micros(micros(local)) == local.astimezone(UTC)


def test_micros_of_a_fixed_offset() -> None:
    assert micros(datetime(1970, 1, 1, 5, 45, tzinfo=timezone(timedelta(hours=5, minutes=45)))) == 0


@pytest.mark.parametrize("moment", [datetime(2026, 1, 1), 5, "2026-01-01", None])  # noqa: DTZ001
def test_a_time_without_a_timezone_is_refused(moment: object) -> None:
    with pytest.raises(InvalidUsage, match="timezone"):
        micros(moment)  # type: ignore[arg-type]


def test_every_reset_period_has_a_period() -> None:
    from meterfold_schemas.vocabulary import ResetPeriod

    assert {RESET_PERIOD[reset] for reset in ResetPeriod} == set(Period)
    assert RESET_PERIOD[ResetPeriod.NEVER] is Period.LIFETIME
