"""`meterfold rejected` with very many messages: python benchmarks/rejected.py [--rows 1000000] [--redrive 20000].

The messages are rows of usage_rejected that ClickHouse makes; those that are sent again are real events, and a fold
worker counts them. Prints seconds, CPU seconds of this process and of ClickHouse, and this process's peak memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
import pyarrow as pa

from meterfold_cli.local_run import command
from meterfold_local.stack import LocalStack
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_schemas.usage import UsageRecorded
from meterfold_service import Metering
from meterfold_service.rejected.corrections import Correction
from meterfold_service.rejected.results import Position
from meterfold_sink.client import connect
from meterfold_sink.writers import Writer

PARTITIONS: Final = 4
FIRST: Final = 10_000_000
"""The offset of the first rejected message: beyond those that this run's own events get."""
OLD: Final = timedelta(days=2)
T = TypeVar("T")


def fill(settings: ClickHouseSettings, rows: int, events: int) -> None:
    """`rows` that cannot be read, and `events` without a key that can be sent again."""
    begin = datetime.now(UTC) - OLD
    with connect(settings) as client:
        for partition in range(PARTITIONS):
            client.command(
                "INSERT INTO usage_rejected (partition, offset, received_at, reason, detail, key, value, org_id, "
                "metric_key, subject_type, subject_id) "
                f"SELECT {partition}, {FIRST} + number, "
                f"fromUnixTimestamp64Micro({micros(begin)} + toInt64(number) * 1000, 'UTC'), "
                "arrayElement(['undecodable', 'invalid', 'too_old', 'in_future'], number % 4 + 1), "
                "'a rule is broken', randomString(40), randomString(200), concat('org', toString(number % 50)), "
                f"'api.calls', 'user', toString(number % 1000) FROM numbers({rows // PARTITIONS})"
            )
        stamp = begin + timedelta(hours=12)
        made = [
            UsageRecorded(
                id=f"e{number}", org_id="lost", metric_key="api.calls", subject_type="user",
                subject_id=f"u{number % 500}", quantity=Decimal(1), timestamp=stamp,
            ).to_bytes()
            for number in range(events)
        ]  # fmt: skip
        table = {
            "partition": pa.array([number % PARTITIONS for number in range(events)], pa.int32()),
            "offset": pa.array([2 * FIRST + number for number in range(events)], pa.int64()),
            "received_at": pa.array([micros(stamp) + number for number in range(events)]).cast(
                pa.timestamp("us", "UTC")
            ),
            "reason": ["misrouted"] * events,
            "detail": ["expected another partition"] * events,
            "key": pa.array([b""] * events, pa.binary()),
            "value": pa.array(made, pa.binary()),
            "org_id": ["lost"] * events,
            "metric_key": ["api.calls"] * events,
            "subject_type": ["user"] * events,
            "subject_id": [f"u{number % 500}" for number in range(events)],
        }
        Writer(client).insert("usage_rejected", pa.table(table))


def measure(metering: Metering, clickhouse: psutil.Process, rows: int, events: int, whole: bool) -> None:
    def timed(what: str, call: Callable[[], T]) -> T:
        begun, own, server = time.monotonic(), time.process_time(), sum(clickhouse.cpu_times()[:2])
        answer = call()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds, cpu = time.monotonic() - begun, time.process_time() - own
        used = sum(clickhouse.cpu_times()[:2]) - server
        print(f"{what:<40} {seconds:8.2f} s {cpu:8.2f} s CPU {used:8.2f} s ClickHouse {peak:6,.0f} MB", flush=True)
        return answer

    rejected = metering.rejected
    middle = FIRST + rows // PARTITIONS // 2
    since = datetime.now(UTC) - OLD
    for again in ("", " again"):
        timed(f"count by reason{again}", rejected.count)
    timed("list, the newest 100", rejected.list)
    timed("list --reason invalid", lambda: rejected.list(reason="invalid"))
    timed("list --org", lambda: rejected.list(org_id="org7"))
    timed("list --from --to, a minute", lambda: rejected.list(since=since, until=since + timedelta(minutes=1)))
    timed("list --open", lambda: rejected.list(redriven=False))
    timed(f"list --offset {rows * 9 // 10}", lambda: rejected.list(offset=rows * 9 // 10))
    timed("show", lambda: rejected.get(Position(1, middle)))
    named = {Position(2, 2 * FIRST + 2 + PARTITIONS * n): Correction() for n in range(min(1_000, events // PARTITIONS))}
    timed(f"redrive of {len(named)} positions, dry", lambda: rejected.redrive(named, dry_run=True))
    report: Any = timed(
        f"redrive of {events} of one reason", lambda: rejected.redrive_all(Correction(), reason="misrouted")
    )
    print(f"{report.sent:,} sent, {report.refused_total:,} refused, {dict(report.states)}")
    timed("redrive of the same again", lambda: rejected.redrive_all(Correction(), reason="misrouted"))
    timed("list --redriven", lambda: rejected.list(redriven=True))
    if whole:
        timed(f"redrive of {rows} that are refused, dry", lambda: rejected.redrive_all(Correction(), dry_run=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--redrive", type=int, default=20_000)
    parser.add_argument("--whole", action="store_true", help="also look at every message in a dry run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), kafka_port=0, clickhouse_port=0) as stack:
        kafka, clickhouse = stack.kafka_settings("bench."), stack.clickhouse_settings("bench")
        migrate_all(kafka, clickhouse, MigrationOptions(partition_count=PARTITIONS, replication=1))
        fill(clickhouse, arguments.rows, arguments.redrive)
        environment = {
            **stack.environment(),
            "METERFOLD_TOPIC_PREFIX": "bench.",
            "METERFOLD_CLICKHOUSE_DATABASE": "bench",
        }
        stack.spawn("fold", command("fold"), environment)
        with Metering(kafka=kafka, clickhouse=clickhouse, wait_seconds=300) as metering:
            server = psutil.Process(stack.clickhouse.process.pid)
            measure(metering, server, arguments.rows, arguments.redrive, arguments.whole)


if __name__ == "__main__":
    main()
