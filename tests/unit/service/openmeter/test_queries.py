"""The windows of a meter's query, and what it cannot answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import micros
from meterfold_service.openmeter.queries import MeterQuery, Span, spans_of
from unit.service.openmeter.test_expansion import meter

NOW = datetime(2026, 11, 22, 9, 30, 30, tzinfo=UTC)


def at(*parts: int) -> int:
    return micros(datetime(2026, *parts, tzinfo=UTC))


def test_windows_count_what_is_between_from_and_to() -> None:
    start, end = datetime(2026, 11, 21, 22, 15, tzinfo=UTC), datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
    assert spans_of(MeterQuery(start, end, "HOUR"), NOW) == [
        Span(at(11, 21, 22, 15), at(11, 21, 23), at(11, 21, 22), at(11, 21, 23)),
        Span(at(11, 21, 23), at(11, 22), at(11, 21, 23), at(11, 22)),
        Span(at(11, 22), at(11, 22, 1), at(11, 22), at(11, 22, 1)),
    ]
    (berlin, _) = spans_of(MeterQuery(start, end, "DAY", "America/New_York"), NOW)[:1] * 2
    assert (berlin.start, berlin.end) == (at(11, 21, 5), at(11, 22, 5))
    minutes = spans_of(MeterQuery(datetime(2026, 11, 22, 9, 29, tzinfo=UTC), None, "MINUTE"), NOW)
    assert [(span.first, span.last) for span in minutes] == [
        (at(11, 22, 9, 29), at(11, 22, 9, 30)),
        (at(11, 22, 9, 30), micros(NOW)),
    ]
    assert [(span.first, span.last) for span in spans_of(MeterQuery(start, end), NOW)] == [(micros(start), micros(end))]
    assert spans_of(MeterQuery(start, start), NOW) == []


@pytest.mark.parametrize(
    "query",
    [
        MeterQuery(window_size="DAY"),
        MeterQuery(NOW, window_size="WEEK"),
        MeterQuery(group_by=("nothing",)),
        MeterQuery(filter_group_by={"nothing": ["a"]}),
    ],
)
def test_what_a_meter_does_not_have_is_refused(query: MeterQuery) -> None:
    with pytest.raises(InvalidUsage):
        query.check(meter(groupBy={"model": "$.model"}))


@pytest.mark.parametrize(
    "query",
    [
        MeterQuery(NOW, datetime(2026, 11, 1, tzinfo=UTC)),
        MeterQuery(datetime(1800, 1, 1, tzinfo=UTC)),
        MeterQuery(datetime(2026, 1, 1, tzinfo=UTC), None, "MINUTE"),
        MeterQuery(datetime(1950, 1, 1, tzinfo=UTC), None, "HOUR"),
    ],
)
def test_too_many_windows_and_wrong_times_are_refused(query: MeterQuery) -> None:
    with pytest.raises(InvalidUsage):
        spans_of(query, NOW)
