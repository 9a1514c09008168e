"""Public topics are stored as gzip, which every client library reads, whatever their producers send."""

from __future__ import annotations

import pytest

from meterfold_local.stack import LocalStack
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import NAMES
from support import consume_all, eventually
from support.checker.installation import Installation, running
from support.kafka import create_topics, producer
from support.stored import stored_codecs

INTERNAL = {"usage.recorded", "usage.windows"}
PUBLIC = sorted(set(NAMES) - INTERNAL)


def write(settings: KafkaSettings, topic: str, codec: str) -> None:
    """One batch that is worth compressing."""
    client = producer(settings, **{"compression.type": codec, "linger.ms": 200})
    for number in range(20):
        client.produce(topic, b"x" * 500, f"key-{number}".encode(), partition=0)
    assert client.flush(30) == 0


def test_what_consumers_get_is_gzip_in_topics_that_are_new(
    stack: LocalStack, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> None:
    done = migrate_all(kafka_settings, clickhouse_settings, MigrationOptions(partition_count=2))
    assert done.adjusted == []
    for name in NAMES:
        topic = kafka_settings.topic_prefix + name
        write(kafka_settings, topic, "lz4")
        assert set(stored_codecs(stack, topic)) == ({"lz4"} if name in INTERNAL else {"gzip"}), name
        assert len(consume_all(kafka_settings, topic)) == 20


@pytest.mark.parametrize("before", ["producer", "lz4"])
def test_a_migration_brings_topics_that_exist_to_it(
    stack: LocalStack, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, before: str
) -> None:
    create_topics(kafka_settings, "metric.defined", cleanup_policy="compact", compression_type=before)
    topic = kafka_settings.topic_prefix + "metric.defined"
    write(kafka_settings, topic, "lz4")
    assert set(stored_codecs(stack, topic)) == {"lz4"}
    done = migrate_all(kafka_settings, clickhouse_settings, MigrationOptions(partition_count=2))
    assert done.adjusted == [topic]
    old = len(stored_codecs(stack, topic))
    write(kafka_settings, topic, "lz4")
    assert set(stored_codecs(stack, topic)[old:]) == {"gzip"}
    assert migrate_all(kafka_settings, clickhouse_settings, MigrationOptions()).adjusted == []


def test_what_the_checker_emits_is_gzip(
    stack: LocalStack, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> None:
    there = Installation(kafka_settings, clickhouse_settings)
    try:
        there.define_metric()
        there.define_threshold()
        with running(there) as checker:
            checker.ready(2)
            there.use(120)
            eventually(lambda: len(there.events()) == 2, 30)
            eventually(lambda: consume_all(there.kafka, there.topics.usage_aggregated), 30)
            there.use(-120)
            eventually(lambda: len(there.events()) == 4, 30)
    finally:
        there.close()
    emitted = [there.topics.threshold_approaching, there.topics.threshold_exceeded, there.topics.threshold_cleared]
    for topic in (*emitted, there.topics.threshold_state, there.topics.usage_aggregated, there.topics.metric_defined):
        assert set(stored_codecs(stack, topic)) == {"gzip"}, topic
