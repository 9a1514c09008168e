"""The broker goes away: nothing is dropped, nothing is reported before it is true, every wait is bounded."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from meterfold import BufferFull, Delivery, DeliveryCounts, FlushTimeout, Meter, UndeliveredEvents
from meterfold_local.stack import LocalStack
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.usage import UsageRecorded
from support.kafka import consume_all, create_topics

NOBODY = "127.0.0.1:1"


def meter_of(kafka: KafkaSettings, **options: Any) -> Meter:
    return Meter(kafka.bootstrap_servers, topic_prefix=kafka.topic_prefix, librdkafka=dict(kafka.librdkafka), **options)


def test_without_a_broker_the_buffer_fills_and_raises() -> None:
    meter = Meter(NOBODY, buffer_events=10, buffer_timeout=0.2, delivery_timeout=600)
    for number in range(10):
        meter.record("api.calls", ("user", f"u-{number}"))
    start = time.monotonic()
    with pytest.raises(BufferFull, match=r"10 events without a report.*0\.2 s"):
        meter.record("api.calls", ("user", "one too many"))
    assert time.monotonic() - start >= 0.2
    results = meter.record_batch([{"metric_key": "m", "subject": ("user", str(n))} for n in range(20)])
    assert len(results.refused) == 20
    with pytest.raises(FlushTimeout):
        meter.flush(0.1)
    with pytest.raises(UndeliveredEvents) as caught:
        meter.close(0.1)
    assert caught.value.failed == 10
    assert meter.counts == DeliveryCounts(10, 0, 10)
    assert time.monotonic() - start < 300  # delivery_timeout is 600


def test_the_buffer_is_bounded_in_bytes_too() -> None:
    meter = Meter(NOBODY, buffer_bytes=1024 * 1024, buffer_timeout=0)
    metadata = {"text": "x" * 10_000}
    results = meter.record_batch(
        [{"metric_key": "m", "subject": ("user", str(number)), "metadata": metadata} for number in range(200)]
    )
    assert all(isinstance(result.error, BufferFull) for result in results.refused.values())
    assert 50 < results.accepted == meter.counts.recorded < 110
    with pytest.raises(UndeliveredEvents):
        meter.close(0)


def test_what_cannot_be_delivered_in_time_is_reported_as_failed() -> None:
    reports: list[Delivery] = []
    meter = Meter(NOBODY, delivery_timeout=1, on_delivery=reports.append)
    event_id = meter.record("api.calls", ("user", "u"))
    with pytest.raises(UndeliveredEvents, match="Connection refused"):
        meter.flush(30)
    assert [(report.event_id, report.delivered) for report in reports] == [(event_id, False)]
    assert meter.counts == DeliveryCounts(1, 0, 1)
    meter.close(5)


def test_a_broker_that_is_killed_and_comes_back_has_every_event_once(own_stack: LocalStack) -> None:
    settings = own_stack.kafka_settings("")
    (topic,) = create_topics(settings, "usage.recorded", partitions=3)
    broker = own_stack.kafka.broker(1)
    reports: list[Delivery] = []
    with meter_of(settings, buffer_events=100_000, on_delivery=reports.append) as meter:
        before = [meter.record("api.calls", ("user", f"u-{n % 50}")) for n in range(5000)]
        broker.kill()
        during = [meter.record("api.calls", ("user", f"u-{n % 50}")) for n in range(5000)]
        with pytest.raises(FlushTimeout):
            meter.flush(0.5)
        delivered = {report.event_id for report in reports if report.delivered}
        assert not delivered & set(during)
        own_stack.kafka.restart(1)
        meter.flush(90)
    assert meter.counts == DeliveryCounts(10_000, 10_000, 0)
    arrived = Counter(UsageRecorded.from_bytes(message.value()).id for message in consume_all(settings, topic))
    assert arrived == Counter(before + during)
