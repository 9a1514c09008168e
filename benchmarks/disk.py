"""What an event and a window take on disk, and what merging them costs ClickHouse:

    python benchmarks/disk.py [--events N]

Events with random ids (UUIDv7) come through Kafka and the fold. The parts of each table are measured when the fold has
written them, when ClickHouse's merges rest, and after OPTIMIZE FINAL, which is what they become in the end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import backlog
import machine
from meterfold_cli import console
from meterfold_cli.local_run import command
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.topics import Topics
from meterfold_sink import fold_state
from meterfold_sink.client import Client, connect

PARTITIONS = 4
DEADLINE = 900.0
TABLES = ("usage_records", "usage_windows")


@dataclass(frozen=True)
class Parts:
    """Of one table: rows, bytes and number of its active parts."""

    rows: int
    bytes: int
    parts: int

    @property
    def each(self) -> float:
        return self.bytes / max(1, self.rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    console.say(machine.describe())
    for name in backlog.SPANS:
        with tempfile.TemporaryDirectory() as folder, LocalStack(folder, kafka_port=0, clickhouse_port=0) as stack:
            measure(stack, name, arguments.events, arguments.seed)


def measure(stack: LocalStack, name: str, events: int, seed: int) -> None:
    """Fold one backlog and print what it takes."""
    kafka, clickhouse = stack.kafka_settings(), stack.clickhouse_settings(f"disk_{name}")
    config = stack.data_dir / "disk.toml"
    write_settings(config, kafka, clickhouse)
    migrate_all(kafka, clickhouse, MigrationOptions(partition_count=PARTITIONS))
    made = backlog.make(name, int(time.time() * 1e6), seed, events)
    backlog.send(made, kafka, PARTITIONS, event_id=_uuids(made, seed))
    pid = stack.clickhouse.process.pid
    worker = stack.spawn("disk-fold", command("fold"), {"METERFOLD_CONFIG": str(config)})
    with connect(clickhouse, timeout_seconds=3600) as client:
        before = machine.sample(pid).cpu
        _wait(stack, lambda: _folded(client) >= events)
        stack.end(worker)
        folded, merged = machine.sample(pid).cpu, _merging(client)
        stages = {"written": _parts(client)}
        _wait(stack, lambda: not client.value("SELECT toInt64(count()) FROM system.merges"))
        stages["merges at rest"] = _parts(client)
        rested = machine.sample(pid).cpu
        for table in TABLES:
            client.command(f"OPTIMIZE TABLE {table} FINAL")
        stages["OPTIMIZE FINAL"] = _parts(client)
        optimized, merges = machine.sample(pid).cpu, _merging(client)
    topics = Topics(kafka.topic_prefix)
    sizes = {topic: _on_disk(stack, topic) for topic in (topics.usage_recorded, topics.usage_windows)}

    console.say()
    head = [f"{name}, {events:,} events", "rows", "parts", "MB", "bytes/row"]
    rows = [
        [f"{table}, {stage}", f"{one.rows:,}", one.parts, f"{one.bytes / 1e6:.1f}", f"{one.each:.1f}"]
        for table in TABLES
        for stage, found in stages.items()
        for one in [found[table]]
    ]
    console.table(head, rows)
    spent = {
        "while the fold wrote": folded - before,
        "until merges rested": rested - folded,
        "for OPTIMIZE FINAL": optimized - rested,
    }
    console.say(
        "ClickHouse's CPU, us/event: "
        + ", ".join(f"{seconds / events * 1e6:.2f} {when}" for when, seconds in spent.items())
        + f"; time of merges, us/event: {merged / events * 1e3:.2f} until the fold was done, "
        f"{merges / events * 1e3:.2f} in all"
    )
    console.say("; ".join(f"Kafka's {topic}: {size / events:.1f} bytes/event" for topic, size in sizes.items()))


def _uuids(made: backlog.Backlog, seed: int) -> Callable[[int], str]:
    """Ids as applications make them: 48 bits of the time, 74 random ones."""
    random = np.random.default_rng(seed + 1).integers(0, 2**62, (len(made.key), 2), np.int64)
    low, high = random[:, 0].tolist(), random[:, 1].tolist()
    millis = (made.time // 1000).tolist()

    def uuid(identity: int) -> str:
        digits = f"{millis[identity]:012x}7{high[identity] & 0xFFF:03x}{low[identity] | 1 << 63:016x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    return uuid


def _folded(client: Client) -> int:
    return sum(row.counted + row.duplicates + row.rejected for row in fold_state.read_progress(client).values())


def _parts(client: Client) -> dict[str, Parts]:
    rows = client.rows(
        "SELECT table, toInt64(sum(rows)) AS rows, toInt64(sum(bytes_on_disk)) AS bytes, toInt64(count()) AS parts "
        "FROM system.parts WHERE active AND database = currentDatabase() GROUP BY table"
    )
    return {row["table"]: Parts(row["rows"], row["bytes"], row["parts"]) for row in rows}


def _merging(client: Client) -> int:
    """Milliseconds that merges have taken since the server was started."""
    sql = "SELECT toInt64(sum(value)) FROM system.events WHERE event = 'MergeTotalMilliseconds'"
    return int(client.value(sql))


def _on_disk(stack: LocalStack, topic: str) -> int:
    """Bytes of the log segments of a topic on one broker."""
    logs = (stack.data_dir / "kafka").rglob(f"{topic}-*/*.log")
    return sum(path.stat().st_size for path in logs if Path(path).parent.name.rpartition("-")[0] == topic)


def _wait(stack: LocalStack, done: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not done():
        stack.check()
        if time.monotonic() > end:
            raise SystemExit(f"not done after {DEADLINE:.0f} s")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
