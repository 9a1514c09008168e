"""All that is asked about the rows of one partition, apart from its windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.schemas import judged_by
from meterfold_processor.kafka.offsets import log_bounds
from meterfold_processor.verify.conservation import Conservation
from meterfold_processor.verify.contents import Contents
from meterfold_processor.verify.findings import Findings
from meterfold_processor.verify.identities import prove_identities
from meterfold_processor.verify.log import LogReader
from meterfold_processor.verify.offsets import Fixed
from meterfold_processor.verify.orgs import counts_of
from meterfold_processor.verify.report import PartitionReport, Unproven
from meterfold_processor.verify.timerange import Part, TimeRange
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink import positions
from meterfold_sink.client import Client
from meterfold_sink.positions import KINDS
from meterfold_sink.rules import FoldRules
from meterfold_sink.schema_decisions import read_schema_facts

__all__ = ["PartitionProofs"]


@dataclass(frozen=True, slots=True)
class PartitionProofs:
    """For one verification. `now` in UTC microseconds; `contents`: whether rows are compared with their messages."""

    kafka: KafkaSettings
    client: Client
    reader: LogReader
    rules: FoldRules
    now: int
    findings: Findings
    within: TimeRange | None
    contents: bool

    def rows(self, fixed: Fixed, part: Part | None, tell: Callable[[str], None]) -> PartitionReport:
        """`part`: the offsets that are to be proven, None where nothing was folded. Raises Retryable or Fatal."""
        topic = Topics(self.kafka.topic_prefix).usage_recorded
        conservation = Conservation(
            self.client,
            self.reader,
            self.rules,
            self.now,
            self.findings,
            tell,
            log_end=lambda partition: log_bounds(self.kafka, topic, [partition])[partition][1],
            log_is_compared=self.contents,
        )
        report = conservation.prove(fixed, part)
        if part is None:
            return report
        tell("looking for identities that were counted twice")
        prove_identities(self.client, self.rules, self.now, fixed.partition, part, self.findings)
        in_log = None
        if self.contents:
            compared = Contents(
                self.client,
                self.reader,
                fixed.partition,
                Rules.of(self.rules),
                judged_by(read_schema_facts(self.client)),
                self.findings,
                tell,
            )
            compared.compare(part, fixed.log_start)
            in_log = compared.orgs.log
            report = replace(report, compared=compared.compared)
            self._name_uncompared(fixed, part, report, compared.compared)
        orgs = positions.org_counts(self.client, fixed.partition, part.first, part.until)
        return replace(report, orgs=counts_of(orgs, in_log))

    def _name_uncompared(self, fixed: Fixed, part: Part, report: PartitionReport, compared: int) -> None:
        """Rows whose messages have left the log."""
        rows = report.counted + report.duplicates + report.rejected
        if part.first < fixed.log_start and compared < rows:
            self.findings.cannot(
                Unproven(
                    check="contents",
                    place=", ".join(KINDS.values()),
                    partition=fixed.partition,
                    offset=part.first,
                    last_offset=min(fixed.log_start, part.until) - 1,
                    passing=False,
                    why=f"the messages of {rows - compared} rows are not in the log any more: the rows are counted and "
                    "their windows recounted, but nothing can be compared with them",
                )
            )
