"""Closed periods in place of records: the same spans, with months before days, and no part of a period."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas.periods import DAY, HOUR, Period, micros, period_end, period_start
from meterfold_service.usage.closed import with_closings
from meterfold_sink.usage_states import Piece

OCTOBER, NOVEMBER, DECEMBER = (micros(datetime(2026, month, 1, tzinfo=UTC)) for month in (10, 11, 12))
MONTHS = [OCTOBER, NOVEMBER]


def records(start: int, end: int) -> Piece:
    return Piece(3, "records", start, end)


def test_months_come_first_then_days_then_records() -> None:
    days = [OCTOBER - DAY, OCTOBER, DECEMBER, DECEMBER + DAY]
    span = [records(OCTOBER - 2 * DAY, DECEMBER + 2 * DAY + HOUR)]
    assert with_closings(span, {Period.MONTHLY: MONTHS, Period.DAILY: days}) == [
        records(OCTOBER - 2 * DAY, OCTOBER - DAY),
        Piece(3, "closed daily", OCTOBER - DAY, OCTOBER),
        Piece(3, "closed monthly", OCTOBER, NOVEMBER),
        Piece(3, "closed monthly", NOVEMBER, DECEMBER),
        Piece(3, "closed daily", DECEMBER, DECEMBER + DAY),
        Piece(3, "closed daily", DECEMBER + DAY, DECEMBER + 2 * DAY),
        records(DECEMBER + 2 * DAY, DECEMBER + 2 * DAY + HOUR),
    ]


def test_a_part_of_a_period_and_other_kinds_stay_as_they_are() -> None:
    span = [records(OCTOBER + 1, DECEMBER - 1), Piece(4, "hourly", OCTOBER, NOVEMBER)]
    assert with_closings(span, {Period.MONTHLY: MONTHS}) == span
    assert with_closings(span, {}) == span


@given(
    st.tuples(st.integers(-40, 100), st.integers(-40, 100)).map(sorted),
    st.integers(0, DAY),
    st.sets(st.integers(-50, 110)),
    st.sets(st.integers(0, 5)),
)
def test_the_pieces_cover_the_same_span_in_order(ends: list[int], shift: int, days: set[int], months: set[int]) -> None:
    span = records(OCTOBER + ends[0] * DAY + shift, OCTOBER + ends[1] * DAY + shift)
    complete = {
        Period.DAILY: sorted(OCTOBER + day * DAY for day in days),
        Period.MONTHLY: sorted({period_start(Period.MONTHLY, OCTOBER + 31 * month * DAY) for month in months}),
    }
    found = with_closings([span], complete)
    assert [piece.end for piece in found[:-1]] == [piece.start for piece in found[1:]]
    if span.start < span.end:
        assert (found[0].start, found[-1].end) == (span.start, span.end)
    for piece in found:
        if piece.kind != "records":
            period = Period(piece.kind.removeprefix("closed "))
            assert piece.start in complete[period]
            assert piece.end == period_end(period, piece.start)
