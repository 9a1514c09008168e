"""Which periods an operation is about: exact starts, kinds that can be closed, what is recounted together."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import Period, from_micros, micros, period_end, period_start
from meterfold_service import PeriodNotClosed, PeriodNotEnded, PeriodRecordsExpired, RecordsExpired, WindowsDiffer
from meterfold_service.periods.closing import _is_ahead
from meterfold_service.periods.operations import _chunks, _closable, _following, _start
from meterfold_sink.closing_recount import WindowDifference
from meterfold_sink.period_closings import CLOSED

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
INSTANTS = st.integers(micros(datetime(2000, 1, 1, tzinfo=UTC)), micros(datetime(2100, 1, 1, tzinfo=UTC)))
KINDS = st.sampled_from(CLOSED)


@pytest.mark.parametrize("period", ["hourly", "daily", "monthly"])
def test_periods_that_end_and_are_stored_can_be_closed(period: str) -> None:
    assert _closable(period) == period


@pytest.mark.parametrize(
    ("period", "remedy"),
    [("weekly", "the sum of its days"), ("yearly", "the sum of its months"), ("lifetime", ""), ("month", "")],
)
def test_others_are_refused_with_what_to_do(period: str, remedy: str) -> None:
    with pytest.raises(InvalidUsage) as caught:
        _closable(period)
    assert f"period '{period}' cannot be closed: it must be hourly, daily or monthly" in str(caught.value)
    assert remedy in str(caught.value)


@given(KINDS, INSTANTS)
def test_a_start_is_taken_exactly(kind: Period, instant: int) -> None:
    start = period_start(kind, instant)
    assert _start(kind, from_micros(start)) == start
    if instant != start:
        with pytest.raises(InvalidUsage, match="starts at"):
            _start(kind, from_micros(instant))


def test_a_month_of_another_time_zone_is_not_the_month_before() -> None:
    berlin = timezone(timedelta(hours=2))
    with pytest.raises(InvalidUsage) as caught:
        _start("monthly", datetime(2026, 10, 1, tzinfo=berlin))
    assert "2026-10-01T00:00:00+02:00 is not the start of a monthly period in UTC" in str(caught.value)
    assert "starts at 2026-09-01T00:00:00+00:00" in str(caught.value)
    with pytest.raises(InvalidUsage, match="timezone-aware"):
        _start("monthly", datetime(2026, 10, 1))  # noqa: DTZ001


@given(KINDS, INSTANTS, st.integers(1, 50))
def test_periods_follow_each_other_without_gaps_and_are_recounted_once(kind: Period, instant: int, count: int) -> None:
    first = period_start(kind, instant)
    starts = [start for start, _ in zip(_following(kind, first), range(count), strict=False)]
    assert all(period_end(kind, one) == other for one, other in pairwise(starts))
    chunks = list(_chunks(kind, reversed(starts)))
    assert [start for chunk in chunks for start in chunk] == starts
    assert all(1 <= len(chunk) <= 31 for chunk in chunks)
    # Records of one chunk arrived within one bound, so that no recount reads more than a month beside its own.
    assert all(chunk[-1] - chunk[0] < micros(OCTOBER + timedelta(days=31)) - micros(OCTOBER) for chunk in chunks)


def test_a_month_has_its_days() -> None:
    end = micros(datetime(2026, 11, 1, tzinfo=UTC))
    days = list(takewhile(lambda start: start < end, _following(Period.DAILY, micros(OCTOBER))))
    assert len(days) == 31
    assert len(list(_chunks(Period.DAILY, days))) == 1
    assert len(list(_chunks(Period.HOURLY, [start for day in days[:2] for start in (day, day + 1)]))) == 2


def test_a_closing_with_later_events_is_ahead() -> None:
    assert _is_ahead({0: 5, 1: 7}, {0: 5, 1: 6})
    assert not _is_ahead({0: 5, 1: 6}, {0: 5, 1: 6})
    assert not _is_ahead({0: 4, 1: 7}, {0: 5, 1: 6})
    assert not _is_ahead({0: 4}, {0: 4, 1: 6})


def test_errors_say_what_happened_and_what_to_do_and_can_be_sent_to_another_process() -> None:
    difference = WindowDifference(
        "acme", "calls", "user", "ada", OCTOBER, 0, "different", 2, 1, Decimal("5.000"), Decimal(4)
    )
    found = {
        WindowsDiffer("monthly", OCTOBER, "", 4, [difference]): (
            "WINDOWS_DIFFER",
            "the month 2026-10 was not closed: 4 windows differ from a recount of the records: acme/calls/user/ada "
            "(different: stored 2 records with sum 5, recounted 1 record with sum 4) and 3 more. "
            "Run `meterfold verify` to find the cause",
        ),
        PeriodRecordsExpired("daily", OCTOBER, "calls", 1, OCTOBER): (
            "RECORDS_EXPIRED",
            "the day 2026-10-01 cannot be closed for calls: 1 record of it has expired, so its windows cannot be "
            "recounted. Close periods before their records expire, for example with a scheduled "
            "`meterfold periods close --due`",
        ),
        PeriodNotEnded("hourly", OCTOBER, OCTOBER + timedelta(hours=2)): (
            "PERIOD_NOT_ENDED",
            "the hour 2026-10-01 00:00 UTC has not ended: it can be closed from 2026-10-01 02:00 UTC on, when its "
            "grace period is over",
        ),
        PeriodNotClosed("monthly", OCTOBER, "", 3, 2): (
            "PERIOD_NOT_CLOSED",
            "the month 2026-10 has 2 closings, not 3. Close it with `meterfold periods close --period monthly`, or see "
            "`meterfold periods list`",
        ),
    }
    for error, (code, text) in found.items():
        assert (error.code, str(error)) == (code, text)
        copied = copy.copy(error)  # as pickle does it
        assert (type(copied), str(copied), copied.__dict__) == (type(error), text, error.__dict__)
    assert issubclass(PeriodRecordsExpired, RecordsExpired)
