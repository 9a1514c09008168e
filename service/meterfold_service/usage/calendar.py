"""Periods of a calendar: local hours, days, weeks, months and years of a time zone, and billing periods.

Pure: half-open windows [start, end) in UTC microseconds. Consecutive windows of a calendar neither overlap nor leave a
gap, whatever its clock does: a day has 23 or 25 hours where clocks change, and one that a zone has skipped has no
window.

A day begins at its first instant: where clocks jump over midnight that is the jump, and where midnight comes twice it
is the first one.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import islice
from typing import Final, NamedTuple

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import HOUR, from_micros, micros
from meterfold_schemas.zones import zone_of

__all__ = ["BILLING", "EARLIEST", "LATEST", "LIFETIME", "PERIODS", "Calendar", "Window"]

BILLING: Final = "billing"
LIFETIME: Final = "lifetime"
PERIODS: Final = ("hourly", "daily", "weekly", "monthly", "yearly", BILLING, LIFETIME)
"""What a summary may be of."""

EARLIEST: Final = datetime(1901, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2299, 1, 1, tzinfo=UTC)
"""The times that ClickHouse stores, and a little less: a local day may begin earlier."""

_DAY: Final = timedelta(days=1)


class Window(NamedTuple):
    """UTC microseconds; `end` is None for a lifetime."""

    start: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Calendar:
    """The periods of one kind in a time zone. `anchor`: the day of the month on which billing periods begin; a shorter
    month begins its period on its last day."""

    period: str
    zone: tzinfo = UTC
    anchor: int = 1

    @classmethod
    def of(cls, period: str, tz: str | None = None, anchor: int | None = None) -> Calendar:
        """Checks what the caller gave. Raises InvalidUsage."""
        if period not in PERIODS:
            raise InvalidUsage(f"period {period!r} does not exist; give one of {', '.join(PERIODS)}")
        if anchor is None:
            if period == BILLING:
                raise InvalidUsage("a billing period needs an anchor, the day of the month on which it begins: 1 to 31")
            return cls(period, zone_of(tz))
        if period != BILLING:
            raise InvalidUsage(f"an anchor goes with the period billing, not with {period}")
        if not 1 <= anchor <= 31:
            raise InvalidUsage(f"anchor must be a day of the month from 1 to 31, not {anchor!r}")
        return cls(period, zone_of(tz), anchor)

    def windows(self, start: int, end: int, most: int) -> list[Window]:
        """The window that holds `start`, and those that begin before `end`; both from EARLIEST up to LATEST. Raises
        InvalidUsage if there are more than `most`."""
        found = list(islice(self._from(start, end), most + 1))
        if len(found) > most:
            raise InvalidUsage(
                f"there are more than {most:,} {self.period} periods from start to end: choose a longer period or an "
                "earlier end"
            )
        return found

    def day_start(self, day: date) -> int:
        """The first instant of a day, or of the next one if the zone has skipped it."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=self.zone)
        start = micros(midnight)
        if from_micros(start).astimezone(self.zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
            return start
        # Midnight does not exist that day: the clock jumps over it.
        return self._change(micros(midnight.replace(fold=1)) - 1, start)

    def _from(self, start: int, end: int) -> Iterator[Window]:
        if self.period == LIFETIME:
            yield Window(0, None)
            return
        following = self._hours_from(start) if self.period == "hourly" else self._spans_from(start)
        for window in following:
            assert window.end is not None
            if window.start > start and window.start >= end:
                return
            if window.end > start:
                yield window

    def _spans_from(self, start: int) -> Iterator[Window]:
        """Periods of whole days, from the one that holds the local date of `start`. Where an evening comes twice,
        `start` may be in the next one."""
        first = self._first_day(from_micros(start).astimezone(self.zone).date())
        begin = self.day_start(first)
        while True:
            first = self._next_first_day(first)
            until = self.day_start(first)
            if until > begin:  # a day that the zone has skipped has no time
                yield Window(begin, until)
                begin = until

    def _hours_from(self, start: int) -> Iterator[Window]:
        for day in Calendar("daily", self.zone)._spans_from(start):
            begin = day.start
            assert day.end is not None
            while begin < day.end:
                until = min(self._next_hour(begin), day.end)
                yield Window(begin, until)
                begin = until

    def _first_day(self, day: date) -> date:
        """The first day of the period that holds a day."""
        match self.period:
            case "weekly":
                return day - timedelta(days=day.weekday())
            case "monthly":
                return day.replace(day=1)
            case "yearly":
                return day.replace(month=1, day=1)
            case "billing":
                first = self._anchored(day.year, day.month)
                return first if day >= first else self._anchored(*_month_before(day.year, day.month))
            case _:
                return day

    def _next_first_day(self, first: date) -> date:
        match self.period:
            case "weekly":
                return first + timedelta(days=7)
            case "monthly":
                return date(*_month_after(first.year, first.month), 1)
            case "yearly":
                return date(first.year + 1, 1, 1)
            case "billing":
                return self._anchored(*_month_after(first.year, first.month))
            case _:
                return first + _DAY

    def _anchored(self, year: int, month: int) -> date:
        return date(year, month, min(self.anchor, monthrange(year, month)[1]))

    def _next_hour(self, instant: int) -> int:
        """When the local clock shows the next whole hour."""
        before = self._offset(instant)
        expected = instant + HOUR - (instant + before) % HOUR
        if self._offset(expected - 1) == before:
            return expected
        change = self._change(instant, expected - 1)
        past = (change + self._offset(change)) % HOUR
        return change if past == 0 else change + HOUR - past

    def _offset(self, instant: int) -> int:
        """What the local clock is ahead of UTC, in microseconds."""
        offset = from_micros(instant).astimezone(self.zone).utcoffset()
        assert offset is not None
        return (offset.days * 86_400 + offset.seconds) * 1_000_000 + offset.microseconds

    def _change(self, before: int, after: int) -> int:
        """The instant in (before, after] at which the offset becomes the one that holds at `after`."""
        offset = self._offset(after)
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle) == offset:
                after = middle
            else:
                before = middle
        return after


def _month_after(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == 12 else (year, month + 1)


def _month_before(year: int, month: int) -> tuple[int, int]:
    return (year - 1, 12) if month == 1 else (year, month - 1)
