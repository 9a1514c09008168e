"""Topics on a real cluster: created, checked, told apart; and the whole migration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions

from meterfold_processor.kafka import offsets, topics
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.errors import Fatal, InvalidSettings
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import NAMES, Topics, TopicSpec, topic_specs
from meterfold_sink import fold_state, reads
from meterfold_sink.client import connect
from meterfold_sink.migrate import check_schema
from support.kafka import admin, create_topics, delete_topics, producer
from support.waiting import eventually

DAY = 86_400


@pytest.fixture
def specs(kafka_settings: KafkaSettings) -> list[TopicSpec]:
    return topic_specs(2, prefix=kafka_settings.topic_prefix)


def test_topics_are_created_once_and_fit(kafka_settings: KafkaSettings, specs: list[TopicSpec]) -> None:
    names = Topics(kafka_settings.topic_prefix)
    with pytest.raises(Fatal, match="run `meterfold migrate`"):
        topics.check_topics(kafka_settings, specs)
    with pytest.raises(Fatal, match="run `meterfold migrate`"):
        topics.read_source(kafka_settings)
    assert sorted(topics.ensure_topics(kafka_settings, specs)) == sorted(kafka_settings.topic_prefix + n for n in NAMES)
    assert topics.ensure_topics(kafka_settings, specs) == []
    source = topics.read_source(kafka_settings)
    assert source.partition_count == 2
    assert source == topics.read_source(kafka_settings)

    client = producer(kafka_settings)
    for _ in range(3):
        client.produce(names.usage_recorded, b"x", partition=1)
    assert client.flush(30) == 0
    assert offsets.log_bounds(kafka_settings, names.usage_recorded, [0, 1]) == {0: (0, 0), 1: (0, 3)}
    assert offsets.log_bounds(kafka_settings, names.usage_recorded, [1], read_committed=True) == {1: (0, 3)}
    assert offsets.log_bounds(kafka_settings, names.usage_recorded, []) == {}


WRONG: list[tuple[str, int, dict[str, str], str]] = [
    ("usage.recorded", 3, {"message_timestamp_type": "LogAppendTime"}, "3 partitions instead of 2"),
    ("usage.recorded", 2, {}, "message.timestamp.type=CreateTime instead of LogAppendTime"),
    (
        "usage.recorded",
        2,
        {"message_timestamp_type": "LogAppendTime", "cleanup_policy": "compact,delete"},
        "cleanup.policy=",
    ),
    (
        "usage.recorded",
        2,
        {"message_timestamp_type": "LogAppendTime", "retention_ms": "-1"},
        "keeps its events for ever",
    ),
    ("usage.aggregated", 2, {}, "cleanup.policy=delete instead of compact"),
    ("usage.windows", 4, {}, "4 partitions instead of 2"),
    ("usage.rejected", 2, {}, "a rejected message of the largest size would not fit"),
    ("metric.defined", 2, {"cleanup_policy": "compact"}, "2 partitions instead of 1"),
]


@pytest.mark.parametrize(("name", "partitions", "config", "message"), WRONG)
def test_a_dangerous_difference_is_refused(
    kafka_settings: KafkaSettings,
    specs: list[TopicSpec],
    name: str,
    partitions: int,
    config: dict[str, str],
    message: str,
) -> None:
    create_topics(kafka_settings, name, partitions=partitions, **config)
    with pytest.raises(Fatal, match=message):
        topics.ensure_topics(kafka_settings, specs)


def test_a_shorter_retention_of_the_source_is_no_danger(kafka_settings: KafkaSettings, specs: list[TopicSpec]) -> None:
    config: dict[str, str] = {"message_timestamp_type": "LogAppendTime", "retention_ms": "86400000"}
    create_topics(kafka_settings, "usage.recorded", partitions=2, **config)
    assert len(topics.ensure_topics(kafka_settings, specs)) == len(NAMES) - 1


@pytest.fixture
def migrated(kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings) -> Any:
    return migrate_all(
        kafka_settings, clickhouse_settings, MigrationOptions(partition_count=2, horizon_seconds=20 * DAY)
    )


def test_everything_is_migrated_once(
    kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, migrated: Any
) -> None:
    assert len(migrated.topics) == len(NAMES)
    assert migrated.migrations[0] == "0001_usage"
    with connect(clickhouse_settings) as client:
        check_schema(client)
        stored = fold_state.read_rules(client)
    assert stored == migrated.rules
    assert (stored.partition_count, stored.horizon_seconds) == (2, 20 * DAY)
    assert topics.check_source(kafka_settings, stored) == topics.read_source(kafka_settings)

    # What is left out the second time is what is stored.
    again = migrate_all(kafka_settings, clickhouse_settings, MigrationOptions())
    assert (again.migrations, again.topics, again.rules) == ([], [], stored)
    for other in (MigrationOptions(horizon_seconds=DAY), MigrationOptions(partition_count=3)):
        with pytest.raises(Fatal, match="the stored settings differ"):
            migrate_all(kafka_settings, clickhouse_settings, other)
    assert topics.read_source(kafka_settings).partition_count == 2


def test_rules_that_cannot_work_leave_nothing_behind(
    kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> None:
    with pytest.raises(InvalidSettings, match="too short"):
        migrate_all(kafka_settings, clickhouse_settings, MigrationOptions(record_retention_seconds=DAY))
    with connect(clickhouse_settings) as client:
        assert client.rows("SHOW TABLES") == []
    with pytest.raises(Fatal, match="no topic"):
        topics.read_source(kafka_settings)


def test_a_migration_that_died_before_the_rules_is_run_again(
    kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(Exception):
        pass

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(reads, "write_settings_once", die)
        with pytest.raises(Died):
            migrate_all(kafka_settings, clickhouse_settings, MigrationOptions(partition_count=2))
    with pytest.raises(Fatal, match="2 partitions instead of 5"):
        migrate_all(kafka_settings, clickhouse_settings, MigrationOptions(partition_count=5))
    done = migrate_all(kafka_settings, clickhouse_settings, MigrationOptions(partition_count=2))
    assert (done.migrations, done.topics) == ([], [])
    assert done.rules.partition_count == 2


def test_history_12_a_topic_that_was_created_again_is_another_one(
    kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, migrated: Any
) -> None:
    stored = migrated.rules
    name = Topics(kafka_settings.topic_prefix).usage_recorded
    delete_topics(kafka_settings)
    eventually(lambda: name not in admin(kafka_settings).list_topics(timeout=10).topics, what="the topics are gone")
    with pytest.raises(Fatal, match="was created again"):
        topics.check_source(kafka_settings, stored)
    with pytest.raises(Fatal, match="was created again"):
        migrate_all(
            kafka_settings, clickhouse_settings, MigrationOptions()
        )  # and it is not made anew behind one's back
    topics.ensure_topics(kafka_settings, topic_specs(2, prefix=kafka_settings.topic_prefix))
    with pytest.raises(Fatal, match="deleted and created again"):
        topics.check_source(kafka_settings, stored)


def test_history_18_a_topic_that_grew_and_another_cluster_are_refused(
    kafka_settings: KafkaSettings, migrated: Any
) -> None:
    stored = migrated.rules
    with pytest.raises(Fatal, match="this Kafka cluster is"):
        topics.check_source(kafka_settings, replace(stored, cluster_id="another"))
    name = Topics(kafka_settings.topic_prefix).usage_recorded
    client = admin(kafka_settings)  # a client that is forgotten ends what it was asked for
    client.create_partitions([NewPartitions(name, 3)])[name].result(30)
    eventually(lambda: topics.read_source(kafka_settings).partition_count == 3, what="the topic has three partitions")
    with pytest.raises(Fatal, match="has 3 partitions, the stored settings say 2"):
        topics.check_source(kafka_settings, stored)
