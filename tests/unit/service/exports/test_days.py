"""Which days an export by day writes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import micros
from meterfold_service.exports.days import file_name, plan, span_of
from meterfold_service.exports.results import Format, What

FIRST = datetime(2026, 10, 30, 15, 20, tzinfo=UTC)
HOUR = 3_600_000_000
SPANS = st.integers(0, 8 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes))


@given(SPANS, SPANS, SPANS, st.integers(0, 30), st.sets(st.integers(-1, 9)))
def test_each_day_that_has_begun_is_in_one_place(
    to: timedelta, passed: timedelta, folded: timedelta, grace: int, there: set[int]
) -> None:
    now = FIRST + passed
    mark = min(FIRST + folded, now)
    present = {FIRST.date() + timedelta(days=number) for number in there}
    found = plan(micros(FIRST), micros(FIRST + to), present, now=micros(now), mark=micros(mark), grace=grace * HOUR)
    expected: dict[str, list[date]] = {"due": [], "present": [], "open": [], "behind": []}
    day = FIRST.date()
    while span_of(day)[0] < min(FIRST + to, now):
        over = span_of(day)[1] + timedelta(hours=grace)
        place = "present" if day in present else "open" if over > now else "due" if over <= mark else "behind"
        expected[place].append(day)
        day += timedelta(days=1)
    assert found.due == tuple(expected["due"])
    assert found.present == tuple(expected["present"])
    assert found.open == tuple(expected["open"])
    assert found.behind == tuple(expected["behind"])


def test_too_many_days_are_refused() -> None:
    now = micros(FIRST)
    with pytest.raises(InvalidUsage, match=r"at most 5,000 days at a time, not"):
        plan(micros(datetime(1999, 1, 1, tzinfo=UTC)), now, (), now=now, mark=now, grace=0)


def test_names() -> None:
    day = date(2026, 10, 1)
    assert file_name(What.RECORDS, day, Format.PARQUET) == "records-2026-10-01.parquet"
    assert file_name(What.REJECTED, day, Format.CSV, complete=False) == "rejected-2026-10-01.incomplete.csv"
