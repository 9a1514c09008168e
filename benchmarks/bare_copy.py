"""What the fold is compared with: consume, decode, insert the raw rows. No duplicates, no windows, no progress.

It runs as a process of its own: python benchmarks/bare_copy.py EVENTS, with METERFOLD_CONFIG naming the stack.
"""

from __future__ import annotations

import sys

import polars as pl
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from meterfold_processor.fold import tables
from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.messages import columns
from meterfold_processor.fold.settings import FoldSettings
from meterfold_processor.garbage import PausedGC
from meterfold_processor.kafka import clients
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import connect
from meterfold_sink.writers import Writer


def copy(events: int) -> None:
    settings = KafkaSettings.load()
    topic = Topics(settings.topic_prefix).usage_recorded
    writer = Writer(connect(ClickHouseSettings.load()))
    consumer = clients.consumer(
        settings,
        "meterfold-bare-copy",
        "consumer",
        **{
            "fetch.min.bytes": 1_000_000,
            "fetch.wait.max.ms": 100,
            "fetch.message.max.bytes": 8_000_000,
            "queued.min.messages": 500_000,
            "queued.max.messages.kbytes": 131_072,
        },
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    print("ready", flush=True)
    size = FoldSettings().batch_events
    done = 0
    while done < events:
        messages = []
        while len(messages) < min(size, events - done):
            messages += consumer.consume(min(20_000, events - done - len(messages)), 1.0)
        frame = decode(columns(messages)).frame.with_columns(hash=pl.lit(0, dtype=pl.UInt64))
        writer.insert("usage_records", tables.records(frame))
        done += len(messages)
    print("done", flush=True)
    consumer.close()


if __name__ == "__main__":
    with PausedGC():
        copy(int(sys.argv[1]))
