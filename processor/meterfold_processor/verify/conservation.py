"""Conservation: log = counted + duplicate + rejected, offset by offset, in slices of offsets.

Of a whole partition the counters of its progress row are compared, too; they also tell of offsets that the log does not
hold any more. Of a range of time they tell nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from confluent_kafka import Message

from meterfold_processor.verify.bounds import check_bounds, check_nothing_folded, check_outside, progress_finding
from meterfold_processor.verify.counters import Accounts, balance, merged, split
from meterfold_processor.verify.log import Fixed, Gap, Log
from meterfold_processor.verify.report import Finding, Findings, PartitionReport, Unproven
from meterfold_processor.verify.timerange import Part
from meterfold_schemas.errors import Poison, UnknownSchema
from meterfold_schemas.periods import MICROS_PER_SECOND, from_micros
from meterfold_schemas.quantities import number_text
from meterfold_schemas.usage import UsageRecorded
from meterfold_sink import conservation, positions
from meterfold_sink.client import Client
from meterfold_sink.fold_state import ProgressRow
from meterfold_sink.positions import KINDS, Positions, Span
from meterfold_sink.rules import FoldRules

__all__ = ["Conservation"]

#: Bounds the memory of a query and of the gaps that it finds.
SLICE: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Conservation:
    """Proves a few partitions together. `now` in UTC microseconds: what is older than the retention may be gone.
    `log_is_compared`: whether someone else compares each row with the log."""

    client: Client
    log: Log
    rules: FoldRules
    now: int
    findings: Findings
    tell: Callable[[str], None]
    log_is_compared: bool

    def prove(self, group: Sequence[Fixed], parts: Mapping[int, Part]) -> list[PartitionReport]:
        """`parts`: what to prove of each partition, no entry where nothing was folded. Raises Retryable or Fatal."""
        folded = {fixed.partition: fixed for fixed in group if fixed.partition in parts}
        check_nothing_folded(self.client, [f.partition for f in group if f.partition not in folded], self.findings)
        whole = {partition: fixed for partition, fixed in folded.items() if parts[partition].whole}
        for fixed in whole.values():
            if fixed.progress is not None:
                check_bounds(fixed, fixed.progress, self.findings)
        check_outside(self.client, whole, self.findings, self._log_ends)
        last = {p: fixed.progress.next_offset - 1 for p, fixed in whole.items() if fixed.progress}
        stored = self._stored([parts[partition].span(partition) for partition in folded])
        stamps = positions.stamps_at(self.client, last)
        return [
            self._report(fixed, parts[fixed.partition], *stored[fixed.partition], stamps.get(fixed.partition))
            if fixed.partition in folded
            else _nothing(fixed)
            for fixed in group
        ]

    def _report(
        self, fixed: Fixed, part: Part, stored: Positions, gaps: list[Gap], last_stamp: int | None
    ) -> PartitionReport:
        progress = fixed.progress
        assert progress is not None
        gone, held = split(merged(gaps), fixed.log_start)
        missing, expired = self._look_up(progress.partition, held)
        if part.whole:
            self._balance(progress, stored, missing, expired, gone)
            self._compare_stamp(progress, last_stamp)
        else:
            self._name_unknown(progress.partition, gone, expired)
        too_many = any(getattr(stored, kind) > count for kind, count in _counters(progress).items())
        if not self.log_is_compared and (too_many or not part.whole):
            self._name_invented(fixed, part)
        return replace(
            _nothing(fixed),
            began_at=part.first,
            next_offset=part.until if not part.whole else progress.next_offset,
            counted=stored.records,
            duplicates=stored.duplicates,
            rejected=stored.rejected,
            no_message=sum(map(len, held)) - missing - expired,
            gone=sum(map(len, gone)),
        )

    def _balance(self, progress: ProgressRow, stored: Positions, missing: int, expired: int, gone: list[Gap]) -> None:
        first_kept = None
        if gone:
            limit = self.now - (self.rules.record_retention_seconds - self.rules.slack_seconds) * MICROS_PER_SECOND
            first_kept = positions.first_offset_after(self.client, progress.partition, limit)
        found, unproven = balance(Accounts(progress, stored, missing, expired, gone, first_kept))
        self.findings.extend(found)
        self.findings.cannot(*unproven)

    def _compare_stamp(self, progress: ProgressRow, stamp: int | None) -> None:
        if stamp is not None and stamp != progress.last_stamp:
            what = "last_stamp, against the row at next_offset - 1"
            self.findings.add(
                progress_finding(
                    progress, what, from_micros(stamp).isoformat(), from_micros(progress.last_stamp).isoformat()
                )
            )

    def _name_unknown(self, partition: int, gone: list[Gap], expired: int) -> None:
        """Of a range of time no counters say what these were."""
        reasons = {
            "no row, and the log does not hold them any more: whether they were events only the counters of the whole "
            "partition say (verify without a range)": sum(map(len, gone)),
            "messages of the log are older than the records' retention": expired,
        }
        for why, count in reasons.items():
            if count:
                self.findings.cannot(
                    Unproven(
                        check="conservation",
                        place=", ".join(KINDS.values()),
                        partition=partition,
                        offset=gone[0].first if gone else None,
                        last_offset=gone[-1].last if gone else None,
                        passing=False,
                        why=f"{count}: {why}",
                    )
                )

    def _stored(self, spans: Sequence[Span]) -> dict[int, tuple[Positions, list[Gap]]]:
        stored = {span.partition: (Positions(), list[Gap]()) for span in spans}
        for together in positions.slices(spans, SLICE):
            if len(together) == 1:
                self.tell(f"offsets {together[0].first:,} to {together[0].until - 1:,}")
            here = positions.positions(self.client, together)
            lacking = []
            for span in together:
                found = here.get(span.partition, Positions())
                before, gaps = stored[span.partition]
                stored[span.partition] = before + found, gaps
                if found.twice:
                    self._name_twice(span)
                if found.distinct < len(span):
                    lacking.append(span)
            if lacking:
                for partition, gap in self._gaps(lacking):
                    stored[partition][1].append(gap)
        return stored

    def _gaps(self, spans: Sequence[Span]) -> Iterator[tuple[int, Gap]]:
        rows = conservation.gaps(self.client, spans, limit=max(map(len, spans)))
        names = ("partition", "first_offset", "last_offset")
        for partition, first, last in zip(*(rows.column(name).to_pylist() for name in names), strict=True):
            yield partition, Gap(first, last)

    def _log_ends(self, partitions: Iterable[int]) -> dict[int, int]:
        return {partition: end for partition, (_, end) in self.log.bounds(partitions).items()}

    def _look_up(self, partition: int, gaps: list[Gap]) -> tuple[int, int]:
        """(messages that should have a row, messages whose rows have expired)."""
        if gaps:
            self.tell(f"looking for {sum(map(len, gaps)):,} offsets without a row in the log")
        missing = expired = 0
        for message in self.log.messages_at(partition, gaps):
            _, milliseconds = message.timestamp()
            if milliseconds * 1000 < self.now - self.rules.record_retention_seconds * MICROS_PER_SECOND:
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

    def _name_twice(self, span: Span) -> None:
        for row in positions.positions_twice(self.client, span, self.findings.limit):
            tables = [KINDS[kind] for kind in row["kinds"]]
            self.findings.add(
                Finding(
                    check="conservation",
                    place=", ".join(dict.fromkeys(tables)),
                    partition=span.partition,
                    offset=row["offset"],
                    what="position stored more than once",
                    expected="one row",
                    found=f"{len(tables)} rows ({', '.join(tables)})",
                )
            )

    def _name_invented(self, fixed: Fixed, part: Part) -> None:
        """Rows at offsets where the log has no message: read it, as far as it reaches back."""
        held = Span(fixed.partition, max(part.first, fixed.log_start), part.until)
        for (span,) in positions.slices([held], SLICE):
            first, until = span.first, span.until
            self.tell(f"comparing offsets {first:,} to {until - 1:,} with the log")
            there = np.zeros(len(span), np.bool_)
            for batch in self.log.read([span]):
                there[_offsets(batch) - first] = True
            rows = positions.stored_offsets(self.client, span)
            stored = rows.column("offset").to_numpy()
            for place in np.flatnonzero(~there[stored - first]).tolist():
                self.findings.add(
                    Finding(
                        check="conservation",
                        place=KINDS[rows.column("kind")[place].as_py()],
                        partition=fixed.partition,
                        offset=int(stored[place]),
                        what="row of an offset that holds no message",
                        expected="no row",
                        found="one row",
                    )
                )


def _nothing(fixed: Fixed) -> PartitionReport:
    return PartitionReport(
        partition=fixed.partition, log_start=fixed.log_start, log_end=fixed.log_end, unfolded=fixed.unfolded
    )


def _counters(progress: ProgressRow) -> dict[str, int]:
    return {"records": progress.counted, "duplicates": progress.duplicates, "rejected": progress.rejected}


def _offsets(messages: list[Message]) -> npt.NDArray[np.int64]:
    return np.fromiter((message.offset() or 0 for message in messages), np.int64, len(messages))


def _described(message: Message) -> str:
    try:
        event = UsageRecorded.from_bytes(message.value() or b"")
    except (Poison, UnknownSchema):
        return f"{len(message.value() or b'')} bytes that are no event"
    subject = "/".join((event.org_id, event.metric_key, event.subject_type, event.subject_id))
    return f"id {event.id!r} of {subject}, quantity {number_text(event.quantity)}"
