"""CPU per event of each stage of the fold, one after the other in one process: nothing overlaps, all of it is counted.

`process_time` counts polars' threads too. ClickHouse and Kafka only receive what the stages of a flush send them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.effects import Effects
from meterfold_processor.fold.flush import flush
from meterfold_processor.fold.messages import columns
from meterfold_processor.fold.opening import Opening
from meterfold_processor.fold.settings import FoldSettings
from meterfold_schemas.settings import KafkaSettings


class Stopwatch:
    """CPU seconds of this process by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def spent(self, stage: str) -> Iterator[None]:
        begun = time.process_time()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - begun


def measure(
    settings: KafkaSettings, topic: str, opening: Opening, consumer: Consumer, events: int, batch: int
) -> dict[str, float]:
    """Microseconds of CPU per event of each stage, over `events` messages from the beginning of the topic."""
    watch = Stopwatch()
    opening.check()
    partitions = sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    folds = {partition: opening.open(partition, consumer) for partition in partitions}
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    effects = Effects(opening.writer(), settings, lambda offsets: None)
    done = sequence = 0
    while done < events:
        sequence += 1
        messages = []
        with watch.spent("consume"):
            while len(messages) < min(batch, events - done):
                messages += consumer.consume(min(20_000, events - done - len(messages)), 1.0)
        with watch.spent("take values, keys, offsets"):
            consumed = columns(messages)
        with watch.spent("decode"):
            parts = decode(consumed).frame.partition_by("partition", maintain_order=True)
        folded = []
        with watch.spent("judge, find duplicates, fold"):
            for part in parts:
                one = folds[part["partition"][0]].fold(part, consumed.values, sequence)
                if one is not None:
                    folded.append(one)
        operations = flush(folded)
        while True:
            with watch.spent("flush: prepare"):
                operation = next(operations, None)
            if operation is None:
                break
            with watch.spent(f"flush: {operation.step}"):
                effects.perform(operation)
        for fold in folds.values():
            fold.acknowledge(sequence, FoldSettings().windows_in_memory)
        done += len(messages)
    return {stage: seconds / events * 1e6 for stage, seconds in watch.seconds.items()}
