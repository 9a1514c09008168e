"""The whole verification, in order: fix the offsets, then prove everything below them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime

from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.topics import check_source, log_bounds
from meterfold_processor.verify.conservation import Conservation
from meterfold_processor.verify.contents import compare_contents
from meterfold_processor.verify.findings import Findings, Tell
from meterfold_processor.verify.log import LogReader
from meterfold_processor.verify.offsets import Fixed, fix_offsets
from meterfold_processor.verify.report import Finding, OrgCounts, Report, Unproven
from meterfold_processor.verify.thresholds import Thresholds
from meterfold_processor.verify.windows import prove_windows
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
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
    limit: int = 1000,
    tell: Tell = lambda done, total, text: None,
) -> Report:
    """Prove the numbers of an installation; see Report for what the answer says.

    Waits for up to `wait_seconds` until everything appended before the call is folded, then as long for the checker.
    With `contents` every stored row is compared with its message too, as far as the log reaches back. At most `limit`
    findings of each check and partition are listed. Raises Retryable when a server does not answer, Fatal when
    this is no installation of this version.
    """
    begun_at, begun = datetime.now(UTC), time.monotonic()
    group = checker_group or kafka.topic_prefix + CheckerSettings().group_id
    with ExitStack() as stack:
        client = stack.enter_context(connect(clickhouse))
        check_schema(client)
        rules = read_rules(client)
        check_source(kafka, rules)
        topic = Topics(kafka.topic_prefix).usage_recorded
        reader = stack.enter_context(closing(LogReader(kafka)))
        count = rules.partition_count
        total = 2 * count + 2
        findings = Findings(limit)
        tell(0, total, "fixing offsets")
        fixed = fix_offsets(kafka, client, reader, range(count), wait_seconds, lambda text: tell(0, total, text))
        _name_unknown_partitions(client, count, findings)
        reports, orgs = [], Counter[tuple[str | None, str]]()
        for place, one in enumerate(fixed):
            done, name = 1 + 2 * place, f"partition {one.partition}"
            tell(done, total, name)
            conservation = Conservation(
                client,
                reader,
                rules,
                micros(begun_at),
                findings,
                _sub(tell, done, total, f"{name}: "),
                log_end=lambda partition: log_bounds(kafka, topic, [partition])[partition][1],
            )
            report = conservation.prove(one)
            if one.unfolded and wait_seconds:
                findings.cannot(_unfolded(one, wait_seconds))
            if contents:
                compared = compare_contents(client, reader, one, findings, _sub(tell, done, total, f"{name}: "))
                report = replace(report, compared=compared)
            _count_orgs(client, one, orgs)
            tell(done + 1, total, f"{name}: recounting windows")
            reports.append(prove_windows(client, report, findings))
        tell(total - 1, total, "thresholds and alerts")
        thresholds = stack.enter_context(
            closing(Thresholds(kafka, clickhouse, client, rules, group, wait_seconds, findings))
        )
        judged = thresholds.prove(_sub(tell, total - 1, total, ""))
        tell(total, total, "done")
    return Report(
        begun_at=begun_at,
        seconds=time.monotonic() - begun,
        partitions=tuple(reports),
        orgs=_orgs(orgs),
        thresholds=judged,
        findings=tuple(findings.found),
        unproven=tuple(findings.unproven),
        more=findings.more,
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


def _count_orgs(client: Client, fixed: Fixed, orgs: Counter[tuple[str | None, str]]) -> None:
    if fixed.progress is None:
        return
    for row in positions.org_counts(client, fixed.partition, fixed.progress.next_offset):
        for kind in positions.KINDS:
            orgs[row["org_id"], kind] += row[kind]


def _orgs(counts: Mapping[tuple[str | None, str], int]) -> tuple[OrgCounts, ...]:
    names = sorted({org_id for org_id, _ in counts}, key=lambda name: (name is None, name or ""))
    return tuple(OrgCounts(name, *(counts[name, kind] for kind in positions.KINDS)) for name in names)
