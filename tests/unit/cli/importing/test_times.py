"""`--time-format`: forms of time that are asked for by name, and never guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.timestamps import UNIX, text_reader, zone_named
from meterfold_schemas.errors import InvalidUsage

BERLIN = zone_named("Europe/Berlin")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("unix", "1795341600", datetime(2026, 11, 22, 10, 0, tzinfo=UTC)),
        ("unix", "1795341600.250000", datetime(2026, 11, 22, 10, 0, 0, 250_000, tzinfo=UTC)),
        ("unix", "-1", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("unix-ms", "1795341600123", datetime(2026, 11, 22, 10, 0, 0, 123_000, tzinfo=UTC)),
        ("unix-us", "1795341600123456", datetime(2026, 11, 22, 10, 0, 0, 123_456, tzinfo=UTC)),
        ("unix-ns", "1795341600123456000", datetime(2026, 11, 22, 10, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_counts_from_1970_are_moments(name: str, text: str, expected: datetime) -> None:
    assert text_reader(name, None)(text) == expected


@given(st.integers(-(10**15), 10**16), st.sampled_from(sorted(UNIX)))
def test_counts_are_read_to_the_microsecond_whatever_their_unit(micros: int, name: str) -> None:
    units = UNIX[name]
    whole, rest = divmod(abs(micros) * units, 1_000_000)
    sign = "-" if micros < 0 else ""
    text = f"{sign}{whole}.{rest:06}" if rest else f"{sign}{whole}"
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    assert text_reader(name, None)(text) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("unix", "2026-11-22T10:00:00Z", "is not a number, which --time-format unix needs"),
        ("unix", "1795341600123", "out of range for --time-format unix; it looks like --time-format unix-ms"),
        ("unix-ns", "1795341600123456789", "finer than microseconds"),
        ("unix", "1e9", "is not a number"),
        ("iso", "1795341600", "--time-format unix"),
        ("iso", "1795341600123", "--time-format unix-ms"),
        ("iso", "1795341600123456", "--time-format unix-us"),
        ("iso", "2026-11-22", "--time-format date and --timezone"),
        ("iso", "22.11.2026 10:00", "a pattern such as"),
        ("iso", " 2026-11-22T10:00:00Z", "--strip removes"),
    ],
)
def test_another_form_is_refused_with_the_option_that_it_may_need(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidUsage, match=message):
        text_reader(name, UTC)(text)


def test_a_date_is_the_first_moment_of_its_day_in_a_stated_zone() -> None:
    assert text_reader("date", UTC)("2026-07-01") == datetime(2026, 7, 1, tzinfo=UTC)
    assert text_reader("date", BERLIN)("2026-07-01") == datetime(2026, 6, 30, 22, tzinfo=UTC)
    with pytest.raises(WrongInput, match="requires --timezone"):
        text_reader("date", None)
    with pytest.raises(InvalidUsage, match="is not a date"):
        text_reader("date", UTC)("2026-07-01T00:00:00Z")
    with pytest.raises(InvalidUsage, match="2026-02-30"):
        text_reader("date", UTC)("2026-02-30")


def test_patterns_with_an_offset_or_a_stated_zone() -> None:
    assert text_reader("%d.%m.%Y %H:%M", BERLIN)("01.07.2026 12:00") == datetime(2026, 7, 1, 10, tzinfo=UTC)
    east = timezone(timedelta(hours=2))
    assert text_reader("%Y%m%d%H%M%S%z", None)("20260701120000+0200") == datetime(2026, 7, 1, 12, tzinfo=east)
    assert text_reader("%m/%d/%Y", UTC)("07/01/2026") == datetime(2026, 7, 1, tzinfo=UTC)
    assert text_reader("%m/%d/%Y %I:%M %p", UTC)("07/01/2026 01:30 PM") == datetime(2026, 7, 1, 13, 30, tzinfo=UTC)
    with pytest.raises(InvalidUsage, match=r"'2026-07-01' does not match --time-format '%d.%m.%Y'"):
        text_reader("%d.%m.%Y", UTC)("2026-07-01")
    with pytest.raises(InvalidUsage, match="twice or never"):
        text_reader("%d.%m.%Y %H:%M", BERLIN)("25.10.2026 02:30")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("epoch", "give iso, unix, unix-ms"),
        ("%d.%m.%Y", "has no UTC offset .%z.; give the time zone of the file with --timezone"),
        ("%d.%m. %H:%M%z", "must contain year, month and day"),
        ("%d.%m.%Y %I:%M%z", "does not distinguish morning and evening"),
        ("%d.%m.%Y %H:%M %Z", "time zone names are ambiguous"),
        ("%Y-%m-%d %Q", "is not a valid strptime pattern"),
    ],
)
def test_formats_that_do_not_say_a_moment_are_refused_before_the_first_row(pattern: str, message: str) -> None:
    with pytest.raises(WrongInput, match=message):
        text_reader(pattern, None)
