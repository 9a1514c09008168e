"""The SDK against real Kafka: what is recorded stands on the topic once, where it belongs, and is reported."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from meterfold import Delivery, DeliveryCounts, Meter, UndeliveredEvents
from meterfold_schemas.example_events import examples
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import from_micros
from meterfold_schemas.quantities import to_decimal
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.usage import UsageRecorded
from support.kafka import admin, consume_all, create_topics, producer

PARTITIONS = 6
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


@pytest.fixture
def topic(kafka_settings: KafkaSettings) -> str:
    (topic,) = create_topics(
        kafka_settings, "usage.recorded", partitions=PARTITIONS, message_timestamp_type="LogAppendTime"
    )
    return topic


@pytest.fixture
def meter(kafka_settings: KafkaSettings, topic: str) -> Iterator[Meter]:
    with meter_of(kafka_settings, org_id="acme") as made:
        yield made


def meter_of(kafka: KafkaSettings, **options: Any) -> Meter:
    return Meter(kafka.bootstrap_servers, topic_prefix=kafka.topic_prefix, librdkafka=dict(kafka.librdkafka), **options)


def test_an_event_arrives_with_its_key_and_partition(meter: Meter, kafka_settings: KafkaSettings, topic: str) -> None:
    event_id = meter.record("api.calls", ("user", "Zoë ☃"), "2.5", timestamp=NOW, metadata={"a": 1})
    meter.flush(30)
    (message,) = consume_all(kafka_settings, topic)
    key = subject_key("acme", "api.calls", "user", "Zoë ☃")
    assert message.key() == key == '["acme","api.calls","user","Zoë ☃"]'.encode()
    assert message.partition() == partition_of(key, PARTITIONS)
    assert UsageRecorded.from_bytes(message.value()) == UsageRecorded(
        id=event_id,
        org_id="acme",
        metric_key="api.calls",
        subject_type="user",
        subject_id="Zoë ☃",
        quantity=Decimal("2.5"),
        timestamp=NOW,
        metadata='{"a":1}',
    )
    assert meter.counts == DeliveryCounts(1, 1, 0)


def test_every_example_goes_through(meter: Meter, kafka_settings: KafkaSettings, topic: str) -> None:
    records = [example.record for example in examples("usage_recorded")]
    results = meter.record_batch(
        [
            {**record, "quantity": to_decimal(record["quantity"]), "timestamp": from_micros(record["timestamp"])}
            for record in records
        ]
    )
    meter.flush(30)
    assert results.accepted == len(records)
    arrived = {UsageRecorded.from_bytes(message.value()).identity for message in consume_all(kafka_settings, topic)}
    assert arrived == {
        (record["org_id"], record["metric_key"], record["subject_type"], record["subject_id"], record["id"])
        for record in records
    }


def test_one_subject_one_partition_as_murmur2_says(meter: Meter, kafka_settings: KafkaSettings, topic: str) -> None:
    for number in range(600):
        meter.record("api.calls", ("user", f"u-{number % 300}"))
    meter.flush(30)
    messages = consume_all(kafka_settings, topic)
    assert len(messages) == 600
    assert all(message.partition() == partition_of(message.key(), PARTITIONS) for message in messages)
    assert len({message.partition() for message in messages}) == PARTITIONS


def test_each_event_is_reported_where_it_stands(kafka_settings: KafkaSettings, topic: str) -> None:
    reports: list[Delivery] = []
    with meter_of(kafka_settings, on_delivery=reports.append) as meter:
        ids = [meter.record("api.calls", ("user", f"u-{number}")) for number in range(50)]
    stands = {
        (UsageRecorded.from_bytes(message.value()).id, message.partition(), message.offset())
        for message in consume_all(kafka_settings, topic)
    }
    assert {(report.event_id, report.partition, report.offset) for report in reports} == stands
    assert sorted(report.event_id for report in reports) == sorted(ids)
    assert all(report.delivered for report in reports)


def test_a_hundred_thousand_events_from_eight_threads(kafka_settings: KafkaSettings, topic: str) -> None:
    made: list[list[str]] = [[] for _ in range(8)]
    with meter_of(kafka_settings, buffer_events=5_000) as meter:

        def work(mine: list[str], name: str) -> None:
            for number in range(12_500):
                mine.append(meter.record("api.calls", (name, f"u-{number % 500}")))

        threads = [threading.Thread(target=work, args=(mine, f"t{index}")) for index, mine in enumerate(made)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert meter.counts == DeliveryCounts(100_000, 100_000, 0)
    arrived = Counter(UsageRecorded.from_bytes(message.value()).id for message in consume_all(kafka_settings, topic))
    assert arrived == Counter(one for mine in made for one in mine)
    assert set(arrived.values()) == {1}


def test_a_topic_that_is_not_there_is_reported_not_lost(kafka_settings: KafkaSettings) -> None:
    reports: list[Delivery] = []
    # librdkafka gives a topic 30 s to appear.
    impatient = {**kafka_settings.librdkafka, "topic.metadata.propagation.max.ms": "1000"}
    settings = kafka_settings.model_copy(update={"librdkafka": impatient})
    meter = meter_of(settings, on_delivery=reports.append)
    event_id = meter.record("api.calls", ("user", "u"))
    with pytest.raises(UndeliveredEvents, match="meterfold migrate") as caught:
        meter.flush(60)
    meter.close(5)
    assert [report.event_id for report in reports] == [event_id] == [r.event_id for r in caught.value.failures]
    assert meter.counts == DeliveryCounts(1, 0, 1)
    # allow.auto.create.topics is off: a typing error in the prefix must not make a topic.
    assert f"{kafka_settings.topic_prefix}usage.recorded" not in admin(kafka_settings).list_topics(timeout=10).topics


def test_a_wrong_password_is_told_in_the_failure(kafka_settings: KafkaSettings, topic: str) -> None:
    wrong = kafka_settings.model_copy(update={"librdkafka": {**kafka_settings.librdkafka, "sasl.password": "wrong"}})
    meter = meter_of(wrong, delivery_timeout=2)
    meter.record("api.calls", ("user", "u"))
    with pytest.raises(UndeliveredEvents, match=r"(?i)authentication") as caught:
        meter.close(30)
    assert "wrong" not in str(caught.value)


def test_default_partitioner_of_librdkafka_would_differ(kafka_settings: KafkaSettings, topic: str) -> None:
    """Why the SDK says `murmur2_random`: without it most subjects stand where no other client looks for them."""
    foreign = producer(kafka_settings, partitioner="consistent_random")
    for number in range(100):
        foreign.produce(topic, b"x", subject_key("acme", "api.calls", "user", f"u-{number}"))
    assert foreign.flush(30) == 0
    messages = consume_all(kafka_settings, topic)
    assert sum(message.partition() != partition_of(message.key(), PARTITIONS) for message in messages) > 50


FORKING = """
import os, sys, threading
from meterfold import Meter

meter = Meter()
parent = [meter.record("api.calls", ("user", f"p-{n}")) for n in range(1000)]
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    assert meter.counts.recorded == 0, meter.counts
    mine = [meter.record("api.calls", ("user", f"c-{n}")) for n in range(1000)]
    meter.flush(30)
    grandchild = os.fork()
    if grandchild == 0:
        mine = [meter.record("api.calls", ("user", f"g-{n}")) for n in range(10)]
        meter.close(30)
        assert meter.counts.delivered == 10
        sys.exit(0)
    assert os.waitpid(grandchild, 0)[1] == 0
    meter.close(30)
    assert meter.counts.delivered == 1000
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
meter.record("api.calls", ("user", "after the fork"))
meter.close(30)
assert meter.counts.delivered == 1001
"""


def test_after_a_fork_each_process_sends_its_own_events(
    kafka_settings: KafkaSettings, topic: str, stack_environment: dict[str, str]
) -> None:
    run(FORKING, stack_environment)
    events = [UsageRecorded.from_bytes(message.value()) for message in consume_all(kafka_settings, topic)]
    assert Counter(event.subject_id[:2] for event in events) == {"p-": 1000, "c-": 1000, "g-": 10, "af": 1}
    assert len({event.id for event in events}) == len(events) == 2011


DROPPED = """
from meterfold import Meter
meter = Meter()
for number in range(100):
    meter.record("api.calls", ("user", f"u-{number}"))
"""


def test_a_program_that_never_closes_still_sends_at_its_end(
    kafka_settings: KafkaSettings, topic: str, stack_environment: dict[str, str]
) -> None:
    errors = run(DROPPED, stack_environment, "-W", "default::ResourceWarning")
    assert "a Meter was not closed and 100 events had no report yet" in errors
    assert len(consume_all(kafka_settings, topic)) == 100


def run(program: str, environment: dict[str, str], *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_clients_words_never_reach_standard_error(
    kafka_settings: KafkaSettings, stack_environment: dict[str, str]
) -> None:
    program = (
        "from meterfold import Meter, UndeliveredEvents\n"
        "meter = Meter('127.0.0.1:1', delivery_timeout=1)\n"
        "meter.record('api.calls', ('user', 'u'))\n"
        "try:\n    meter.close(5)\nexcept UndeliveredEvents as error:\n    print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=stack_environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == ("DELIVERY_FAILED", "")
