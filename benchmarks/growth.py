"""`make bench ARGS="--growth"`: what an event costs as the number of subjects grows, with the same windows per event.

    python benchmarks/growth.py [--subjects 40000 400000 4000000] [--partitions 4 64] [--workers 1 2] [--events N]

Each subject sends one event in a shuffled order, which opens its four windows; then the subjects send again in that
order, and every event of a batch belongs to another subject: it touches four windows, however many there are. At the
end the workers are started again, with nothing in memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer

import machine
from meterfold_cli import console
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.keys import partition_of
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_schemas.usage_encoder import UsageEncoder
from meterfold_sink.client import connect

BATCH = 40_000
"""Events of a batch: as many as the smallest number of subjects, so that each is another subject's."""
METRICS = ("api.calls", "storage.gb", "tokens", "seats")
DEADLINE = 900.0


def subject(number: int) -> tuple[str, str, str, str]:
    return f"org-{number % 50:02d}", METRICS[number % 4], "user", f"u-{number // 4:07d}"


def send(settings: KafkaSettings, subjects: int, rounds: list[int], partitions: int) -> list[list[int]]:
    """Write rounds of events over the subjects; returns how many of each round are on each partition."""
    encoder, failed = UsageEncoder(), list[object]()
    order = np.random.default_rng(7).permutation(subjects)
    now = int(time.time() * 1e6)
    hour = now - now % 3_600_000_000
    producer = Producer(
        settings.client(
            **{
                "acks": "all",
                "linger.ms": 20,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 500_000,
                "delivery.report.only.error": True,
            }
        )
    )
    topic = Topics(settings.topic_prefix).usage_recorded
    counts, sent = list[list[int]](), 0
    for size in rounds:
        count = [0] * partitions
        for number in np.resize(order, size).tolist():
            encoded = encoder.subject(*subject(number))
            partition = partition_of(encoded.key, partitions)
            value = encoder.value(f"0192f3a0-1111-7222-8333-{sent:012d}", encoded, 1 + sent % 1000, hour + sent)
            while True:
                try:
                    producer.produce(
                        topic, value, encoded.key, partition, on_delivery=lambda error, _: failed.append(error)
                    )
                    break
                except BufferError:
                    producer.poll(0.05)
            count[partition] += 1
            sent += 1
        counts.append(count)
    if producer.flush(120) or failed:
        raise SystemExit(f"the events were not written: {len(failed)} failed")
    return counts


def run(stack: LocalStack, subjects: int, partitions: int, workers: int, events: int) -> list[dict[str, Any]]:
    """The phases of all workers: `open`, `measure`, and after a restart `again`."""
    name = f"growth_{subjects}_{partitions}_{workers}"
    kafka, clickhouse = stack.kafka_settings(name + "."), stack.clickhouse_settings(name)
    config = stack.data_dir / f"{name}.toml"
    write_settings(config, kafka, clickhouse)
    migrate_all(kafka, clickhouse, MigrationOptions(partition_count=partitions))
    begun = time.monotonic()
    counts = send(kafka, subjects, [subjects, events, events], partitions)
    console.say(f"  {sum(map(sum, counts)):,} events written in {time.monotonic() - begun:.0f} s")
    shares = [list(range(worker, partitions, workers)) for worker in range(workers)]
    found = list[dict[str, Any]]()
    for phases in (("open", "measure"), ("again",)):
        processes = []
        for number, share in enumerate(shares):
            first = 0 if phases[0] == "open" else 2
            sizes = [sum(counts[first + place][p] for p in share) for place, _ in enumerate(phases)]
            arguments = [f"{phase}={size}/{BATCH // workers}" for phase, size in zip(phases, sizes, strict=True)]
            script = [sys.executable, str(Path(__file__).with_name("growth_worker.py"))]
            processes.append(
                stack.spawn(
                    f"{name}-{phases[0]}-{number}",
                    [*script, ",".join(map(str, share)), *arguments],
                    {"METERFOLD_CONFIG": str(config)},
                )
            )
        for process in processes:
            process.wait_for_line(f'"phase": "{phases[-1]}"', DEADLINE)
            lines = [line for line in process.output().splitlines() if line.startswith('{"phase"')]
            found += [json.loads(line) for line in lines]
            stack.end(process)
    with connect(clickhouse) as client:
        stored = client.value("SELECT sum(record_count) FROM usage_windows FINAL WHERE period_type = 'lifetime'")
        client.command(f"DROP DATABASE `{name}`")
    if int(stored) != subjects + 2 * events:
        raise SystemExit(f"{stored} events are in the windows, {subjects + 2 * events} were sent")
    return found


def report(subjects: int, partitions: int, workers: int, found: list[dict[str, Any]]) -> float:
    """Print one configuration; returns the CPU per event of the measured phase."""
    console.say()
    console.say(f"{subjects:,} subjects, {partitions} partitions, {workers} workers")
    phases = {name: [one for one in found if one["phase"] == name] for name in ("open", "measure", "again")}
    rows = []
    for stage in phases["open"][0]["stages"]:
        rows.append([stage, *(f"{_mean(ones, stage):.2f}" for ones in phases.values())])
    totals = {name: sum(_mean(ones, stage) for stage in ones[0]["stages"]) for name, ones in phases.items()}
    rows.append(["sum", *(f"{total:.2f}" for total in totals.values())])
    console.table(["CPU us/event", "opens 4 windows", "finds 4 windows", "after a restart"], rows)
    last, again = phases["measure"], phases["again"]
    memory, windows = sum(one["memory"] for one in last), sum(one["windows"] for one in last)
    console.say(
        f"memory {memory / 1e6:,.0f} MB, {windows:,} windows of {sum(one['subjects'] for one in last):,} subjects; "
        f"worst batch {max(one['worst'] for one in phases['open']):.1f} us/event; "
        f"after a restart: opened in {max(one['opened'] for one in again):.1f} s, "
        f"first flush after {max(one['first_flush'] for one in again):.1f} s, "
        f"events/s by 5 s: {again[0]['rates']} (before: {last[0]['events'] / last[0]['seconds']:,.0f})"
    )
    return totals["measure"]


def _mean(ones: list[dict[str, Any]], stage: str) -> float:
    events = sum(one["events"] for one in ones)
    return float(sum(one["stages"].get(stage, 0.0) * one["events"] for one in ones) / events)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--subjects", type=int, nargs="+", default=[40_000, 400_000, 4_000_000])
    parser.add_argument("--partitions", type=int, nargs="+", default=[4, 64])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--events", type=int, default=400_000, help="events of each measured phase")
    chosen = parser.parse_args(arguments)
    console.say(machine.describe())
    for partitions in chosen.partitions:
        for workers in chosen.workers:
            costs = {}
            for subjects in chosen.subjects:
                with (
                    tempfile.TemporaryDirectory() as folder,
                    LocalStack(folder, kafka_port=0, clickhouse_port=0) as stack,
                ):
                    found = run(stack, subjects, partitions, workers, chosen.events)
                costs[subjects] = report(subjects, partitions, workers, found)
            first, last = min(costs), max(costs)
            console.say(f"an event with {last:,} subjects costs {costs[last] / costs[first]:.2f} of one with {first:,}")


if __name__ == "__main__":
    main()
