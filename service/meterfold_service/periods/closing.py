"""Closing periods, step by step. Every step can be repeated, and two runs at once do each other no harm:

1. wait until everything appended before the call is folded, and keep the progress of each partition
2. copy the windows, then recount them from the records, in a table of this run
3. compare: a difference ends here, and nothing is stored
4. numbers that are the newest closing already are not stored again, only sums by new dimensions
5. the numbers into closed_windows, and by dimension into closed_dimensions: rows that are named by what they hold
6. read them back: their checksum must be that of the recount, and sums by dimension must add up to it
7. the closing itself: a row that is named by its checksum, the first one stays

A run that dies before 7 leaves rows that no closing refers to; the next run writes the same ones, or newer ones beside
them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final

from meterfold_schemas.errors import Fatal, Retryable
from meterfold_schemas.periods import Period, from_micros, micros, period_end
from meterfold_schemas.plurals import plural
from meterfold_service.errors import (
    NotFoldedInTime,
    OperationError,
    PeriodRecordsExpired,
    WindowsDiffer,
    period_named,
)
from meterfold_service.periods.results import PeriodClosing
from meterfold_sink.closing_dimensions import dimensions_add_up, has_dimensions, keep_dimensions
from meterfold_sink.closing_recount import recount
from meterfold_sink.period_closings import ClosedNumbers, read_closings, stored_numbers, write_closing

if TYPE_CHECKING:
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_sink.client import Client
    from meterfold_sink.closing_recount import Recount, RecountedPeriod
    from meterfold_sink.period_closings import ClosingRow
    from meterfold_sink.rules import FoldRules

__all__ = ["MAX_DIFFERENCES", "close_periods", "closing_of", "wait_until_folded"]

MAX_DIFFERENCES: Final = 100
"""Differences that are listed of one period."""


def wait_until_folded(
    kafka: KafkaSettings, client: Client, rules: FoldRules, wait_seconds: float, tell: Callable[[str], None]
) -> dict[int, int]:
    """partition -> its progress, once everything appended before the call is folded. Raises NotFoldedInTime, Retryable
    or Fatal."""
    # Imported here: they bring the Kafka client, which reading closings does not need.
    from meterfold_processor.kafka.admin import kept_admin
    from meterfold_processor.kafka.reader import HEADS, TopicReader, open_transaction
    from meterfold_processor.kafka.topics import check_source
    from meterfold_processor.verify.log import Log, fix_offsets

    begun = time.monotonic()
    with kept_admin(kafka), closing(TopicReader(kafka, "meterfold-close", HEADS)) as reader:
        check_source(kafka, rules)
        fixed = fix_offsets(Log(kafka, reader), client, range(rules.partition_count), wait_seconds, tell)
    for one in fixed:
        if one.unfolded and one.open_at is not None:
            raise Retryable(
                f"Kafka, usage.recorded partition {one.partition}: {open_transaction(one.open_at)}. Nothing was closed"
            )
        if one.unfolded:
            offset = one.progress.next_offset if one.progress else one.log_start
            raise NotFoldedInTime(one.partition, offset, round(time.monotonic() - begun, 1))
    return {one.partition: one.progress.next_offset if one.progress else 0 for one in fixed}


def close_periods(
    client: Client,
    rules: FoldRules,
    next_offsets: Mapping[int, int],
    period: Period,
    starts: Sequence[int],
    metric_key: str,
    kept_from: int,
) -> list[PeriodClosing | OperationError]:
    """Steps 2 to 7 for periods of one kind, all in one recount: the closing of each, or the error that prevents it.

    Records with a timestamp before `kept_from` may have expired. Times are UTC microseconds. Raises Retryable or Fatal.
    """
    with recount(client, rules, period, starts, metric_key, next_offsets) as recounted:
        known = read_closings(client, period, starts, metric_key)
        return [
            _refused(recounted, start, found, kept_from) or _close(recounted, start, found, known.get(start, []))
            for start, found in recounted.periods().items()
        ]


def closing_of(row: ClosingRow, *, is_new: bool = False) -> PeriodClosing:
    end = period_end(Period(row.period_type), micros(row.period_start))
    assert end is not None
    return PeriodClosing(
        period_type=row.period_type,
        period_start=row.period_start,
        period_end=from_micros(end),
        metric_key=row.metric_key,
        revision=row.revision,
        checksum=row.checksum,
        window_count=row.window_count,
        record_count=row.record_count,
        next_offsets=row.next_offsets,
        closed_at=row.closed_at,
        is_new=is_new,
    )


def _refused(recounted: Recount, start: int, found: RecountedPeriod, kept_from: int) -> OperationError | None:
    """Step 3."""
    if not found.different:
        return None
    period, metric_key = recounted.period.value, recounted.metric_key
    if start < kept_from and found.lack == found.different:
        return PeriodRecordsExpired(period, found.start, metric_key, found.missing, from_micros(kept_from))
    differences = recounted.differences(start, MAX_DIFFERENCES)
    return WindowsDiffer(period, found.start, metric_key, found.different, differences)


def _close(recounted: Recount, start: int, found: RecountedPeriod, known: Sequence[ClosingRow]) -> PeriodClosing:
    """Steps 4 to 7."""
    client, period, metric_key = recounted.client, recounted.period, recounted.metric_key
    named = period_named(period.value, found.start)
    if known:
        newest = known[-1]
        if newest.checksum == found.checksum:
            _keep_dimensions(recounted, start, newest, named)
            return closing_of(newest)
        if _is_ahead(newest.next_offsets, recounted.next_offsets):
            return closing_of(newest)
        if newest.record_count >= found.records:
            raise Fatal(
                f"{named} was not closed: its newest closing has {plural(newest.record_count, 'record')} (checksum "
                f"{newest.checksum[:12]}), but windows and records agree on {found.records:,} "
                f"({found.checksum[:12]}). Counted events never disappear: usage_windows and usage_records were "
                "restored from a backup, or changed by hand. Restore the newest backup, then run `meterfold verify`"
            )
    expected = ClosedNumbers(found.checksum, found.windows, found.records)
    # What is older than the newest closing is in closed_windows already.
    recounted.keep(start, known[-1].next_offsets if known else {})
    if _stored(recounted, start) != expected:
        recounted.keep(start, {})
        if (stored := _stored(recounted, start)) != expected:
            raise Fatal(
                f"{named} was not closed: closed_windows holds {plural(stored.windows, 'window')} with "
                f"{plural(stored.records, 'record')} for it (checksum {stored.checksum[:12]}), but the recount has "
                f"{plural(found.windows, 'window')} with {plural(found.records, 'record')} ({found.checksum[:12]}). "
                "Rows of closed_windows were changed or deleted by hand: restore the table from a backup"
            )
    _keep_dimensions(recounted, start, known[-1] if known else None, named)
    write_closing(
        client,
        period,
        start,
        metric_key,
        checksum=found.checksum,
        windows=found.windows,
        records=found.records,
        next_offsets=recounted.next_offsets,
    )
    stored_rows = read_closings(client, period, [start], metric_key)[start]
    return closing_of(next(row for row in stored_rows if row.checksum == found.checksum), is_new=True)


def _keep_dimensions(recounted: Recount, start: int, newest: ClosingRow | None, named: str) -> None:
    """Write the sums by dimension that are not there: those of windows that have moved since the newest closing, or all
    of them, where the metric has other dimensions now."""
    if not has_dimensions(recounted):
        return
    for since in (None, newest.next_offsets if newest else {}, {}):
        if since is not None:
            keep_dimensions(recounted, start, since)
        if dimensions_add_up(recounted, start):
            return
    raise Fatal(
        f"{named} was not closed: sums by dimension in closed_dimensions do not add up to the windows. Rows of it were "
        "changed or deleted by hand: restore the table from a backup"
    )


def _is_ahead(closed: Mapping[int, int], mine: Mapping[int, int]) -> bool:
    """Whether another run has closed the period with events that came after this one's recount."""
    return closed != mine and all(closed.get(partition, 0) >= offset for partition, offset in mine.items())


def _stored(recounted: Recount, start: int) -> ClosedNumbers:
    offsets = recounted.next_offsets
    return stored_numbers(recounted.client, recounted.period, [start], recounted.metric_key, offsets)[start]
