"""Whether a progress row can stand where it stands, and whether rows lie outside of what can have been folded."""

from __future__ import annotations

from collections.abc import Callable

from meterfold_processor.verify.findings import Findings
from meterfold_processor.verify.offsets import Fixed
from meterfold_processor.verify.report import Finding
from meterfold_sink import positions
from meterfold_sink.client import Client
from meterfold_sink.positions import KINDS
from meterfold_sink.reads import Progress, read_progress

__all__ = ["check_bounds", "check_outside", "progress_finding", "prove_nothing_folded"]


def check_bounds(fixed: Fixed, progress: Progress, findings: Findings) -> None:
    """Whether a progress row can be one of this log."""
    if progress.next_offset > fixed.log_end:
        findings.add(
            progress_finding(progress, "next_offset", f"at most the log's end, {fixed.log_end}", progress.next_offset)
        )
    if progress.next_offset < fixed.log_start:
        findings.add(
            progress_finding(
                progress,
                "next_offset: messages behind it were deleted before they were folded",
                f"at least the log's start, {fixed.log_start}",
                progress.next_offset,
            )
        )
    if progress.log_start > fixed.log_start or progress.log_start > progress.next_offset:
        # The log's start only grows, so the fold cannot have begun behind it.
        expected = min(fixed.log_start, progress.next_offset)
        findings.add(
            progress_finding(
                progress, "log_start: what stands before it was skipped", f"at most {expected}", progress.log_start
            )
        )


def check_outside(
    client: Client, fixed: Fixed, progress: Progress, findings: Findings, log_end: Callable[[int], int]
) -> None:
    """Rows of offsets that cannot have been folded. `log_end` tells where the log of a partition ends by now."""
    limit = findings.limit + 1
    start, end = progress.log_start, fixed.log_end
    rows = positions.positions_outside(client, progress.partition, start, end, limit)
    if any(row["offset"] >= end for row in rows):
        # On a running system these may be newer than the end that was read before them.
        end = log_end(progress.partition)
    for row in rows:
        if not start <= row["offset"] < end:
            findings.add(_outside(progress.partition, row, f"between {start} and {end - 1}"))


def prove_nothing_folded(client: Client, fixed: Fixed, findings: Findings) -> None:
    """A worker writes the progress row of a partition before anything else of it."""
    limit = findings.limit + 1
    rows = positions.positions_outside(client, fixed.partition, 0, 0, limit)
    if rows and read_progress(client, [fixed.partition]):
        return  # a worker has begun meanwhile
    for row in rows:
        findings.add(_outside(fixed.partition, row, "none, since the partition has no row in fold_progress"))


def progress_finding(progress: Progress, what: str, expected: str, found: object) -> Finding:
    return Finding(
        check="progress",
        place="fold_progress",
        partition=progress.partition,
        what=what,
        expected=expected,
        found=str(found),
    )


def _outside(partition: int, row: dict[str, object], expected: str) -> Finding:
    offset = row["offset"]
    assert isinstance(offset, int)
    return Finding(
        check="conservation",
        place=KINDS[str(row["kind"])],
        partition=partition,
        offset=offset,
        what="row outside of what can have been folded",
        expected=f"offsets {expected}",
        found=f"offset {offset}",
    )
