"""Topics and tables of one test, and window rows as the fold would write and publish them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

import pyarrow as pa
from confluent_kafka import Message

from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.checker.worker import CheckerWorker
from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.kafka.topics import ensure_topics, read_source
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.events import ThresholdEvent, ThresholdState, UsageAggregated
from meterfold_schemas.periods import KEPT, Period, from_micros, micros, period_start
from meterfold_schemas.quantities import to_decimal
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics, topic_specs
from meterfold_sink import reads
from meterfold_sink.client import Client, connect
from meterfold_sink.migrate import migrate
from meterfold_sink.rules import FoldRules
from meterfold_sink.writers import Writer
from support import consume_all, eventually, producer

UNIT = 10**9


@dataclass
class Usage:
    """The windows of one subject, summed by hand. Quantities are whole."""

    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str


class Installation:
    """For one test; two partitions. The fold's part is done by `use`: insert, then publish, then progress."""

    def __init__(self, kafka: KafkaSettings, clickhouse: ClickHouseSettings, partitions: int = 2) -> None:
        self.kafka = kafka
        self.clickhouse = clickhouse
        self.topics = Topics(kafka.topic_prefix)
        self.partitions = partitions
        ensure_topics(kafka, topic_specs(partitions, prefix=kafka.topic_prefix))
        source = read_source(kafka)
        self.rules = FoldRules(
            cluster_id=source.cluster_id, topic_id=source.topic_id, partition_count=source.partition_count
        )
        self.client: Client = connect(clickhouse)
        migrate(self.client, self.rules)
        reads.write_settings_once(self.client, self.rules)
        self.writer = Writer(self.client)
        self.producer = producer(kafka)
        self.offsets = dict.fromkeys(range(partitions), 0)
        self.windows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.published: list[tuple[int, bytes]] = []

    def close(self) -> None:
        self.client.close()

    # Definitions, straight to the topics

    def define_metric(self, key: str = "api.calls", kind: str = "sum", org_id: str = "") -> None:
        now = datetime.now(UTC)
        metric = MetricDefinition(
            id=f"m-{key}",
            key=key,
            name=key,
            unit="call",
            org_id=org_id,
            aggregation_type=kind,
            created_at=now,
            updated_at=now,
        )
        self.send(self.topics.metric_defined, metric.message_key, metric.to_bytes())

    def define_threshold(self, threshold_id: str = "t1", limit: int = 100, **more: Any) -> None:
        now = datetime.now(UTC)
        values = {"org_id": "acme", "metric_key": "api.calls", "name": "cap", "period_type": Period.LIFETIME, **more}
        threshold = UsageThreshold(id=threshold_id, threshold=limit, created_at=now, updated_at=now, **values)
        self.send(self.topics.threshold_defined, threshold.message_key, threshold.to_bytes())

    def delete_threshold(self, threshold_id: str = "t1") -> None:
        self.send(self.topics.threshold_defined, threshold_id.encode(), None)

    def send(self, topic: str, key: bytes | None, value: bytes | None, partition: int = 0) -> None:
        failed: list[Any] = []
        self.producer.produce(
            topic, value, key, partition, on_delivery=lambda error, _: failed.append(error) if error else None
        )
        assert self.producer.flush(20) == 0
        assert not failed, failed

    # The fold's part

    def use(self, quantity: int, subject_id: str = "u1", *, partition: int = 0, at: datetime | None = None) -> int:
        """One counted event, in its four windows; its offset."""
        self.use_many([(subject_id, quantity)], partition=partition, at=at)
        return self.offsets[partition] - 1

    def use_many(self, events: list[tuple[str, int]], *, partition: int = 0, at: datetime | None = None) -> None:
        """One flush of events (subject_id, quantity)."""
        time_of = micros(at or datetime.now(UTC))
        touched: dict[tuple[Any, ...], None] = {}
        for subject_id, quantity in events:
            offset = self.offsets[partition]
            self.offsets[partition] += 1
            for period in KEPT:
                name = (partition, "acme", "api.calls", "user", subject_id, period, period_start(period, time_of))
                touched[name] = None
                self._add(name, quantity * UNIT, offset, time_of)
        table = self.table([*touched])
        self.writer.insert("usage_windows", table)
        self.publish(partition, table)
        self.progress(partition)

    def progress(self, partition: int, stamp: datetime | None = None) -> None:
        now = stamp or datetime.now(UTC)
        row = {
            "partition": [partition],
            "next_offset": [self.offsets[partition]],
            "log_start": [0],
            "counted": [self.offsets[partition]],
            "duplicates": [0],
            "rejected": [0],
            "last_stamp": [now],
        }
        types = [pa.int32(), pa.int64(), pa.int64(), pa.uint64(), pa.uint64(), pa.uint64(), pa.timestamp("us", "UTC")]
        schema = pa.schema(list(zip(row, types, strict=True)))
        self.writer.insert("fold_progress", pa.Table.from_pydict(row, schema=schema))

    def publish(self, partition: int, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
            stream.write_table(table)
        self.publish_bytes(partition, sink.getvalue().to_pybytes())

    def publish_bytes(self, partition: int, value: bytes) -> None:
        self.published.append((partition, value))
        self.send(self.topics.usage_windows, None, value, partition)

    def table(self, names: list[tuple[Any, ...]]) -> pa.Table:
        rows = []
        for name in names:
            partition, org_id, metric_key, subject_type, subject_id, period, start = name
            window = self.windows[name]
            rows.append(
                {
                    "org_id": org_id,
                    "metric_key": metric_key,
                    "subject_type": subject_type,
                    "subject_id": subject_id,
                    "period_type": KEPT.index(period) + 1,
                    "period_start": from_micros(start),
                    "partition": partition,
                    "record_count": window["count"],
                    **{name: to_decimal(window[name]) for name in ("sum", "min", "max", "last")},
                    "last_timestamp": from_micros(window["time"]),
                    "last_offset": window["through"],
                    "folded_through": window["through"],
                }
            )
        return pa.Table.from_pylist(rows, schema=WINDOWS)

    def _add(self, name: tuple[Any, ...], quantity: int, offset: int, time_of: int) -> None:
        window = self.windows.setdefault(name, {"count": 0, "sum": 0, "min": quantity, "max": quantity})
        window["count"] += 1
        window["sum"] += quantity
        window["min"] = min(window["min"], quantity)
        window["max"] = max(window["max"], quantity)
        window.update(last=quantity, through=offset, time=time_of)

    # What a subscriber sees

    def events(self) -> list[ThresholdEvent]:
        """Every threshold event, by topic and partition."""
        names = (self.topics.threshold_approaching, self.topics.threshold_exceeded, self.topics.threshold_cleared)
        return [ThresholdEvent.from_bytes(m.value()) for name in names for m in consume_all(self.kafka, name)]

    def seen(self) -> list[tuple[str, str, str, int]]:
        """(threshold, subject, event type without its prefix and level if cleared, crossing), sorted."""
        return sorted(
            (e.threshold_id, e.subject_id, f"{e.event_type.removeprefix('threshold.')} {e.level}", e.crossing)
            for e in self.events()
        )

    def states(self) -> dict[tuple[str, str], ThresholdState]:
        """The newest state by threshold and subject (of one window each)."""
        found: dict[tuple[str, str], ThresholdState] = {}
        for message in consume_all(self.kafka, self.topics.threshold_state):
            if message.value() is not None:
                state = ThresholdState.from_bytes(message.value())
                found[state.threshold_id, state.subject_id] = state
        return found

    def aggregates(self) -> list[UsageAggregated]:
        messages: list[Message] = consume_all(self.kafka, self.topics.usage_aggregated)
        return [UsageAggregated.from_bytes(m.value()) for m in messages if m.value() is not None]

    def seen_soon(self, expected: list[tuple[str, str, str, int]]) -> None:
        """Wait until exactly these events are there."""

        def there() -> bool:
            found = self.seen()
            wrong = [event for event in found if found.count(event) != expected.count(event)]
            missing = [event for event in expected if event not in found]
            assert not wrong, f"wrong: {wrong}"
            assert not missing, f"missing: {missing}"
            return True

        eventually(there, 30, "the expected events")


class Running:
    """A worker on a thread of this process."""

    def __init__(self, installation: Installation, *, mirror: bool = False, drive: Any = None, **settings: Any) -> None:
        more = {} if drive is None else {"drive": drive}
        self.worker = CheckerWorker(
            CheckerSettings(**{"emit_interval_seconds": 0.5, **settings}),
            installation.kafka,
            installation.clickhouse,
            mirror=mirror,
            **more,
        )
        self.stop = Event()
        self.failure: BaseException | None = None
        self.thread = Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.worker.run(self.stop)
        except BaseException as failure:
            self.failure = failure

    def ready(self, count: int) -> Running:
        """Wait until it judges so many partitions."""

        def judging() -> bool:
            assert self.failure is None, self.failure
            assert len(self.worker.status.partitions) == count, self.worker.status
            return True

        eventually(judging, 40, "partitions are judged")
        return self

    def end(self) -> None:
        """A clean stop."""
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive(), "the checker does not stop"
        if self.failure is not None:
            raise self.failure


@contextmanager
def running(installation: Installation, **settings: Any) -> Iterator[Running]:
    one = Running(installation, **settings)
    try:
        yield one
    finally:
        if one.thread.is_alive():
            one.end()
