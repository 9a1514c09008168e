"""Topics and tables of one test, and messages on usage.recorded, whole and broken."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, Message, TopicPartition

from meterfold_processor.fold.settings import FoldSettings
from meterfold_processor.kafka.topics import ensure_topics, read_source
from meterfold_schemas import framing
from meterfold_schemas.keys import subject_key
from meterfold_schemas.periods import micros
from meterfold_schemas.quantities import exact_unscaled
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics, topic_specs
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.usage_fields import NAMES
from meterfold_sink import fold_state, reads
from meterfold_sink.client import Client, connect
from meterfold_sink.migrate import migrate
from meterfold_sink.rules import FoldRules
from support import consume_all, eventually, producer
from support.kafka import admin

ORG = "acme"
METRIC = "api.calls"
DEADLINE = 120.0
"""Generous: the machine may be busy with other things."""

_ids = itertools.count(1)


def unique() -> str:
    return f"e-{next(_ids)}"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message for usage.recorded; partition -1 leaves the choice to the partitioner."""

    value: bytes | None
    key: bytes | None
    partition: int = -1


def event(subject_id: str = "u1", quantity: Any = 1, **more: Any) -> Outgoing:
    """A whole event, as the SDK would send it."""
    values = {
        "id": unique(),
        "org_id": ORG,
        "metric_key": METRIC,
        "subject_type": "user",
        "timestamp": datetime.now(UTC),
        **more,
    }
    made = UsageRecorded(subject_id=subject_id, quantity=quantity, **values)
    return Outgoing(made.to_bytes(), made.key)


def raw_event(**fields: Any) -> Outgoing:
    """An event whose fields nobody has checked. `quantity` is a Decimal, `timestamp` in UTC microseconds."""
    record = {
        "id": unique(),
        "org_id": ORG,
        "metric_key": METRIC,
        "subject_type": "user",
        "subject_id": "u1",
        "quantity": Decimal(1),
        "source": None,
        "resource_type": None,
        "resource_id": None,
        "metadata": None,
        "timestamp": micros(datetime.now(UTC)),
        **fields,
    }
    parts = (record["org_id"], record["metric_key"], record["subject_type"], record["subject_id"])
    value = framing.encode("usage_recorded", {**record, "quantity": exact_unscaled(record["quantity"])})
    return Outgoing(value, subject_key(*parts))


def in_json(message: Outgoing, *, cloud_event: bool = False, **changes: Any) -> Outgoing:
    """The same event as JSON, or as a CloudEvent with the event in `data`. `changes` replace fields, unchecked."""
    made = UsageRecorded.from_bytes(message.value or b"")
    fields: dict[str, Any] = {field: getattr(made, field) for field in NAMES}
    fields |= {"quantity": f"{made.quantity:f}", "timestamp": made.timestamp.isoformat(), **changes}
    if cloud_event:
        fields = {"specversion": "1.0", "type": "usage.recorded", "source": "/test", "id": made.id, "data": fields}
    return Outgoing(json.dumps(fields).encode(), message.key, message.partition)


class Installation:
    """For one test. `rules` are the stored ones that differ from the defaults."""

    def __init__(self, kafka: KafkaSettings, clickhouse: ClickHouseSettings, partitions: int = 2, **rules: Any) -> None:
        # Backing off for long is for large clusters.
        quick = {"reconnect.backoff.ms": "50", "reconnect.backoff.max.ms": "500"}
        self.kafka = kafka.model_copy(update={"librdkafka": {**kafka.librdkafka, **quick}})
        self.clickhouse = clickhouse
        self.partitions = partitions
        self.topics = Topics(kafka.topic_prefix)
        wanted = {self.topics.usage_recorded, self.topics.usage_rejected, self.topics.usage_windows}
        specs = topic_specs(partitions, prefix=kafka.topic_prefix)
        ensure_topics(self.kafka, [spec for spec in specs if spec.name in wanted])
        source = read_source(self.kafka)
        self.rules = FoldRules(
            cluster_id=source.cluster_id, topic_id=source.topic_id, partition_count=partitions, **rules
        )
        self.client: Client = connect(clickhouse, create_database=True)
        migrate(self.client, self.rules)
        reads.write_settings_once(self.client, self.rules)
        self.producer = producer(self.kafka)

    def close(self) -> None:
        self.client.close()

    def send(self, *messages: Outgoing) -> list[tuple[int, int]]:
        """Publish on usage.recorded, one produce request if they fit; the position of each, in order."""
        return send(self.producer, self.topics.usage_recorded, messages)

    def log(self) -> list[Message]:
        """What read_committed shows of usage.recorded now."""
        return consume_all(self.kafka, self.topics.usage_recorded, deadline=DEADLINE)

    def progress(self) -> dict[int, fold_state.ProgressRow]:
        return fold_state.read_progress(self.client)

    def folded(self) -> int:
        """How many messages the progress rows account for."""
        return sum(row.counted + row.duplicates + row.rejected for row in self.progress().values())

    def wait_folded(self, worker: Any = None) -> None:
        """Until the progress rows are behind the last message of each partition; `worker` must not fail meanwhile."""
        ends = dict.fromkeys(range(self.partitions), -1)
        for message in self.log():
            ends[message.partition()] = message.offset() + 1

        def done() -> bool:
            if worker is not None:
                worker.require_running()
            rows = self.progress()
            behind = {p: (rows.get(p), end) for p, end in ends.items() if p not in rows or rows[p].next_offset < end}
            assert not behind, behind
            return True

        eventually(done, DEADLINE, "everything is folded")

    def committed(self, group: str | None = None) -> dict[int, int]:
        """partition -> committed offset of the fold's group."""
        name = self.kafka.topic_prefix + (group or FoldSettings().group_id)
        request = ConsumerGroupTopicPartitions(name)
        client = admin(self.kafka)  # kept: its answers end with it
        answer = client.list_consumer_group_offsets([request])[name].result(30)
        return {place.partition: place.offset for place in answer.topic_partitions}

    def move_committed(self, offsets: dict[int, int], group: str | None = None) -> None:
        """What an operator does by hand, with the group empty."""
        name = self.kafka.topic_prefix + (group or FoldSettings().group_id)
        places = [TopicPartition(self.topics.usage_recorded, p, offset) for p, offset in offsets.items()]
        client = admin(self.kafka)

        def moved() -> bool:
            # A group that was just left may still count as one with members.
            try:
                client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(name, places)])[name].result(30)
            except Exception as error:
                raise AssertionError(str(error)) from error
            return True

        eventually(moved, DEADLINE, "the group is empty")

    def store_setting(self, name: str, value: str, earlier: int = 0) -> None:
        """Overwrite a row of fold_settings, as nothing of ours ever does; of one name the largest `earlier` wins."""
        self.client.command(
            "INSERT INTO fold_settings (name, value, earlier) VALUES ({name:String}, {value:String}, {earlier:Int64})",
            {"name": name, "value": value, "earlier": earlier},
        )

    def rows(self, table: str, order: str = "partition, offset") -> list[dict[str, Any]]:
        return self.client.rows(f"SELECT * FROM {table} FINAL ORDER BY {order}")

    def rejects(self) -> list[dict[str, Any]]:
        """usage_rejected, its bytes as bytes: a String column is no text here."""
        rows = self.client.rows(
            "SELECT partition, offset, received_at, org_id, metric_key, subject_type, subject_id, reason, detail, "
            "hex(key) AS key, hex(value) AS value "
            "FROM usage_rejected FINAL ORDER BY partition, offset"
        )
        return [{**row, "key": bytes.fromhex(row["key"]), "value": bytes.fromhex(row["value"])} for row in rows]

    def published_rejects(self) -> list[Message]:
        return consume_all(self.kafka, self.topics.usage_rejected, deadline=DEADLINE)


def send(client: Any, topic: str, messages: tuple[Outgoing, ...]) -> list[tuple[int, int]]:
    """Publish and wait; the position of each message, in order."""
    positions: dict[int, tuple[int, int]] = {}
    for number, message in enumerate(messages):

        def delivered(error: Any, sent: Message, number: int = number) -> None:
            assert error is None, error
            positions[number] = (sent.partition(), sent.offset())

        client.produce(topic, message.value, message.key, message.partition, on_delivery=delivered)
    assert client.flush(DEADLINE) == 0
    return [positions[number] for number in range(len(messages))]


def headers_of(message: Message) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers() or []}
