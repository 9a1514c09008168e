"""Closings: the numbers as closed are those that the checksum was made of, and those that the records add up to.

Three things hold of every closing, of every revision: the checksum is that of its rows in closed_windows; while the
records of its period are kept, a recount of those below its offsets gives the same checksum; and sums by dimension add
up to the windows. The first and the last hold without records.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from meterfold_processor.verify.report import Finding, Findings
from meterfold_processor.verify.timerange import TimeRange
from meterfold_schemas.periods import MICROS_PER_SECOND, Period, from_micros, micros, period_start
from meterfold_schemas.plurals import plural
from meterfold_sink.client import Client
from meterfold_sink.closing_dimensions import wrong_dimensions
from meterfold_sink.closing_recount import recount
from meterfold_sink.period_closings import ClosingRow, all_closings, stored_numbers
from meterfold_sink.rules import FoldRules

__all__ = ["prove_closings"]

#: What is recounted in one go: hours of one day, days and months of one month.
_TOGETHER = {Period.HOURLY: Period.DAILY, Period.DAILY: Period.MONTHLY, Period.MONTHLY: Period.MONTHLY}


def prove_closings(
    client: Client,
    rules: FoldRules,
    now: int,
    findings: Findings,
    within: TimeRange | None,
    tell: Callable[[str], None],
) -> int:
    """How many closings were looked at: of periods that begin in the range. `now` in UTC microseconds. Raises Retryable
    or Fatal."""
    start, end = within.bounds if within is not None else (None, None)
    kept_from = now - rules.kept_seconds * MICROS_PER_SECOND
    count = 0
    for together in _together(all_closings(client, start, end)):
        first = together[0]
        tell(f"closings: {first.period_type} from {first.period_start:%Y-%m-%d}")
        count += len(together)
        _prove_stored(client, together, findings)
        kept = [one for one in together if micros(one.period_start) >= kept_from]
        if kept:
            _prove_recounted(client, rules, kept, findings)
    for (period, begins), wrong in wrong_dimensions(client, start, end).items():
        findings.add(
            Finding(
                check="closings",
                place="closed_dimensions",
                name=f"{period} period from {from_micros(begins):%Y-%m-%d %H:%M} UTC",
                what="sums by dimension of closed windows",
                expected="sums that add up to the windows",
                found=f"{plural(wrong, 'window')} with other sums",
            )
        )
    return count


def _together(closings: Sequence[ClosingRow]) -> Iterator[list[ClosingRow]]:
    """Closings that one statement can prove: of the same kind, metric and offsets, near to each other, and of different
    periods."""

    def group(one: ClosingRow) -> tuple[object, ...]:
        kind = Period(one.period_type)
        near = period_start(_TOGETHER[kind], micros(one.period_start))
        return kind, one.metric_key, near, sorted(one.next_offsets.items()), one.revision

    for _, found in itertools.groupby(sorted(closings, key=group), group):
        yield list(found)


def _prove_stored(client: Client, closings: Sequence[ClosingRow], findings: Findings) -> None:
    first = closings[0]
    starts = [micros(one.period_start) for one in closings]
    stored = stored_numbers(client, Period(first.period_type), starts, first.metric_key, first.next_offsets)
    for one in closings:
        found = stored[micros(one.period_start)]
        if found.checksum != one.checksum:
            findings.add(
                _finding(one, "closed_windows", "numbers as closed", found.checksum, found.windows, found.records)
            )


def _prove_recounted(client: Client, rules: FoldRules, closings: Sequence[ClosingRow], findings: Findings) -> None:
    first = closings[0]
    starts = [micros(one.period_start) for one in closings]
    period = Period(first.period_type)
    with recount(client, rules, period, starts, first.metric_key, first.next_offsets, windows=False) as recounted:
        numbers = recounted.periods()
    for one in closings:
        found = numbers[micros(one.period_start)]
        if found.checksum != one.checksum:
            findings.add(
                _finding(one, "period_closings", "numbers of the records", found.checksum, found.windows, found.records)
            )


def _finding(one: ClosingRow, place: str, what: str, checksum: str, windows: int, records: int) -> Finding:
    return Finding(
        check="closings",
        place=place,
        name=f"{one.period_type} period from {one.period_start:%Y-%m-%d %H:%M} UTC, "
        f"{one.metric_key or 'all metrics'}, revision {one.revision}",
        what=what,
        expected=_numbers(one.checksum, one.window_count, one.record_count),
        found=_numbers(checksum, windows, records),
    )


def _numbers(checksum: str, windows: int, records: int) -> str:
    return f"checksum {checksum[:12]} ({plural(windows, 'window')}, {plural(records, 'record')})"
