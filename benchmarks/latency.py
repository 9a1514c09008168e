"""From the call of `record` to a `threshold.exceeded` event that a read_committed consumer has in its hands.

A steady load over many keys, and in it, spread over the run, one event each for some hundred subjects of their own
that carries the subject over its threshold. The same load runs before, unmeasured, for WARM_UP seconds: a broker, a
ClickHouse and two workers that were just started have neither compiled nor cached anything yet.

The stages are told apart by what each leaves behind: the broker's stamp of the event (in usage_records), the time of
the message on usage.windows, the time of the message on threshold.exceeded, and the clock of the consumer.
"""

from __future__ import annotations

import io
import itertools
import threading
import time
import uuid
from collections.abc import Callable

import pyarrow as pa
from confluent_kafka import OFFSET_END, Consumer, Message, TopicPartition

import backlog
from meterfold import Meter
from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_service import Metering
from meterfold_sink.client import connect

CROSSINGS = 300
WARM_UP = 15
TICK = 0.02
METRIC = "watched"
STAGES = (
    "record until Kafka has stamped the event",
    "until its window is published: batch, records and windows in ClickHouse",
    "until the event is produced: the checker's judgement",
    "until a consumer has it: commit of the transaction, fetch",
)
_STAMPS = (
    "SELECT subject_id, toUnixTimestamp64Micro(received_at) AS at FROM usage_records WHERE metric_key = {metric:String}"
)


def measure(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, partitions: int, rate: int, seconds: int, keys: int
) -> list[tuple[float, ...]]:
    """Of each crossing the seconds of each of STAGES. SystemExit when one does not arrive within 30 s of the last
    event. Kafka's times have milliseconds, so a short stage may come out as -0.001.
    """
    with Metering(kafka=kafka, clickhouse=clickhouse) as metering:
        metering.metrics.define(key=METRIC, name="Watched", unit="calls", reset_period="never")
        metering.thresholds.create(metric_key=METRIC, name="hundred", threshold=100)
    sent: dict[str, float] = {}
    seen: dict[str, float] = {}
    produced: dict[str, float] = {}
    windows: list[tuple[float, bytes]] = []

    def on_event(message: Message) -> None:
        event = ThresholdEvent.from_bytes(message.value() or b"")
        seen.setdefault(event.subject_id, time.time())
        produced.setdefault(event.subject_id, message.timestamp()[1] / 1e3)

    def on_windows(message: Message) -> None:
        windows.append((message.timestamp()[1] / 1e3, message.value() or b""))

    topics, stop = Topics(kafka.topic_prefix), threading.Event()
    readers = [
        _Reader(kafka, topic, partitions, take, stop)
        for topic, take in ((topics.threshold_exceeded, on_event), (topics.usage_windows, on_windows))
    ]
    try:
        for reader in readers:
            reader.ready.wait(30)
        _send(kafka, rate, seconds, keys, sent)
        end = time.monotonic() + 30
        while len(seen) < len(sent) and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    missing = sent.keys() - seen.keys()
    if missing:
        raise SystemExit(f"{len(missing)} of {len(sent)} crossings were not seen on threshold.exceeded")
    with connect(clickhouse) as client:
        stamped = {row["subject_id"]: row["at"] / 1e6 for row in client.rows(_STAMPS, {"metric": METRIC})}
    published = _published(windows, sent)
    times = [(sent[one], stamped[one], published[one], produced[one], seen[one]) for one in sent if one in published]
    return [tuple(after - before for before, after in itertools.pairwise(found)) for found in times]


def _published(windows: list[tuple[float, bytes]], sent: dict[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for at, value in windows:
        with pa.ipc.open_stream(io.BytesIO(value)) as reader:
            names = reader.read_all().column("subject_id").to_pylist()
        for name in names:
            if name in sent:
                found.setdefault(name, at)
    return found


def _send(kafka: KafkaSettings, rate: int, seconds: int, keys: int, sent: dict[str, float]) -> None:
    before, ticks = int(WARM_UP / TICK), int(seconds / TICK)
    per_tick = max(1, round(rate * TICK))
    every = max(1, ticks // CROSSINGS)
    with Meter(kafka.bootstrap_servers, topic_prefix=kafka.topic_prefix, librdkafka=kafka.librdkafka) as meter:
        begun = time.monotonic()
        key = 0
        for tick in range(before + ticks):
            rows = []
            for _ in range(per_tick):
                key = (key + 1) % keys
                org, metric, kind, name = backlog.subject(key)
                rows.append({"org_id": org, "metric_key": metric, "subject_type": kind, "subject_id": name})
            if tick >= before and tick % every == 0:
                subject = uuid.uuid4().hex
                sent[subject] = time.time()
                meter.record(METRIC, ("user", subject), 150)
            meter.record_batch(rows)
            ahead = begun + (tick + 1) * TICK - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)


class _Reader(threading.Thread):
    """Gives `take` each committed message of a topic, from its end on, until `stop`."""

    def __init__(
        self, kafka: KafkaSettings, topic: str, partitions: int, take: Callable[[Message], None], stop: threading.Event
    ) -> None:
        super().__init__(name=f"bench-latency-{topic}")
        self.ready = threading.Event()
        self._kafka, self._topic, self._partitions = kafka, topic, partitions
        self._take, self._stopping = take, stop
        self.start()

    def run(self) -> None:
        consumer = Consumer(
            self._kafka.client(
                **{
                    "group.id": "bench-latency",
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "fetch.wait.max.ms": 50,
                }
            )
        )
        places = [TopicPartition(self._topic, partition) for partition in range(self._partitions)]
        consumer.assign([TopicPartition(self._topic, partition, OFFSET_END) for partition in range(self._partitions)])
        while not consumer.position(places):
            consumer.poll(0.1)
        self.ready.set()
        while not self._stopping.is_set():
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                self._take(message)
        consumer.close()
