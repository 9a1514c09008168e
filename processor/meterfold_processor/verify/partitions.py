"""All that is asked about the rows and windows of partitions. Small partitions are asked about together: a query costs
far more than the rows of a small one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.schemas import Schemas
from meterfold_processor.verify.conservation import Conservation
from meterfold_processor.verify.contents import Contents
from meterfold_processor.verify.identities import prove_identities
from meterfold_processor.verify.log import Fixed, Log
from meterfold_processor.verify.orgs import OrgTally, counts_of
from meterfold_processor.verify.report import Findings, OrgCounts, PartitionReport, Unproven
from meterfold_processor.verify.timerange import Part, TimeRange
from meterfold_processor.verify.windows import prove_windows
from meterfold_sink import positions
from meterfold_sink.client import Client
from meterfold_sink.positions import KINDS, Span
from meterfold_sink.rules import FoldRules

__all__ = ["PartitionProofs", "groups"]

#: Partitions go together while they hold no more offsets than this: it bounds the memory of all that is asked about
#: them, here and in ClickHouse, by that of one partition of this size.
_TOGETHER: Final = 200_000
#: Each partition adds a condition to the statements.
_MOST: Final = 64


def groups(partitions: Iterable[Fixed]) -> Iterator[list[Fixed]]:
    """Partitions that are proven together; a large one is alone."""
    together, size = list[Fixed](), 0
    for fixed in partitions:
        own = fixed.progress.next_offset - fixed.progress.log_start if fixed.progress else 0
        if together and (size + own > _TOGETHER or len(together) == _MOST):
            yield together
            together, size = [], 0
        together.append(fixed)
        size += own
    if together:
        yield together


@dataclass(frozen=True, slots=True)
class PartitionProofs:
    """For one verification. `now` in UTC microseconds; `schemas`: how each fingerprint is read; `contents`: whether
    rows are compared with their messages."""

    client: Client
    log: Log
    rules: FoldRules
    schemas: Schemas
    now: int
    findings: Findings
    within: TimeRange | None
    contents: bool

    def prove(
        self, group: Sequence[Fixed], parts: Mapping[int, Part], tell: Callable[[str], None]
    ) -> list[PartitionReport]:
        """`parts`: the offsets that are to be proven of each partition, no entry where nothing was folded. Raises
        Retryable or Fatal."""
        conservation = Conservation(self.client, self.log, self.rules, self.now, self.findings, tell, self.contents)
        reports = conservation.prove(group, parts)
        spans = [parts[fixed.partition].span(fixed.partition) for fixed in group if fixed.partition in parts]
        if spans:
            tell("looking for identities that were counted twice")
            prove_identities(self.client, self.rules, self.now, spans, self.findings)
            in_log: Mapping[int, OrgTally] = {}
            if self.contents:
                compared = Contents(self.client, self.log, Rules.of(self.rules), self.schemas, self.findings, tell)
                starts = {fixed.partition: fixed.log_start for fixed in group}
                compared.compare([replace(span, first=max(span.first, starts[span.partition])) for span in spans])
                in_log = compared.orgs
                reports = [
                    replace(report, compared=compared.compared[report.partition])
                    if report.partition in parts
                    else report
                    for report in reports
                ]
                for report in reports:
                    if report.partition in parts:
                        self._name_uncompared(report, parts[report.partition])
            orgs = self._orgs(reports, spans, in_log)
            reports = [replace(report, orgs=orgs.get(report.partition, ())) for report in reports]
        tell("recounting windows")
        return prove_windows(
            self.client, reports, self.findings, self.within, lambda text: tell(f"recounting windows: {text}")
        )

    def _orgs(
        self, reports: Sequence[PartitionReport], spans: Sequence[Span], in_log: Mapping[int, OrgTally]
    ) -> dict[int, tuple[OrgCounts, ...]]:
        starts = {report.partition: report.log_start for report in reports}
        if in_log and all(starts[span.partition] <= span.first for span in spans):
            return {partition: tally.counts() for partition, tally in in_log.items()}  # every row was read
        rows: dict[int, list[dict[str, object]]] = {}
        for row in positions.org_counts(self.client, spans):
            rows.setdefault(row["partition"], []).append(row)
        return {
            partition: counts_of(found, in_log[partition].log if partition in in_log else None)
            for partition, found in rows.items()
        }

    def _name_uncompared(self, report: PartitionReport, part: Part) -> None:
        """Rows whose messages have left the log."""
        rows, compared = report.counted + report.duplicates + report.rejected, report.compared or 0
        if part.first < report.log_start and compared < rows:
            self.findings.cannot(
                Unproven(
                    check="contents",
                    place=", ".join(KINDS.values()),
                    partition=report.partition,
                    offset=part.first,
                    last_offset=min(report.log_start, part.until) - 1,
                    passing=False,
                    why=f"the messages of {rows - compared} rows are not in the log any more: the rows are counted and "
                    "their windows recounted, but nothing can be compared with them",
                )
            )
