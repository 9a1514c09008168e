"""The whole verification, in order: fix the offsets, then prove everything below them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime

from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.kafka.admin import kept_admin
from meterfold_processor.kafka.topics import check_source
from meterfold_processor.verify.aggregates import prove_aggregates
from meterfold_processor.verify.findings import Findings, Tell
from meterfold_processor.verify.log import LogReader
from meterfold_processor.verify.offsets import Fixed, fix_offsets
from meterfold_processor.verify.orgs import summed
from meterfold_processor.verify.partitions import PartitionProofs
from meterfold_processor.verify.report import Finding, Report, Unproven
from meterfold_processor.verify.scan import Scanner
from meterfold_processor.verify.thresholds import Thresholds
from meterfold_processor.verify.timerange import TimeRange, parts_of
from meterfold_processor.verify.windows import prove_windows
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_sink import positions
from meterfold_sink.client import Client, connect
from meterfold_sink.migrate import check_schema
from meterfold_sink.reads import read_rules

__all__ = ["verify"]


def verify(
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    *,
    wait_seconds: float = 0.0,
    checker_group: str | None = None,
    contents: bool = False,
    within: TimeRange | None = None,
    limit: int = 1000,
    tell: Tell = lambda done, total, text: None,
) -> Report:
    """Prove the numbers of an installation; see Report for what the answer says.

    Waits for up to `wait_seconds` until everything appended before the call is folded, then as long for the checker.
    With `contents` every stored row is compared with its message too, as far as the log reaches back. `within` asks
    about a range of event times only. At most `limit` findings of each check and partition are listed. Raises
    Retryable when a server does not answer, Fatal when this is no installation of this version.
    """
    begun_at, begun = datetime.now(UTC), time.monotonic()
    group = checker_group or kafka.topic_prefix + CheckerSettings().group_id
    with ExitStack() as stack:
        stack.enter_context(kept_admin(kafka))
        client = stack.enter_context(connect(clickhouse))
        check_schema(client)
        rules = read_rules(client)
        check_source(kafka, rules)
        reader = stack.enter_context(closing(LogReader(kafka)))
        count = rules.partition_count
        total = 2 * count + 3
        findings = Findings(limit)
        tell(0, total, "fixing offsets")
        fixed = fix_offsets(kafka, client, reader, range(count), wait_seconds, lambda text: tell(0, total, text))
        _name_unknown_partitions(client, count, findings)
        proofs = PartitionProofs(kafka, client, reader, rules, micros(begun_at), findings, within, contents)
        parts = parts_of(kafka, client, rules, fixed, within)
        reports = []
        for place, one in enumerate(fixed):
            done, name = 1 + 2 * place, f"partition {one.partition}"
            tell(done, total, name)
            if one.unfolded and wait_seconds:
                findings.cannot(_unfolded(one, wait_seconds))
            part = parts.get(one.partition)
            report = proofs.rows(one, part, _sub(tell, done, total, f"{name}: "))
            tell(done + 1, total, f"{name}: recounting windows")
            reports.append(prove_windows(client, report, findings, within))
        scanner = stack.enter_context(closing(Scanner(kafka)))
        aggregates = prove_aggregates(kafka, client, scanner, count, findings, within, _sub(tell, total - 2, total, ""))
        tell(total - 1, total, "thresholds and alerts")
        thresholds = stack.enter_context(
            closing(Thresholds(kafka, clickhouse, client, rules, group, wait_seconds, findings, within))
        )
        judged = thresholds.prove(_sub(tell, total - 1, total, ""))
        tell(total, total, "done")
    return Report(
        begun_at=begun_at,
        seconds=time.monotonic() - begun,
        partitions=tuple(reports),
        orgs=summed(report.orgs for report in reports),
        thresholds=judged,
        aggregates=aggregates,
        findings=tuple(findings.found),
        unproven=tuple(findings.unproven),
        more=findings.more,
        range_start=None if within is None else within.start,
        range_end=None if within is None else within.end,
    )


def _sub(tell: Tell, done: int, total: int, prefix: str) -> Callable[[str], None]:
    return lambda text: tell(done, total, prefix + text)


def _unfolded(fixed: Fixed, wait_seconds: float) -> Unproven:
    return Unproven(
        check="progress",
        place="usage.recorded",
        partition=fixed.partition,
        passing=True,
        offset=fixed.progress.next_offset if fixed.progress else fixed.log_start,
        why=f"messages from here on were appended before the call and are not folded after {wait_seconds:g} s",
    )


def _name_unknown_partitions(client: Client, count: int, findings: Findings) -> None:
    for row in positions.unknown_partitions(client, count):
        findings.add(
            Finding(
                check="conservation",
                place=row["table"],
                partition=row["partition"],
                what="rows of a partition that the topic does not have",
                expected=f"partitions 0 to {count - 1}",
                found=f"{row['rows']} rows",
            )
        )
