"""Conservation: log = counted + duplicate + rejected, offset by offset, in slices of offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from confluent_kafka import Message

from meterfold_processor.verify.counters import Accounts, balance, merged, split
from meterfold_processor.verify.findings import Findings
from meterfold_processor.verify.log import Gap, LogReader
from meterfold_processor.verify.offsets import Fixed
from meterfold_processor.verify.report import Finding, PartitionReport
from meterfold_schemas.errors import Poison, UnknownSchema
from meterfold_schemas.usage import UsageRecorded
from meterfold_sink import conservation, positions
from meterfold_sink.client import Client
from meterfold_sink.positions import KINDS, Positions
from meterfold_sink.reads import Progress, read_progress
from meterfold_sink.rules import FoldRules

__all__ = ["Conservation"]

SLICE: Final = 2_000_000
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Conservation:
    """Proves one partition after the other. `now` in UTC microseconds: what is older than the retention may be gone.
    `log_end` tells where the log of a partition ends by now."""

    client: Client
    reader: LogReader
    rules: FoldRules
    now: int
    findings: Findings
    tell: Callable[[str], None]
    log_end: Callable[[int], int]
    slice_size: int = SLICE

    def prove(self, fixed: Fixed) -> PartitionReport:
        """Raises Retryable or Fatal."""
        report = PartitionReport(
            partition=fixed.partition, log_start=fixed.log_start, log_end=fixed.log_end, unfolded=fixed.unfolded
        )
        progress = fixed.progress
        if progress is None:
            self._prove_nothing_folded(fixed)
            return report
        self._check_bounds(fixed, progress)
        self._check_outside(fixed, progress)
        # A progress beyond the log was named; nothing can be read there.
        until = min(progress.next_offset, fixed.log_end)
        stored, gaps = self._stored(progress, until)
        gone, held = split(gaps, fixed.log_start)
        missing, expired = self._look_up(progress.partition, held)
        first_kept = None
        if gone:
            limit = self.now - (self.rules.record_retention_seconds - self.rules.slack_seconds) * _SECOND
            first_kept = positions.first_offset_after(self.client, progress.partition, limit)
        found, unproven = balance(Accounts(progress, stored, missing, expired, gone, first_kept))
        self.findings.extend(found)
        self.findings.cannot(*unproven)
        if any(getattr(stored, kind) > count for kind, count in _counters(progress).items()):
            self._name_invented(fixed, progress, until)
        self._check_identities(progress.partition)
        return replace(
            report,
            began_at=progress.log_start,
            next_offset=progress.next_offset,
            counted=stored.records,
            duplicates=stored.duplicates,
            rejected=stored.rejected,
            no_message=sum(map(len, held)) - missing - expired,
            gone=sum(map(len, gone)),
        )

    def _stored(self, progress: Progress, end: int) -> tuple[Positions, list[Gap]]:
        stored, gaps = Positions(), list[Gap]()
        for first, until in self._slices(progress.log_start, end):
            self.tell(f"offsets {first:,} to {until - 1:,}")
            here = positions.positions(self.client, progress.partition, first, until)
            stored += here
            if here.twice:
                self._name_twice(progress.partition, first, until)
            if here.distinct < until - first:
                rows = conservation.gaps(self.client, progress.partition, first, until, limit=until - first)
                firsts, lasts = (rows.column(name).to_numpy() for name in ("first_offset", "last_offset"))
                gaps.extend(map(Gap, firsts.tolist(), lasts.tolist()))
        return stored, merged(gaps)

    def _slices(self, first: int, until: int) -> Iterator[tuple[int, int]]:
        for start in range(first, until, self.slice_size):
            yield start, min(start + self.slice_size, until)

    def _look_up(self, partition: int, gaps: list[Gap]) -> tuple[int, int]:
        """(messages that should have a row, messages whose rows have expired)."""
        if gaps:
            self.tell(f"looking for {sum(map(len, gaps)):,} offsets without a row in the log")
        missing = expired = 0
        for message in self.reader.messages_at(partition, gaps):
            _, milliseconds = message.timestamp()
            if milliseconds * 1000 < self.now - self.rules.record_retention_seconds * _SECOND:
                expired += 1
                continue
            missing += 1
            self.findings.add(
                Finding(
                    check="conservation",
                    place=", ".join(KINDS.values()),
                    partition=partition,
                    offset=message.offset(),
                    what="message of the log without a row",
                    expected=f"one row for {_described(message)}",
                    found="none",
                )
            )
        return missing, expired

    def _name_twice(self, partition: int, first: int, until: int) -> None:
        for row in positions.positions_twice(self.client, partition, first, until, self.findings.limit):
            tables = [KINDS[kind] for kind in row["kinds"]]
            self.findings.add(
                Finding(
                    check="conservation",
                    place=", ".join(dict.fromkeys(tables)),
                    partition=partition,
                    offset=row["offset"],
                    what="position stored more than once",
                    expected="one row",
                    found=f"{len(tables)} rows ({', '.join(tables)})",
                )
            )

    def _name_invented(self, fixed: Fixed, progress: Progress, end: int) -> None:
        """Rows at offsets where the log has no message: read it, as far as it reaches back."""
        for first, until in self._slices(max(progress.log_start, fixed.log_start), end):
            self.tell(f"comparing offsets {first:,} to {until - 1:,} with the log")
            there = np.zeros(until - first, np.bool_)
            for batch in self.reader.read(progress.partition, first, until):
                there[_offsets(batch) - first] = True
            rows = positions.stored_offsets(self.client, progress.partition, first, until)
            stored = rows.column("offset").to_numpy()
            for place in np.flatnonzero(~there[stored - first]).tolist():
                self.findings.add(
                    Finding(
                        check="conservation",
                        place=KINDS[rows.column("kind")[place].as_py()],
                        partition=progress.partition,
                        offset=int(stored[place]),
                        what="row of an offset that holds no message",
                        expected="no row",
                        found="one row",
                    )
                )

    def _check_bounds(self, fixed: Fixed, progress: Progress) -> None:
        if progress.next_offset > fixed.log_end:
            self.findings.add(
                _progress_finding(
                    progress, "next_offset", f"at most the log's end, {fixed.log_end}", progress.next_offset
                )
            )
        if progress.next_offset < fixed.log_start:
            self.findings.add(
                _progress_finding(
                    progress,
                    "next_offset: messages behind it were deleted before they were folded",
                    f"at least the log's start, {fixed.log_start}",
                    progress.next_offset,
                )
            )
        if progress.log_start > fixed.log_start or progress.log_start > progress.next_offset:
            # The log's start only grows, so the fold cannot have begun behind it.
            expected = min(fixed.log_start, progress.next_offset)
            self.findings.add(
                _progress_finding(
                    progress, "log_start: what stands before it was skipped", f"at most {expected}", progress.log_start
                )
            )

    def _check_outside(self, fixed: Fixed, progress: Progress) -> None:
        limit = self.findings.limit + 1
        start, end = progress.log_start, fixed.log_end
        rows = positions.positions_outside(self.client, progress.partition, start, end, limit)
        if any(row["offset"] >= end for row in rows):
            # On a running system these may be newer than the end that was read before them.
            end = self.log_end(progress.partition)
        for row in rows:
            if not start <= row["offset"] < end:
                self.findings.add(_outside(progress.partition, row, f"between {start} and {end - 1}"))

    def _prove_nothing_folded(self, fixed: Fixed) -> None:
        """A worker writes the progress row of a partition before anything else of it."""
        limit = self.findings.limit + 1
        rows = positions.positions_outside(self.client, fixed.partition, 0, 0, limit)
        if rows and read_progress(self.client, [fixed.partition]):
            return  # a worker has begun meanwhile
        for row in rows:
            self.findings.add(_outside(fixed.partition, row, "none, since the partition has no row in fold_progress"))

    def _check_identities(self, partition: int) -> None:
        limit = self.findings.limit + 1
        twice = conservation.repeated_identities(self.client, partition, self.rules.lookback_seconds, limit=limit)
        for row in twice.to_pylist():
            subject = "/".join(row[name] for name in ("org_id", "metric_key", "subject_type", "subject_id"))
            self.findings.add(
                Finding(
                    check="identities",
                    place="usage_records",
                    partition=partition,
                    offset=row["offset"],
                    name=f"id {row['id']!r} of {subject}",
                    what="event counted twice",
                    expected=f"a duplicate of offset {row['earlier_offset']}",
                    found="a second record",
                )
            )


def _counters(progress: Progress) -> dict[str, int]:
    return {"records": progress.counted, "duplicates": progress.duplicates, "rejected": progress.rejected}


def _progress_finding(progress: Progress, what: str, expected: str, found: int) -> Finding:
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


def _offsets(messages: list[Message]) -> npt.NDArray[np.int64]:
    return np.fromiter((message.offset() or 0 for message in messages), np.int64, len(messages))


def _described(message: Message) -> str:
    try:
        event = UsageRecorded.from_bytes(message.value() or b"")
    except (Poison, UnknownSchema):
        return f"{len(message.value() or b'')} bytes that are no event"
    subject = "/".join((event.org_id, event.metric_key, event.subject_type, event.subject_id))
    return f"id {event.id!r} of {subject}, quantity {event.quantity.normalize():f}"
