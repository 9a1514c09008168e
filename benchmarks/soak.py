"""`make soak`: a steady load for an hour, with restarts of workers now and then. Nothing may creep.

    python benchmarks/soak.py [--seconds N] [--rate N] [--restart-every N] [--seed N] [--output FILE]

Every few seconds memory, lag, parts and the latency from an event to its threshold.exceeded are sampled and appended to
FILE (JSON lines); the curves are drawn beside it (.svg). At the end `meterfold verify` proves every number. Ends with 1
if a curve grows faster than soak_curves.py allows, an alert is missing, or verify finds a difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import asdict
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

import backlog
import machine
from meterfold import Meter
from meterfold_cli import console
from meterfold_cli.local_run import command
from meterfold_local.kafka.java import OPTIONS_VARIABLE
from meterfold_local.process import ManagedProcess
from meterfold_local.stack import LocalStack
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.plurals import plural
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_service import Metering
from meterfold_sink import fold_state
from meterfold_sink.client import Client, connect
from soak_curves import Sample, curves, draw

PARTITIONS = 4
WORKERS = 2
SAMPLE_SECONDS = 5.0
CROSSING_SECONDS = 0.25
TICK = 0.02
METRIC = "watched"
FINISH_SECONDS = 300.0
WHOLE_HEAP = "-Xms384m -Xmx384m -XX:+AlwaysPreTouch"
"""Kafka's heap has its full size from the start: one that fills for half an hour up to its limit looks as if it crept.
What leaks inside it ends the broker, and with it the run; what leaks outside it is seen."""


class Load(threading.Thread):
    """Records at a steady rate, and lets a subject of its own cross a threshold now and then."""

    def __init__(self, kafka: KafkaSettings, rate: int, seconds: float) -> None:
        super().__init__()
        self._kafka, self._rate, self._seconds = kafka, rate, seconds
        self.sent: dict[str, float] = {}
        self.events = 0
        self.error = ""

    def run(self) -> None:
        try:
            self._record()
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def _record(self) -> None:
        per_tick, key, crossing = max(1, round(self._rate * TICK)), 0, 0.0
        kafka = self._kafka
        with Meter(kafka.bootstrap_servers, topic_prefix=kafka.topic_prefix, librdkafka=kafka.librdkafka) as meter:
            begun, tick = time.monotonic(), 0
            while (now := time.monotonic()) - begun < self._seconds:
                rows = []
                for _ in range(per_tick):
                    key = (key + 1) % backlog.KEYS
                    org, metric, kind, name = backlog.subject(key)
                    rows.append({"org_id": org, "metric_key": metric, "subject_type": kind, "subject_id": name})
                if now >= crossing:
                    crossing = now + CROSSING_SECONDS
                    subject = uuid.uuid4().hex
                    self.sent[subject] = time.monotonic()
                    meter.record(METRIC, ("user", subject), 150)
                    self.events += 1
                meter.record_batch(rows)  # type: ignore[arg-type]
                self.events += per_tick
                tick += 1
                ahead = begun + tick * TICK - time.monotonic()
                if ahead > 0:
                    time.sleep(ahead)


class Alerts(threading.Thread):
    """Reads threshold.exceeded, committed events only."""

    def __init__(self, kafka: KafkaSettings) -> None:
        super().__init__()
        self._kafka = kafka
        self.seen: dict[str, float] = {}
        self.stop = threading.Event()

    def run(self) -> None:
        topic = Topics(self._kafka.topic_prefix).threshold_exceeded
        options = {"group.id": "soak", "isolation.level": "read_committed", "enable.auto.commit": False}
        consumer = Consumer(self._kafka.client(**options, **{"fetch.wait.max.ms": 50}))
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
        while not self.stop.is_set():
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                event = ThresholdEvent.from_bytes(message.value() or b"")
                self.seen.setdefault(event.subject_id, time.monotonic())
        consumer.close()


class Soak:
    """The run: its processes, its samples, and its restarts."""

    def __init__(self, stack: LocalStack, arguments: argparse.Namespace) -> None:
        self._stack, self._arguments = stack, arguments
        self._random = random.Random(arguments.seed)
        self.kafka, self._clickhouse = stack.kafka_settings(), stack.clickhouse_settings()
        self.samples: list[Sample] = []
        self.restarts: list[float] = []
        self._reported: set[str] = set()

    def run(self) -> list[str]:
        """What is wrong afterwards; empty if nothing is."""
        migrate_all(self.kafka, self._clickhouse, MigrationOptions(partition_count=PARTITIONS))
        workers = [self._stack.spawn(f"fold-{number}", command("fold")) for number in range(WORKERS)]
        checker = self._stack.spawn("check", command("check"))
        for process in (*workers, checker):
            process.wait_until(lambda p=process: ": ready" in p.output(), 120)  # type: ignore[misc]
        with Metering(kafka=self.kafka, clickhouse=self._clickhouse) as metering:
            metering.metrics.define(key=METRIC, name="Watched", unit="calls", reset_period="never")
            metering.thresholds.create(metric_key=METRIC, name="hundred", threshold=100)
        alerts, load = Alerts(self.kafka), Load(self.kafka, self._arguments.rate, self._arguments.seconds)
        alerts.start()
        try:
            load.start()
            with connect(self._clickhouse) as client:
                self._watch(client, workers, checker, load, alerts)
                load.join()
                problems = [f"the load failed: {load.error}"] if load.error else []
                problems += self._finish(client, load, alerts)
        finally:
            alerts.stop.set()
            alerts.join()
        return problems + self._verify() + self._creeping()

    def _watch(
        self, client: Client, workers: list[ManagedProcess], checker: ManagedProcess, load: Load, alerts: Alerts
    ) -> None:
        begun = time.monotonic()
        due, restart, restarted = begun, begun + self._arguments.restart_every, ""
        while load.is_alive():
            now = time.monotonic()
            if now >= restart:
                restarted = self._restart(self._random.choice(workers))
                self.restarts.append(now - begun)
                restart = now + self._arguments.restart_every
            if now >= due:
                sample = self._sample(client, now - begun, workers, checker, load, alerts, restarted)
                restarted = ""
                self.samples.append(sample)
                with self._arguments.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(sample)) + "\n")
                due = max(due + SAMPLE_SECONDS, time.monotonic())
            self._stack.check()
            time.sleep(0.2)

    def _restart(self, worker: ManagedProcess) -> str:
        """Stop it as an orchestrator does, or kill it as the kernel does, and start it again."""
        how = self._random.choice([signal.SIGTERM, signal.SIGKILL])
        worker.signal(how)
        worker.wait(60)
        worker.start()
        self._stack.write_state()
        return f"{worker.name} after {how.name}"

    def _sample(
        self,
        client: Client,
        at: float,
        workers: list[ManagedProcess],
        checker: ManagedProcess,
        load: Load,
        alerts: Alerts,
        restarted: str,
    ) -> Sample:
        memory = {
            "workers": sum(machine.sample(worker.pid).memory for worker in workers),
            "checker": machine.sample(checker.pid).memory,
            "ClickHouse": machine.sample(self._stack.clickhouse.process.pid).memory,
            "Kafka": machine.sample(self._stack.kafka.brokers[0].process.pid).memory,
        }
        seen = dict(alerts.seen)
        fresh = seen.keys() - self._reported
        self._reported |= fresh
        seconds = sorted(seen[subject] - load.sent[subject] for subject in fresh if subject in load.sent)
        parts = client.value("SELECT toInt64(count()) FROM system.parts WHERE active AND database = currentDatabase()")
        return Sample(
            round(at, 1),
            memory,
            max(0, load.events - self._folded(client)),
            parts,
            round(statistics.median(seconds), 3) if seconds else None,
            round(seconds[min(len(seconds) - 1, int(0.99 * len(seconds)))], 3) if seconds else None,
            restarted,
        )

    @staticmethod
    def _folded(client: Client) -> int:
        return sum(row.counted + row.duplicates + row.rejected for row in fold_state.read_progress(client).values())

    def _finish(self, client: Client, load: Load, alerts: Alerts) -> list[str]:
        """Wait until everything is folded and every crossing has been seen."""
        end = time.monotonic() + FINISH_SECONDS
        while time.monotonic() < end:
            missing = load.sent.keys() - alerts.seen.keys()
            if not missing and self._folded(client) >= load.events:
                return []
            self._stack.check()
            time.sleep(0.5)
        folded = self._folded(client)
        return [
            f"{folded:,} of {load.events:,} events are folded, {plural(len(missing), 'alert')} missing after the end"
        ]

    def _verify(self) -> list[str]:
        done = subprocess.run(
            [*command("verify"), "--wait", "60"],
            env=self._stack.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        console.say(done.stdout.strip()[-1500:])
        return [] if done.returncode == 0 else [f"verify ended with {done.returncode}"]

    def _creeping(self) -> list[str]:
        problems = []
        rows = []
        for curve in curves(self.samples, self._arguments.rate):
            found = curve.growth()
            if found is None:
                rows.append([curve.name, "", "", "too few samples"])
                continue
            rows.append([curve.name, f"{found[0]:,.2f} {curve.limit.unit}", f"{found[1]:,.2f}", ""])
            if curve.creeps():
                problems.append(
                    f"{curve.name} grew by {found[0]:,.2f} {curve.limit.unit}; at most {found[1]:,.2f} are allowed"
                )
        console.say()
        console.table(["curve", "growth after the warm-up", "allowed", ""], rows)
        return problems


def main() -> int:
    arguments = _arguments()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("", encoding="utf-8")
    os.environ.setdefault(OPTIONS_VARIABLE, WHOLE_HEAP)
    console.say(f"{machine.describe()}; {arguments.rate:,} events/s for {arguments.seconds:g} s, seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as folder, LocalStack(folder, kafka_port=0, clickhouse_port=0) as stack:
        soak = Soak(stack, arguments)
        try:
            problems = soak.run()
        finally:
            title = f"{arguments.rate:,} events/s for {arguments.seconds / 60:.0f} min; dashed: restart of a worker"
            picture = draw(curves(soak.samples, arguments.rate), soak.restarts, title) if soak.samples else ""
            arguments.output.with_suffix(".svg").write_text(picture, encoding="utf-8")
    console.say(f"{plural(len(soak.restarts), 'restart')}; samples in {arguments.output}, curves beside it (.svg)")
    for problem in problems:
        console.fail(problem)
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=int, default=20_000, help="Events per second.")
    parser.add_argument("--restart-every", type=float, default=300, help="Seconds between restarts of a worker.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("build/soak.jsonl"), help="File of samples.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
