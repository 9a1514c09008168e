"""The whole verification, in order: fix the offsets, then prove everything below them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime

from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.fold.schemas import judged_by
from meterfold_processor.kafka.admin import kept_admin
from meterfold_processor.kafka.reader import BULK, TopicReader, open_transaction
from meterfold_processor.kafka.topics import check_source
from meterfold_processor.verify.aggregates import prove_aggregates
from meterfold_processor.verify.closings import prove_closings
from meterfold_processor.verify.log import Fixed, Log, fix_offsets
from meterfold_processor.verify.orgs import summed
from meterfold_processor.verify.partitions import PartitionProofs, groups
from meterfold_processor.verify.report import Finding, Findings, PartitionReport, Tell, Unproven, VerifyReport
from meterfold_processor.verify.thresholds import ThresholdProofs
from meterfold_processor.verify.timerange import TimeRange, parts_of
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_sink import positions
from meterfold_sink.client import Client, connect
from meterfold_sink.fold_state import read_rules
from meterfold_sink.migrate import check_schema
from meterfold_sink.schema_decisions import read_schema_facts

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
) -> VerifyReport:
    """Prove the numbers of an installation; see VerifyReport for what the answer says.

    Waits for up to `wait_seconds` until everything appended before the call is folded, then as long for the checker.
    With `contents` every stored row is compared with its message too, as far as the log reaches back. `within` asks
    about a range of event times only. At most `limit` findings of each check and partition are listed. Raises
    Retryable when a server does not answer, Fatal when this is not an installation of this version.
    """
    begun_at, begun = datetime.now(UTC), time.monotonic()
    group_id = checker_group or kafka.topic_prefix + CheckerSettings().group_id
    with ExitStack() as stack:
        stack.enter_context(kept_admin(kafka))
        client = stack.enter_context(connect(clickhouse))
        check_schema(client)
        rules = read_rules(client)
        check_source(kafka, rules)
        # One connection reads every topic. The group exists in the configuration only.
        reader = stack.enter_context(closing(TopicReader(kafka, "meterfold-verify", BULK)))
        log = Log(kafka, reader)
        count = rules.partition_count
        total = count + 3
        findings = Findings(limit)
        tell(0, total, "fixing offsets")
        fixed = fix_offsets(log, client, range(count), wait_seconds, lambda text: tell(0, total, text))
        _name_unknown_partitions(client, count, findings)
        # Read after the progress: everything folded was decided by these.
        schemas = judged_by(read_schema_facts(client), json=rules.reads_json, confluent=rules.reads_registry_ids)
        proofs = PartitionProofs(client, log, rules, schemas, micros(begun_at), findings, within, contents)
        parts = parts_of(kafka, client, rules, fixed, within)
        together = list(groups(fixed))
        reports = list[PartitionReport]()
        for group in together:
            if wait_seconds:
                findings.cannot(*(_unfolded(one, wait_seconds) for one in group if one.unfolded))
            reports += proofs.prove(group, parts, _sub(tell, 1 + len(reports), total, f"{_named(group)}: "))
        numbers = [[one.partition for one in group] for group in together]
        aggregates = prove_aggregates(
            kafka, client, reader, numbers, findings, within, _sub(tell, count + 1, total, "")
        )
        closings = prove_closings(client, rules, micros(begun_at), findings, within, _sub(tell, count + 1, total, ""))
        tell(count + 2, total, "thresholds and alerts")
        thresholds = stack.enter_context(
            closing(ThresholdProofs(kafka, client, reader, rules, group_id, wait_seconds, findings, within))
        )
        judged = thresholds.prove(numbers, _sub(tell, count + 2, total, ""))
        tell(total, total, "done")
    return VerifyReport(
        begun_at=begun_at,
        seconds=time.monotonic() - begun,
        partitions=tuple(reports),
        orgs=summed(report.orgs for report in reports),
        thresholds=judged,
        aggregates=aggregates,
        closings=closings,
        findings=tuple(findings.found),
        unproven=tuple(findings.unproven),
        more=findings.more,
        range_start=None if within is None else within.start,
        range_end=None if within is None else within.end,
    )


def _sub(tell: Tell, done: int, total: int, prefix: str) -> Callable[[str], None]:
    return lambda text: tell(done, total, prefix + text)


def _named(group: Sequence[Fixed]) -> str:
    numbers = [one.partition for one in group]
    return f"partition {numbers[0]}" if len(numbers) == 1 else f"partitions {numbers[0]} to {numbers[-1]}"


def _unfolded(fixed: Fixed, wait_seconds: float) -> Unproven:
    return Unproven(
        check="progress",
        place="usage.recorded",
        partition=fixed.partition,
        passing=True,
        offset=fixed.progress.next_offset if fixed.progress else fixed.log_start,
        why=f"messages from here on were appended before the call and are not folded after {wait_seconds:g} s"
        + ("" if fixed.open_at is None else f": {open_transaction(fixed.open_at)}"),
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
