"""Fetch Kafka and make it start fast, ahead of its first use: `python -m meterfold_local.kafka.prepare`.

The Java runtime can keep what a trial run has loaded, linked and profiled in one file (an AOT cache, JEP 483 and 515).
With it a broker is ready in 1.5 s instead of 3 to 6, for less than half of the CPU time: what counts where three
brokers share two cores. The file is only ever an accelerator. Java ignores one that another runtime, another class path
or other jars made, and without one everything works the same.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from meterfold_local.errors import StackError
from meterfold_local.kafka.cluster import KafkaCluster
from meterfold_local.kafka.jars import Progress, kafka_classpath
from meterfold_local.kafka.java import aot_cache
from meterfold_local.private_files import load_passwords

STOP_SECONDS = 120.0
"""The trial run writes its file when it stops: 2 s on an idle machine, longer on a busy one."""

MESSAGES = 20_000

_quiet = logging.getLogger("meterfold.local.kafka")


def prepare(progress: Progress | None = None) -> Path:
    """Fetch the jars and make the AOT cache if either is missing; returns the cache's path."""
    target = aot_cache(kafka_classpath(progress))
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(prefix="meterfold-prepare-") as name:
        folder = Path(name)
        made = folder / "kafka.aot"
        cluster = KafkaCluster(folder / "kafka", load_passwords(folder / "secrets.json"), port=0, aot_output=made)
        cluster.start()
        try:
            _exercise(cluster.client_settings())
        finally:
            cluster.broker(1).stop(STOP_SECONDS)
        if not made.exists():
            raise StackError(f"Java wrote no AOT cache; brokers start without{cluster.broker(1).process.quote()}")
        # Into its place by one rename: a broker that starts meanwhile sees all of it or nothing.
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(made, unfinished)
        unfinished.replace(target)
    return target


def _exercise(settings: Mapping[str, Any]) -> None:
    """What brokers spend their time on: producing in transactions, a consumer group, compacted topics."""
    admin = AdminClient({**settings}, logger=_quiet)
    topics = [NewTopic("plain", 3), NewTopic("compacted", 1, config={"cleanup.policy": "compact"})]
    for future in admin.create_topics(topics).values():
        future.result(30)
    producer = Producer({**settings, "transactional.id": "prepare", "linger.ms": 5}, logger=_quiet)
    producer.init_transactions(30)
    for topic in ("plain", "compacted"):
        producer.begin_transaction()
        for number in range(MESSAGES):
            producer.produce(topic, b"x" * 100, str(number % 1000).encode())
            producer.poll(0)
        producer.commit_transaction(60)
    group = {"group.id": "prepare", "group.protocol": "consumer", "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, **group}, logger=_quiet)
    consumer.subscribe(["plain"])
    read, end = 0, time.monotonic() + 30
    while read < MESSAGES and time.monotonic() < end:
        read += len(consumer.consume(1000, 1.0))
    consumer.close()


if __name__ == "__main__":
    sys.stdout.write(f"Kafka is installed; its AOT cache is {prepare()}\n")
