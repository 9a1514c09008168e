"""One checker on the real Kafka and ClickHouse, with many stored windows: of N subjects, 1 % of them over a threshold.

assigned     from the definition of the threshold to its first event in ClickHouse
stored       to the last one
changed      from a change of the threshold to its last event in ClickHouse
aggregates   events per second on usage.aggregated, without a limit, and CPU of the process per event
restarted    from the start of a second process, with all of those to read back, to the event of a fresh row
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

import checker
import machine
from meterfold_cli.local_run import command
from meterfold_local.process import ManagedProcess
from meterfold_local.stack import LocalStack
from meterfold_processor.kafka import clients
from meterfold_processor.kafka.offsets import Place, bounds
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_service import Metering
from meterfold_sink.client import Client, connect
from meterfold_sink.writers import Writer

PARTITIONS = 4
DEADLINE = 300.0


@dataclass
class Found:
    """Seconds, and `memory` (bytes, highest seen) by process."""

    seconds: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    cpu: float = 0.0
    memory: dict[str, int] = field(default_factory=dict)


def measure(
    stack: LocalStack, kafka: KafkaSettings, clickhouse: ClickHouseSettings, config: str, subjects: int
) -> Found:
    """SystemExit where something does not come in time."""
    migrate_all(kafka, clickhouse, MigrationOptions(partition_count=PARTITIONS))
    topics, found = Topics(kafka.topic_prefix), Found()
    environment = {"METERFOLD_CONFIG": config, "METERFOLD_CHECKER_AGGREGATED_PER_SECOND": "0"}
    with connect(clickhouse) as client, Metering(kafka=kafka, clickhouse=clickhouse) as metering:
        _fill(client, subjects)
        watch = _Watch(stack, found)
        begun = time.monotonic()
        first = watch.process = stack.spawn("check-1", command("check"), environment)
        first.wait_for_line("check: ready", 60)
        metering.metrics.define(key="watched", name="Watched", unit="call", reset_period="never")
        created = metering.thresholds.create(metric_key="watched", name="cap", threshold=checker.LIMIT, org_id="acme")
        begun = time.monotonic()
        over = -(-subjects // checker.OVER)
        watch.until(lambda: _events(client) > 0, "the first event")
        found.seconds["assigned"] = time.monotonic() - begun
        watch.until(lambda: _events(client) >= 2 * over, "the events of stored windows")
        found.seconds["stored"] = time.monotonic() - begun
        begun = time.monotonic()
        metering.thresholds.update(created.id, threshold=3 * checker.LIMIT, warn_threshold=2.5 * checker.LIMIT)
        watch.until(lambda: _events(client) >= 4 * over, "the events of a changed threshold")
        found.seconds["changed"] = time.monotonic() - begun
        places = [Place(topics.usage_aggregated, partition) for partition in range(PARTITIONS)]

        def emitted() -> int:
            return sum(end for _, end in bounds(kafka, places).values())

        before, cpu, begun = emitted(), machine.sample(first.pid).cpu, time.monotonic()
        watch.until(lambda: emitted() >= subjects, "the aggregates")
        if emitted() > before:
            found.rate = (subjects - before) / (time.monotonic() - begun)
            found.cpu = (machine.sample(first.pid).cpu - cpu) / max(1, subjects - before) * 1e6
        stack.end(first)
        begun = time.monotonic()
        second = watch.process = stack.spawn("check-2", command("check"), environment)
        _publish(kafka, topics.usage_windows, subjects)
        seen = _events(client)
        watch.until(lambda: _events(client) > seen, "the event of a fresh row")
        found.seconds["restarted"] = time.monotonic() - begun
        stack.end(second)
    return found


class _Watch:
    """Waits, and looks at the memory of the processes meanwhile."""

    def __init__(self, stack: LocalStack, found: Found) -> None:
        self._stack = stack
        self._found = found
        self.process: ManagedProcess | None = None

    def until(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + DEADLINE
        while True:
            pids = {"ClickHouse": self._stack.clickhouse.process.pid}
            if self.process is not None:
                pids["checker"] = self.process.pid
            for name, pid in pids.items():
                self._found.memory[name] = max(self._found.memory.get(name, 0), machine.sample(pid).memory)
            try:
                if done():
                    return
            except MeterfoldError:
                pass
            self._stack.check()
            if time.monotonic() > end:
                raise SystemExit(f"{what}: not there after {DEADLINE:.0f} s")
            time.sleep(0.2)


def _fill(client: Client, subjects: int) -> None:
    writer = Writer(client)
    for begin in range(0, subjects, checker.BATCH):
        numbers = np.arange(begin, min(begin + checker.BATCH, subjects))
        rows = checker.table(numbers, begin)
        place = rows.schema.get_field_index("partition")
        rows = rows.set_column(place, "partition", pa.array((numbers % PARTITIONS).astype(np.int32)))
        writer.insert("usage_windows", rows)
    now = pa.scalar(int(time.time() * 1e6), pa.timestamp("us", "UTC"))
    progress = {
        "partition": pa.array(range(PARTITIONS), pa.int32()),
        "next_offset": pa.array([subjects] * PARTITIONS, pa.int64()),
        "log_start": pa.array([0] * PARTITIONS, pa.int64()),
        **{name: pa.array([0] * PARTITIONS, pa.uint64()) for name in ("counted", "duplicates", "rejected")},
        "last_stamp": pa.array([now.as_py()] * PARTITIONS, pa.timestamp("us", "UTC")),
    }
    writer.insert("fold_progress", pa.table(progress))


def _publish(kafka: KafkaSettings, topic: str, subjects: int) -> None:
    """A row of a subject of its own, that is over the threshold."""
    amount = {name: pa.array([9 * checker.LIMIT]).cast(pa.decimal128(38, 9)) for name in ("sum", "min", "max", "last")}
    rows = checker.table(np.array([subjects * 10]), subjects * 10)
    for name, column in amount.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    producer = clients.producer(kafka)
    clients.publish(producer, [clients.Outgoing(topic, sink.getvalue().to_pybytes(), None, 0)], 10.0)


def _events(client: Client) -> int:
    return int(client.value("SELECT toInt64(count()) FROM threshold_events FINAL"))
