"""From the call of `record` to a `threshold.exceeded` event that a read_committed consumer has in its hands.

A steady load over 40,000 keys, and in it, spread over the run, one event each for some hundred subjects of their own
that carries the subject over its threshold. The same load runs before, unmeasured, for WARM_UP seconds: a broker, a
ClickHouse and two workers that were just started have neither compiled nor cached anything yet.
"""

from __future__ import annotations

import threading
import time
import uuid

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

import backlog
from meterfold import Meter
from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_service import Metering

CROSSINGS = 300
WARM_UP = 15
TICK = 0.02
METRIC = "watched"


def measure(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, partitions: int, rate: int, seconds: int
) -> list[float]:
    """Seconds of each crossing, all of them; SystemExit when one does not arrive within 30 s of the last event."""
    with Metering(kafka=kafka, clickhouse=clickhouse) as metering:
        metering.metrics.define(key=METRIC, name="Watched", unit="calls", reset_period="never")
        metering.thresholds.create(metric_key=METRIC, name="hundred", threshold=100)
    sent: dict[str, float] = {}
    seen: dict[str, float] = {}
    ready, stop = threading.Event(), threading.Event()
    reader = threading.Thread(target=_read, args=(kafka, partitions, seen, ready, stop))
    reader.start()
    try:
        ready.wait(30)
        _send(kafka, rate, seconds, sent)
        end = time.monotonic() + 30
        while len(seen) < len(sent) and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        stop.set()
        reader.join()
    missing = sent.keys() - seen.keys()
    if missing:
        raise SystemExit(f"{len(missing)} of {len(sent)} crossings were not seen on threshold.exceeded")
    return [seen[subject] - sent[subject] for subject in sent]


def _send(kafka: KafkaSettings, rate: int, seconds: int, sent: dict[str, float]) -> None:
    before, ticks = int(WARM_UP / TICK), int(seconds / TICK)
    per_tick = max(1, round(rate * TICK))
    every = max(1, ticks // CROSSINGS)
    with Meter(kafka.bootstrap_servers, topic_prefix=kafka.topic_prefix, librdkafka=kafka.librdkafka) as meter:
        begun = time.monotonic()
        key = 0
        for tick in range(before + ticks):
            rows = []
            for _ in range(per_tick):
                key = (key + 1) % backlog.KEYS
                org, metric, kind, name = backlog.subject(key)
                rows.append({"org_id": org, "metric_key": metric, "subject_type": kind, "subject_id": name})
            if tick >= before and tick % every == 0:
                subject = uuid.uuid4().hex
                sent[subject] = time.monotonic()
                meter.record(METRIC, ("user", subject), 150)
            meter.record_batch(rows)
            ahead = begun + (tick + 1) * TICK - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)


def _read(
    kafka: KafkaSettings, partitions: int, seen: dict[str, float], ready: threading.Event, stop: threading.Event
) -> None:
    topic = Topics(kafka.topic_prefix).threshold_exceeded
    consumer = Consumer(
        kafka.client(
            **{
                "group.id": "bench-latency",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
            }
        )
    )
    consumer.assign([TopicPartition(topic, partition, OFFSET_END) for partition in range(partitions)])
    while not consumer.position([TopicPartition(topic, partition) for partition in range(partitions)]):
        consumer.poll(0.1)
    ready.set()
    while not stop.is_set():
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            event = ThresholdEvent.from_bytes(message.value() or b"")
            seen.setdefault(event.subject_id, time.monotonic())
    consumer.close()
