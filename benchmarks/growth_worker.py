"""A fold worker of `growth.py`: one process with some partitions, one stage after the other, each stage's CPU counted.

    python growth_worker.py PARTITION,... PHASE=EVENTS ...

Reads METERFOLD_CONFIG. Prints one line of JSON per phase. `process_time` counts polars' threads too.
"""

from __future__ import annotations

import json
import sys
import time
from threading import Event

import psutil
from confluent_kafka import Consumer, TopicPartition

from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.effects import Effects
from meterfold_processor.fold.flush import flush
from meterfold_processor.fold.messages import columns
from meterfold_processor.fold.opening import Opening
from meterfold_processor.fold.partition import PartitionFold
from meterfold_processor.fold.settings import FoldSettings
from meterfold_processor.garbage import PausedGC
from meterfold_processor.kafka import clients
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from stages import Stopwatch

SLICE_SECONDS = 5.0
STAY_SECONDS = 1_000.0


class Worker:
    """Consumes, folds and flushes batch after batch."""

    def __init__(self, partitions: list[int], garbage: PausedGC) -> None:
        kafka, clickhouse = KafkaSettings.load(), ClickHouseSettings.load()
        self.settings = FoldSettings()
        self.begun = time.monotonic()
        self.first_flush = 0.0
        opening = Opening(kafka, clickhouse)
        opening.check()
        topic = Topics(kafka.topic_prefix).usage_recorded
        self.consumer: Consumer = clients.consumer(
            kafka, "bench-growth", "consumer", **{"fetch.min.bytes": 1_000_000, "queued.min.messages": 500_000}
        )
        self.folds: dict[int, PartitionFold] = {p: opening.open(p, self.consumer) for p in partitions}
        self.opened = time.monotonic() - self.begun
        self.consumer.assign([TopicPartition(topic, p, fold.progress.next_offset) for p, fold in self.folds.items()])
        self.effects = Effects(opening.writer(), kafka, lambda offsets: None)
        self.sequence = 0
        self.garbage = garbage
        self.watch = Stopwatch()

    def run(self, events: int, batch: int) -> dict[str, object]:
        """Fold this many events; the stages in microseconds of CPU per event, and the rate by slices of time."""
        self.watch = Stopwatch()
        begun, done, rates, worst = time.monotonic(), 0, list[int](), 0.0
        slice_begun, slice_done = begun, 0
        while done < events:
            before = time.process_time()
            size = self._batch(min(batch, events - done))
            worst = max(worst, (time.process_time() - before) / size)
            done += size
            slice_done += size
            now = time.monotonic()
            if now - slice_begun > SLICE_SECONDS:
                rates.append(round(slice_done / (now - slice_begun)))
                slice_begun, slice_done = now, 0
        sizes = [fold.sizes() for fold in self.folds.values()]
        return {
            "events": done,
            "seconds": time.monotonic() - begun,
            "stages": {stage: seconds / done * 1e6 for stage, seconds in self.watch.seconds.items()},
            "worst": worst * 1e6,
            "rates": rates,
            "opened": self.opened,
            "first_flush": self.first_flush,
            "memory": psutil.Process().memory_info().rss,
            "subjects": sum(size["subjects"] for size in sizes),
            "windows": sum(size["windows"] for size in sizes),
        }

    def _batch(self, size: int) -> int:
        self.sequence += 1
        watch, messages = self.watch, list[object]()
        with watch.spent("collect, give memory back"):
            self.garbage.collect()
        with watch.spent("consume"):
            while len(messages) < size:
                messages += self.consumer.consume(min(20_000, size - len(messages)), 1.0)
        with watch.spent("take values, keys, offsets"):
            consumed = columns(messages)  # type: ignore[arg-type]
        with watch.spent("decode"):
            parts = decode(consumed).frame.partition_by("partition", maintain_order=True)
        with watch.spent("judge, find duplicates, fold"):
            tried = [self.folds[part["partition"][0]].fold(part, consumed.values, self.sequence) for part in parts]
        operations = flush([one for one in tried if one is not None])
        while True:
            with watch.spent("flush: prepare"):
                operation = next(operations, None)
            if operation is None:
                break
            with watch.spent(f"flush: {operation.step}"):
                self.effects.perform(operation)
        self.first_flush = self.first_flush or time.monotonic() - self.begun
        with watch.spent("acknowledge, evict"):
            for fold in self.folds.values():
                fold.acknowledge(self.sequence, self.settings.windows_in_memory // len(self.folds))
        return len(messages)


def main() -> None:
    partitions = [int(number) for number in sys.argv[1].split(",")]
    with PausedGC() as garbage:
        worker = Worker(partitions, garbage)
        for phase in sys.argv[2:]:
            name, events, batch = phase.split("=")[0], *map(int, phase.split("=")[1].split("/"))
            print(json.dumps({"phase": name, **worker.run(events, batch)}), flush=True)
        Event().wait(STAY_SECONDS)  # until it is ended: exiting earlier would look like a failure


if __name__ == "__main__":
    main()
