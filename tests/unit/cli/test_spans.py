"""The spans of time that people write on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_cli.exits import WrongInput
from meterfold_cli.spans import span
from meterfold_schemas.errors import InvalidUsage

KOLKATA = "Asia/Kolkata"
SAO_PAULO = "America/Sao_Paulo"
NOW = datetime(2026, 11, 29, 10, 30, tzinfo=UTC)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "start", "end"),
    [
        ({}, at(2026, 11, 1), NOW),
        ({"tz": "Europe/Berlin"}, at(2026, 10, 31, 23), NOW),
        ({"month": "2026-10"}, at(2026, 10, 1), at(2026, 11, 1)),
        ({"month": "2026-12"}, at(2026, 12, 1), at(2027, 1, 1)),
        # Clocks change in that month.
        ({"month": "2026-10", "tz": "Europe/Berlin"}, at(2026, 9, 30, 22), at(2026, 10, 31, 23)),
        ({"since": "7d"}, at(2026, 11, 22, 10, 30), NOW),
        ({"since": "90m"}, at(2026, 11, 29, 9), NOW),
        ({"start": "2026-10-05"}, at(2026, 10, 5), NOW),
        ({"start": "2026-10", "end": "2026-10-05T12:30"}, at(2026, 10, 1), at(2026, 10, 5, 12, 30)),
        ({"start": "2026-10-05", "end": "2026-10-06", "tz": "Asia/Kolkata"}, at(2026, 10, 4, 18, 30), at(2026, 10, 5, 18, 30)),  # noqa: E501
        ({"start": "2026-10-05T12:00:00+02:00", "tz": "Asia/Kolkata"}, at(2026, 10, 5, 10), NOW),
        ({"start": "2026-10-05 12:00Z"}, at(2026, 10, 5, 12), NOW),
        # The clock jumps over midnight: the day begins at one.
        ({"start": "2018-11-04", "end": "2018-11-05", "tz": "America/Sao_Paulo"}, at(2018, 11, 4, 3), at(2018, 11, 5, 2)),  # noqa: E501
    ],
)  # fmt: skip
def test_spans(options: dict[str, str], start: datetime, end: datetime) -> None:
    assert span(NOW, **options) == (start, end)


YEARS = st.integers(0, 10_000).map("{:04}".format)
DATES = st.builds("{}-{:02}-{:02}".format, YEARS, st.integers(0, 13), st.integers(0, 32))
CLOCKS = st.builds(
    "T{:02}:{:02}{}".format, st.integers(0, 25), st.integers(0, 60), st.sampled_from(("", "Z", "+14:00"))
)
LENGTHS = st.builds("{}{}".format, st.integers(0, 10**7), st.sampled_from("mhdwx"))
MONTHS = DATES.map(lambda date: date[:7])
TEXTS = st.one_of(st.text(max_size=20), DATES, st.builds("{}{}".format, DATES, CLOCKS), MONTHS, LENGTHS)
ZONES = st.one_of(st.none(), st.text(max_size=12), st.sampled_from(("Europe/Berlin", "Pacific/Apia", "Asia/Kathmandu")))


@given(options=st.dictionaries(st.sampled_from(("month", "since", "start", "end")), TEXTS), tz=ZONES)
def test_any_text_is_a_span_or_an_error_of_its_own(options: dict[str, str], tz: str | None) -> None:
    try:
        start, end = span(NOW, tz, **options)
    except (WrongInput, InvalidUsage):
        return
    assert start <= end
    assert 1900 <= start.year <= end.year <= 2299


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"month": "2026-13"}, "--month '2026-13' must be a month such as 2026-10"),
        ({"month": "October"}, "--month 'October' must be a month such as 2026-10"),
        ({"since": "7"}, "--since '7' must be a number with m, h, d or w"),
        ({"since": "7d", "month": "2026-10"}, "give one of --month, --since, or --from with --to; not --month and --since"),  # noqa: E501
        ({"since": "7d", "end": "2026-10-01"}, "not --since and --to"),
        ({"end": "2026-10-01"}, "--to needs --from"),
        ({"since": "999999w"}, "--since 999999w is before the year 1901"),
        ({"start": "0001-01-01"}, "--from 0001-01-01 is not in the years 1901 to 2298"),
        ({"start": "yesterday"}, "--from 'yesterday' must be a time: 2026-10, 2026-10-05, 2026-10-05T12:30"),
        ({"start": "2026-10-02", "end": "2026-10-01"}, "--to 2026-10-01 is before --from 2026-10-02"),
        ({"start": "2026-10-25T02:30", "tz": "Europe/Berlin"}, "--from 2026-10-25T02:30 occurs twice in the time zone"),
        ({"start": "2026-03-29T02:30", "tz": "Europe/Berlin"}, "does not exist in the time zone, since clocks skip it"),
    ],
)  # fmt: skip
def test_what_is_no_span_names_the_option_and_the_value(options: dict[str, str], words: str) -> None:
    with pytest.raises(WrongInput) as caught:
        span(NOW, **options)
    assert words in str(caught.value)
