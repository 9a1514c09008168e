"""Whether a progress row is possible, and whether there are rows of offsets that cannot have been folded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from meterfold_processor.verify.log import Fixed
from meterfold_processor.verify.report import Finding, Findings
from meterfold_sink import positions
from meterfold_sink.client import Client
from meterfold_sink.fold_state import ProgressRow, read_progress
from meterfold_sink.positions import KINDS, Span

__all__ = ["check_bounds", "check_nothing_folded", "check_outside", "progress_finding"]


def check_bounds(fixed: Fixed, progress: ProgressRow, findings: Findings) -> None:
    """Whether a progress row can be one of this log."""
    if progress.next_offset > fixed.log_end:
        findings.add(
            progress_finding(progress, "next_offset", f"at most the log's end, {fixed.log_end}", progress.next_offset)
        )
    if progress.next_offset < fixed.log_start:
        findings.add(
            progress_finding(
                progress,
                "next_offset: messages from there on were deleted before they were folded",
                f"at least the log's start, {fixed.log_start}",
                progress.next_offset,
            )
        )
    if progress.log_start > fixed.log_start or progress.log_start > progress.next_offset:
        # The log's start only grows, so the fold cannot have begun behind it.
        expected = min(fixed.log_start, progress.next_offset)
        findings.add(
            progress_finding(
                progress, "log_start: the messages before it were skipped", f"at most {expected}", progress.log_start
            )
        )


def check_outside(
    client: Client, folded: Mapping[int, Fixed], findings: Findings, log_ends: Callable[[Iterable[int]], dict[int, int]]
) -> None:
    """Rows of offsets that cannot have been folded. `folded`: by partition. `log_ends`: where the logs of partitions
    end now."""
    spans = [Span(p, fixed.progress.log_start, fixed.log_end) for p, fixed in folded.items() if fixed.progress]
    rows = positions.positions_outside(client, spans, findings.limit + 1)
    ends = {span.partition: span.until for span in spans}
    later = {row["partition"] for row in rows if row["offset"] >= ends[row["partition"]]}
    # On a running system these may be newer than the end that was read before them.
    ends |= log_ends(later) if later else {}
    starts = {span.partition: span.first for span in spans}
    for row in rows:
        start, end = starts[row["partition"]], ends[row["partition"]]
        if not start <= row["offset"] < end:
            findings.add(_outside(row, f"between {start} and {end - 1}"))


def check_nothing_folded(client: Client, partitions: Sequence[int], findings: Findings) -> None:
    """A worker writes the progress row of a partition before anything else of it."""
    rows = positions.positions_outside(client, [Span(p, 0, 0) for p in partitions], findings.limit + 1)
    # A worker may have begun meanwhile.
    begun = read_progress(client, partitions) if rows else {}
    for row in rows:
        if row["partition"] not in begun:
            findings.add(_outside(row, "none, since the partition has no row in fold_progress"))


def progress_finding(progress: ProgressRow, what: str, expected: str, found: object) -> Finding:
    return Finding(
        check="progress",
        place="fold_progress",
        partition=progress.partition,
        what=what,
        expected=expected,
        found=str(found),
    )


def _outside(row: Mapping[str, Any], expected: str) -> Finding:
    return Finding(
        check="conservation",
        place=KINDS[row["kind"]],
        partition=row["partition"],
        offset=row["offset"],
        what="row outside of what can have been folded",
        expected=f"offsets {expected}",
        found=f"offset {row['offset']}",
    )
