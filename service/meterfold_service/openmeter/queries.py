"""What a meter's query asks for: windows, as spans of time, and how the answer is grouped and filtered. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.periods import MICROS_PER_SECOND, micros
from meterfold_service.openmeter.meters import Meter
from meterfold_service.usage.calendar import EARLIEST, LATEST, Calendar

__all__ = ["MOST_ROWS", "WINDOW_SIZES", "MeterQuery", "Span", "spans_of"]

SUBJECT: Final = "subject"
WINDOW_SIZES: Final = {"MINUTE": None, "HOUR": "hourly", "DAY": "daily", "MONTH": "monthly"}
MOST_ROWS: Final = 10_000
_MINUTE: Final = 60 * MICROS_PER_SECOND


@dataclass(frozen=True, slots=True)
class MeterQuery:
    """`end` is not included. `window_size` None: one window. `group_by`: names of the meter's groups, and "subject"."""

    start: datetime | None = None
    end: datetime | None = None
    window_size: str | None = None
    time_zone: str | None = None
    subjects: Sequence[str] = ()
    group_by: Sequence[str] = ()
    filter_group_by: Mapping[str, Sequence[str]] | None = None

    def check(self, meter: Meter) -> None:
        """Raises InvalidUsage for what the meter cannot answer."""
        if self.window_size is not None and self.window_size not in WINDOW_SIZES:
            raise InvalidUsage(f"windowSize {shown(self.window_size)} must be one of {', '.join(WINDOW_SIZES)}")
        if self.window_size is not None and self.start is None:
            raise InvalidUsage("windowSize needs from: windows have no beginning without it")
        for name in (*self.group_by, *(self.filter_group_by or ())):
            if name != SUBJECT and name not in meter.group_by:
                known = ", ".join((SUBJECT, *meter.group_by))
                raise InvalidUsage(f"meter {meter.key} has no group {shown(name)}; its groups are {known}")


@dataclass(frozen=True, slots=True)
class Span:
    """What one window of the answer counts, [first, last), and what it is called, [start, end), in UTC microseconds."""

    first: int
    last: int
    start: int
    end: int


def spans_of(query: MeterQuery, now: datetime) -> list[Span]:
    """The windows from `start` to `end`; the first and the last one count what is in that time only. Raises
    InvalidUsage."""
    first = micros(EARLIEST if query.start is None else query.start)
    last = micros(now if query.end is None else query.end)
    if not micros(EARLIEST) <= first < micros(LATEST) or not first <= last < micros(LATEST):
        raise InvalidUsage("from and to must be in the years 1901 to 2298, and from must not be after to")
    if query.window_size is None:
        return [Span(first, last, first, last)] if first < last else []
    period = WINDOW_SIZES[query.window_size]
    if period is None:
        if last - first > MOST_ROWS * _MINUTE:
            raise InvalidUsage(f"there are more than {MOST_ROWS:,} minutes from from to to; choose a larger windowSize")
        begins = range(first - first % _MINUTE, last, _MINUTE)
        return [Span(max(first, at), min(last, at + _MINUTE), at, at + _MINUTE) for at in begins]
    spans = []
    for window in Calendar.of(period, query.time_zone).windows(first, last, MOST_ROWS):
        assert window.end is not None
        if window.start < last:
            spans.append(Span(max(first, window.start), min(last, window.end), window.start, window.end))
    return spans
