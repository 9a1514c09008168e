"""Topics and messages of a test, through plain clients."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from meterfold_schemas.settings import KafkaSettings

# librdkafka writes to standard error unless it has a logger.
_log = logging.getLogger("meterfold.tests.kafka")

# A partition whose leader changes right now; one that was elected a moment ago does not know its end yet.
LEADER_CHANGES = {
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
}


def admin(settings: KafkaSettings) -> AdminClient:
    return AdminClient(settings.client(), logger=_log)


def producer(settings: KafkaSettings, **more: object) -> Producer:
    """An idempotent producer with Kafka's own partitioner."""
    defaults = {"enable.idempotence": True, "acks": "all", "partitioner": "murmur2_random"}
    return Producer(settings.client(**{**defaults, **more}), logger=_log)


def create_topics(settings: KafkaSettings, *names: str, partitions: int = 1, **config: str) -> list[str]:
    """Create topics of these names behind the settings' prefix; returns the full names once all can be written to.

    `config` takes Kafka's names with underscores: cleanup_policy="compact".
    """
    client = admin(settings)
    full = [settings.topic_prefix + name for name in names]
    properties = {name.replace("_", "."): value for name, value in config.items()}
    created = client.create_topics([NewTopic(name, partitions, config=properties) for name in full])
    for future in created.values():
        future.result(30)
    end = time.monotonic() + 30
    while True:
        topics = client.list_topics(timeout=10).topics
        # The controller has answered; the brokers learn of it a moment later.
        if all(name in topics and len(topics[name].partitions) == partitions and _led(topics[name]) for name in full):
            return full
        assert time.monotonic() < end, f"topics {full} have no leaders"


def delete_topics(settings: KafkaSettings) -> None:
    """Delete every topic that begins with the settings' prefix (which may not be empty)."""
    assert settings.topic_prefix
    client = admin(settings)
    names = [name for name in client.list_topics(timeout=10).topics if name.startswith(settings.topic_prefix)]
    if names:
        for future in client.delete_topics(names).values():
            future.result(30)


def consume_all(
    settings: KafkaSettings,
    topic: str,
    *,
    partitions: Iterable[int] | None = None,
    isolation: str = "read_committed",
    deadline: float = 30.0,
) -> list[Message]:
    """Every message of the topic (full name) from its beginning to the end of each partition as of now.

    Ordered by partition and offset. A transaction that is still open counts as the end for read_committed.
    """
    consumer = Consumer(
        settings.client(
            **{
                "group.id": f"test-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
            }
        ),
        logger=_log,
    )
    try:
        found = consumer.list_topics(topic, timeout=10).topics[topic]
        assert found.error is None, f"{topic}: {found.error}"
        wanted = set(found.partitions if partitions is None else partitions)
        starts = []
        end = time.monotonic() + deadline
        for partition in wanted:
            starts.append(TopicPartition(topic, partition, _log_start(consumer, topic, partition, end)))
        consumer.assign(starts)
        messages: list[Message] = []
        while wanted:
            assert time.monotonic() < end, f"{topic}: {len(messages)} messages, {wanted} not at their end"
            for message in consumer.consume(1000, timeout=0.04):
                error = message.error()
                if error is None:
                    messages.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    wanted.discard(message.partition())
                else:
                    raise AssertionError(f"{topic}: {error}")
        return sorted(messages, key=lambda m: (m.partition(), m.offset()))
    finally:
        consumer.close()


def _log_start(consumer: Consumer, topic: str, partition: int, end: float) -> int:
    while True:
        try:
            low, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        except KafkaException as error:
            if error.args[0].code() not in LEADER_CHANGES or time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return low


def _led(topic: object) -> bool:
    return all(partition.leader >= 0 for partition in topic.partitions.values())  # type: ignore[attr-defined]
