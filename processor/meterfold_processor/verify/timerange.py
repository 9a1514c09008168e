"""A range of time, as the offsets that can bear its events and the windows that lie in it.

What holds of a range [start, end) of event times:

- an event of the range arrived between start - future tolerance and end + horizon, or it was rejected. So the offsets
  from the first one stamped at or after the former, to the first one stamped at or after end + horizon + slack (stamps
  step back by less than the slack), hold every event of the range; none of them may be missing, double or made up
- a window that lies in the range as a whole has all its records there: it equals their recount
- a lifetime lies in no range; nor does a month that is cut by one of its ends
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meterfold_processor.kafka.offsets import offsets_at
from meterfold_processor.verify.log import Fixed
from meterfold_processor.verify.report import WindowName
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import MICROS_PER_SECOND, Period, micros, period_end
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink import positions
from meterfold_sink.client import Client
from meterfold_sink.positions import Span
from meterfold_sink.rules import FoldRules

__all__ = ["Part", "TimeRange", "parts_of"]

_FAR: Final = 9_000_000_000_000_000  # the year 2255; DateTime64(6) ends in 2299


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Event times [start, end), aware and in order. Raises InvalidUsage."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise InvalidUsage("the ends of a range of time need a UTC offset, such as 2026-03-01T00:00:00Z")
        if self.start >= self.end:
            raise InvalidUsage(f"a range of time has to end after it begins, not {self.start} to {self.end}")

    @property
    def bounds(self) -> tuple[int, int]:
        """In UTC microseconds, within what ClickHouse can store."""
        return max(0, micros(self.start)), min(_FAR, micros(self.end))

    def holds(self, window: WindowName) -> bool:
        """Whether a window lies in the range as a whole."""
        start, end = self.bounds
        begins = micros(window.period_start)
        ends = period_end(Period(window.period_type), begins)
        return ends is not None and start <= begins and ends <= end


@dataclass(frozen=True, slots=True)
class Part:
    """The offsets [first, until) of a partition that are to be proven; `whole`: all that was folded."""

    first: int
    until: int
    whole: bool

    def span(self, partition: int) -> Span:
        return Span(partition, self.first, self.until)


def parts_of(
    kafka: KafkaSettings, client: Client, rules: FoldRules, fixed: list[Fixed], wanted: TimeRange | None
) -> dict[int, Part]:
    """The part of each partition with a progress row. Raises Retryable or Fatal."""
    folded = {one.partition: (one, one.progress) for one in fixed if one.progress is not None}
    # A progress beyond the log is named elsewhere; nothing can be read there.
    ends = {p: min(progress.next_offset, one.log_end) for p, (one, progress) in folded.items()}
    if wanted is None:
        return {p: Part(progress.log_start, ends[p], True) for p, (_, progress) in folded.items()}
    start, end = wanted.bounds
    earliest, latest = rules.arrivals(start, end)
    latest += rules.slack_seconds * MICROS_PER_SECOND
    topic = Topics(kafka.topic_prefix).usage_recorded
    begins = offsets_at(kafka, topic, folded, earliest // 1000)
    stops = offsets_at(kafka, topic, folded, -(-latest // 1000))
    parts = {}
    for p, (one, progress) in folded.items():
        begin, stop = begins[p], stops[p]
        first = one.log_end if begin is None else begin
        if first <= one.log_start and progress.log_start < one.log_start:
            # Messages before the log's start may belong to the range, too: the rows say where it begins.
            first = positions.first_offset_since(client, p, earliest, progress.log_start, one.log_start)
        until = ends[p] if stop is None else min(ends[p], stop)
        first = max(first, progress.log_start)
        parts[p] = Part(min(first, until), until, False)
    return parts
