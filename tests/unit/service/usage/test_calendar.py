"""Calendar arithmetic against a plain recount: to which period an instant belongs, and what windows make of it."""

from __future__ import annotations

import zoneinfo
from calendar import monthrange
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import HOUR, Period, from_micros, micros, period_start
from meterfold_service.usage.calendar import Calendar, Window
from meterfold_service.usage.pieces import RECORDS, pieces

MINUTE = HOUR // 60
DAY = 24 * HOUR
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # clocks changed at midnight
    "America/St_Johns",  # half an hour off, changed at 00:01
    "America/Havana",  # falls back to midnight
    "Asia/Kolkata",
    "Asia/Kathmandu",  # 5:45
    "Australia/Lord_Howe",  # changes by half an hour
    "Pacific/Apia",  # skipped 2011-12-30
    "Pacific/Chatham",
    "Africa/Cairo",
    "Asia/Beirut",
    "America/Caracas",
)
SPANS = ("daily", "weekly", "monthly", "yearly", "billing")
instants = st.integers(micros(datetime(1972, 1, 1, tzinfo=UTC)), micros(datetime(2037, 1, 1, tzinfo=UTC)))
zones = st.sampled_from(ZONES)
anchors = st.integers(1, 31)


def calendar(period: str, zone: str, anchor: int = 1) -> Calendar:
    return Calendar.of(period, zone, anchor if period == "billing" else None)


def utc(*parts: int) -> int:
    return micros(datetime(*parts, tzinfo=UTC))


def shown(windows: list[Window], zone: str) -> list[str]:
    """The starts on the local clock."""
    tz = zoneinfo.ZoneInfo(zone)
    return [f"{from_micros(window.start).astimezone(tz):%Y-%m-%d %H:%M}" for window in windows]


def first_day(period: str, day: date, anchor: int) -> date:
    """Another way to say which period a day belongs to: the newest day at or before it on which one begins."""

    def begins(one: date) -> bool:
        match period:
            case "weekly":
                return one.isoweekday() == 1
            case "monthly":
                return one.day == 1
            case "yearly":
                return (one.month, one.day) == (1, 1)
            case "billing":
                return one.day == anchor or (one.day == monthrange(one.year, one.month)[1] and one.day < anchor)
            case _:
                return True

    return next(one for one in (day - timedelta(days=n) for n in range(400)) if begins(one))


@given(period=st.sampled_from((*SPANS, "hourly")), zone=zones, anchor=anchors, at=instants, days=st.integers(0, 60))
@example("daily", "Pacific/Apia", 1, utc(2011, 12, 28, 12), 5)
@example("daily", "America/St_Johns", 1, utc(2009, 11, 1, 2), 2)
@example("hourly", "Australia/Lord_Howe", 1, utc(2026, 4, 4, 12), 1)
@example("hourly", "Asia/Singapore", 1, utc(1981, 12, 31, 12), 1)  # 23:30 was followed by 0:00
@example("hourly", "America/Toronto", 1, utc(1919, 3, 31, 2), 1)  # 23:30 was followed by 0:30
@example("daily", "America/Toronto", 1, utc(1919, 3, 31, 2), 1)
def test_windows_follow_each_other_without_gap_or_overlap(
    period: str, zone: str, anchor: int, at: int, days: int
) -> None:
    end = at + days * DAY
    windows = calendar(period, zone, anchor).windows(at, end, 10_000)
    assert windows[0].start <= at < windows[0].end
    assert all(one.end == following.start for one, following in pairwise(windows))
    assert all(one.start < one.end for one in windows)
    assert windows[-1].start < max(end, at + 1) <= windows[-1].end or windows[-1].end >= end
    if period == "hourly":
        assert all(one.end - one.start <= HOUR + HOUR // 2 for one in windows)
    # The same windows, whichever instant of the first one is asked about.
    again = calendar(period, zone, anchor).windows(windows[0].end - 1, windows[0].end, 10_000)
    assert again == windows[:1]


@given(period=st.sampled_from(SPANS), zone=zones, anchor=anchors, at=instants)
def test_a_window_holds_the_instants_of_its_local_days(period: str, zone: str, anchor: int, at: int) -> None:
    tz = zoneinfo.ZoneInfo(zone)
    (window,) = calendar(period, zone, anchor).windows(at, at, 10_000)
    local = from_micros(at).astimezone(tz)
    begins = first_day(period, local.date(), anchor)
    start = from_micros(window.start).astimezone(tz)
    if zone == "America/St_Johns" and begins != start.date():
        # Clocks went from 00:01 back to 23:01, so an evening came twice; the second one belongs to the next day.
        assert from_micros(at - HOUR).astimezone(tz).date() <= start.date() == begins + timedelta(days=1) or (
            local.fold == 1
        )
        return
    assert first_day(period, start.date(), anchor) == begins or start.date() == begins
    before = from_micros(window.start - 1).astimezone(tz)
    assert before.date() < start.date() or before.fold < start.fold


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("Europe/Berlin", (2026, 7, 1), 24),
        ("America/Sao_Paulo", (2018, 11, 4), 23),
        ("Australia/Lord_Howe", (2026, 10, 4), 23.5),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("America/Toronto", (1919, 3, 30), 23.5),
        ("America/Toronto", (1919, 3, 31), 23.5),
    ],
)
def test_days_are_as_long_as_the_clock_says(zone: str, day: tuple[int, int, int], hours: float) -> None:
    noon = micros(datetime(*day, 12, tzinfo=zoneinfo.ZoneInfo(zone)))
    (window,) = calendar("daily", zone).windows(noon, noon, 1)
    assert window.end is not None
    assert (window.end - window.start) / HOUR == hours
    local = calendar("hourly", zone).windows(window.start, window.end, 100)
    assert (local[0].start, local[-1].end) == window
    # Every hour begins when the clock shows a whole one, or with the day.
    minutes = {from_micros(hour.start).astimezone(zoneinfo.ZoneInfo(zone)).minute for hour in local[1:]}
    assert minutes <= {0, 30 if hours % 1 else 0}


def test_a_day_that_a_zone_has_skipped_has_no_window() -> None:
    found = calendar("daily", "Pacific/Apia").windows(utc(2011, 12, 29, 0), utc(2011, 12, 31, 12), 10)
    assert shown(found, "Pacific/Apia") == [
        "2011-12-28 00:00",
        "2011-12-29 00:00",
        "2011-12-31 00:00",
        "2012-01-01 00:00",
    ]


def test_an_hour_ends_when_the_clock_shows_the_next_one() -> None:
    """In Singapore 23:30 was followed by 0:00, so an hour had 30 minutes; in Toronto by 0:30 of the next day; in
    Caracas 2:30 by 3:00."""
    singapore = calendar("hourly", "Asia/Singapore").windows(utc(1981, 12, 31, 15), utc(1981, 12, 31, 17), 10)
    assert shown(singapore, "Asia/Singapore") == ["1981-12-31 22:00", "1981-12-31 23:00", "1982-01-01 00:00"]
    toronto = calendar("hourly", "America/Toronto").windows(utc(1919, 3, 31, 4), utc(1919, 3, 31, 5, 30), 10)
    assert shown(toronto, "America/Toronto") == ["1919-03-30 23:00", "1919-03-31 00:30", "1919-03-31 01:00"]
    caracas = calendar("hourly", "America/Caracas").windows(utc(2016, 5, 1, 6, 30), utc(2016, 5, 1, 8, 30), 10)
    assert shown(caracas, "America/Caracas") == ["2016-05-01 02:00", "2016-05-01 03:00", "2016-05-01 04:00"]
    assert [window.start for window in caracas] == [utc(2016, 5, 1, 6, 30), utc(2016, 5, 1, 7), utc(2016, 5, 1, 8)]


def test_a_billing_period_begins_on_the_last_day_of_a_shorter_month() -> None:
    found = calendar("billing", "Europe/Berlin", 31).windows(utc(2027, 12, 15), utc(2028, 6, 1), 20)
    assert shown(found, "Europe/Berlin") == [
        "2027-11-30 00:00",
        "2027-12-31 00:00",
        "2028-01-31 00:00",
        "2028-02-29 00:00",
        "2028-03-31 00:00",
        "2028-04-30 00:00",
        "2028-05-31 00:00",
    ]
    assert [from_micros(window.start).hour for window in found] == [23, 23, 23, 23, 22, 22, 22]


def test_the_window_that_holds_start_comes_first_and_none_begins_at_end() -> None:
    may = calendar("monthly", "UTC")
    assert may.windows(utc(2026, 5, 1), utc(2026, 6, 1), 5) == [Window(utc(2026, 5, 1), utc(2026, 6, 1))]
    assert may.windows(utc(2026, 5, 20), utc(2026, 5, 20), 5) == [Window(utc(2026, 5, 1), utc(2026, 6, 1))]
    assert calendar("lifetime", "UTC").windows(utc(2026, 5, 1), utc(2026, 6, 1), 5) == [Window(0, None)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fortnightly",), "period 'fortnightly' does not exist; give one of hourly, daily,"),
        (("billing",), "a billing period needs an anchor"),
        (("billing", "UTC", 0), "anchor must be a day of the month from 1 to 31, not 0"),
        (("billing", "UTC", 32), "not 32"),
        (("monthly", "UTC", 5), "an anchor goes with the period billing, not with monthly"),
        (("daily", "Europe/Bärlin"), "time zone 'Europe/Bärlin' is not known; give an IANA name such as Europe/Berlin"),
        (("daily", "../etc/passwd"), "is not known"),
        (("daily", "Europe"), "is not known"),
        (("daily", ""), "is not known"),
    ],
)
def test_what_is_no_calendar_names_the_value_and_the_remedy(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InvalidUsage) as caught:
        Calendar.of(*arguments)
    assert words in str(caught.value)


def test_too_many_periods_are_refused() -> None:
    with pytest.raises(InvalidUsage, match="more than 24 hourly periods from start to end"):
        calendar("hourly", "UTC").windows(utc(2026, 1, 1), utc(2026, 1, 2, 1), 24)


@given(start=instants, length=st.integers(1, 800 * DAY), minutes=st.booleans())
def test_pieces_cover_a_span_exactly(start: int, length: int, minutes: bool) -> None:
    if minutes:
        start, length = start - start % (15 * MINUTE), length - length % (15 * MINUTE) + 15 * MINUTE
    found = pieces(start, start + length)
    assert (found[0].start, found[-1].end) == (start, start + length)
    assert all(one.end == following.start for one, following in pairwise(found))
    assert all(piece.start < piece.end for piece in found)
    for piece in found:
        if piece.kind != RECORDS:
            kind = Period(piece.kind)
            assert period_start(kind, piece.start) == piece.start
            assert period_start(kind, piece.end) == piece.end
    # What is read from the records is never a whole hour.
    assert sum(piece.end - piece.start for piece in found if piece.kind == RECORDS) < 2 * HOUR
    assert all(piece.end - piece.start < HOUR for piece in found if piece.kind == RECORDS) or length < 2 * HOUR


events = st.lists(
    st.tuples(st.integers(utc(2026, 9, 1), utc(2027, 4, 1) - 1), st.decimals(-1000, 1000, places=9)), max_size=60
)


@given(period=st.sampled_from(SPANS), zone=st.sampled_from(ZONES[:9]), anchor=anchors, used=events)
def test_stored_windows_and_records_make_up_what_a_plain_recount_finds(
    period: str, zone: str, anchor: int, used: list[tuple[int, Decimal]]
) -> None:
    tz = zoneinfo.ZoneInfo(zone)
    expected: dict[date, list[Decimal]] = defaultdict(list)
    stored: dict[tuple[str, int], list[Decimal]] = defaultdict(list)
    for at, quantity in used:
        expected[first_day(period, from_micros(at).astimezone(tz).date(), anchor)].append(quantity)
        for kind in (Period.HOURLY, Period.DAILY, Period.MONTHLY):
            stored[kind.value, period_start(kind, at)].append(quantity)
    found: dict[date, list[Decimal]] = {}
    for window in calendar(period, zone, anchor).windows(utc(2026, 9, 1), utc(2027, 4, 1), 1000):
        assert window.end is not None
        parts: list[Decimal] = []
        for kind, start, end in pieces(window.start, window.end):
            if kind == RECORDS:
                parts += [quantity for at, quantity in used if start <= at < end]
            else:
                parts += [q for (name, at), some in stored.items() if name == kind and start <= at < end for q in some]
        if parts:
            found[from_micros(window.start).astimezone(tz).date()] = parts
    assert {day: (len(parts), sum(parts)) for day, parts in found.items()} == {
        day: (len(parts), sum(parts)) for day, parts in expected.items()
    }
