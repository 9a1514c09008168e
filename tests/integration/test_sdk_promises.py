"""What the SDK promises about exceptions, flush, passwords, values and ages, through to Kafka and ClickHouse."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from meterfold import Delivery, DeliveryCounts, InvalidUsage, Meter, RefusedEvents, UndeliveredEvents
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.usage import UsageRecorded
from support import eventually
from support.cli import answer, running
from support.clickhouse import http_query
from support.kafka import consume_all, create_topics

ADA = ("user", "ada")


@pytest.fixture
def topic(kafka_settings: KafkaSettings) -> str:
    (topic,) = create_topics(kafka_settings, "usage.recorded", partitions=3, message_timestamp_type="LogAppendTime")
    return topic


def meter_of(kafka: KafkaSettings, **options: Any) -> Meter:
    return Meter(kafka.bootstrap_servers, topic_prefix=kafka.topic_prefix, librdkafka=dict(kafka.librdkafka), **options)


class Stop(Exception):
    """The application's own."""


@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt])
def test_after_an_exception_inside_with_the_recorded_events_arrive(
    kind: type[BaseException], kafka_settings: KafkaSettings, topic: str
) -> None:
    made: list[str] = []

    def application() -> None:
        with meter_of(kafka_settings) as meter:
            made.append(meter.record("api.calls", ADA))
            meter.flush(60)  # connected: from here on reports come within milliseconds
            made.extend(meter.record("api.calls", ADA) for _ in range(500))
            raise kind

    with pytest.raises(kind) as caught:
        application()
    assert getattr(caught.value, "__notes__", []) == []
    found = [UsageRecorded.from_bytes(message.value()).id for message in consume_all(kafka_settings, topic)]
    assert found == made


def test_a_flush_waits_for_what_was_recorded_before_it_while_other_threads_record(
    kafka_settings: KafkaSettings, topic: str
) -> None:
    delivered: set[str] = set()
    over = threading.Event()

    def note(report: Delivery) -> None:
        delivered.add(report.event_id)

    with meter_of(kafka_settings, on_delivery=note) as meter:

        def others() -> None:
            while not over.wait(0.0005):
                meter.record("api.calls", ("user", "bob"))

        threads = [threading.Thread(target=others) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                ours = {meter.record("api.calls", ADA) for _ in range(200)}
                meter.flush(60)
                assert ours <= delivered
            assert all(thread.is_alive() for thread in threads)
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert meter.counts.delivered == meter.counts.recorded == len(consume_all(kafka_settings, topic))


def test_a_wrong_password_is_named_long_before_the_delivery_fails(kafka_settings: KafkaSettings, topic: str) -> None:
    wrong = kafka_settings.model_copy(update={"librdkafka": {**kafka_settings.librdkafka, "sasl.password": "wrong"}})
    meter = meter_of(wrong, delivery_timeout=3600)
    meter.record("api.calls", ADA)
    eventually(lambda: "authentication" in (meter.trouble or "").lower(), 30)
    with pytest.raises(UndeliveredEvents, match=r"(?i)the last trouble was: .*authentication") as caught:
        meter.close(0)
    assert "wrong" not in str(caught.value)
    assert meter.counts == DeliveryCounts(1, 0, 1)


@pytest.fixture
def folding(
    stack_environment: dict[str, str], settings_file: Path, clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> Iterator[ClickHouseSettings]:
    """An installation with a fold worker."""
    answer("migrate", "--partitions", "2", env=stack_environment)
    with running("fold", env=stack_environment, folder=tmp_path, ready="fold: ready"):
        yield clickhouse_settings


def rows(clickhouse: ClickHouseSettings, sql: str) -> list[dict[str, Any]]:
    settings = "SETTINGS output_format_json_quote_decimals = 1 FORMAT JSONEachRow"
    text = http_query(clickhouse, f"{sql.format(database=clickhouse.database)} {settings}")
    return [json.loads(line) for line in text.splitlines()]


def test_values_of_every_kind_become_rows_and_refused_ones_do_not(
    folding: ClickHouseSettings, settings_file: Path
) -> None:
    uuid = UUID("01936b8e-7f2c-7000-8000-000000000001")
    with Meter(config=settings_file, rounding="half_even") as meter:
        meter.record("gpu.seconds", ("user", uuid), np.int64(7), id=uuid)
        meter.record("gpu.seconds", ("user", 42), 0.12345678951, id=np.uint32(17), resource_id=np.int16(3))
        batch = [
            {"metric_key": "gpu.seconds", "subject": ADA, "id": "good-1", "quantity": np.int8(2)},
            {"metric_key": "gpu.seconds", "subject": ADA, "id": "bad", "quantitty": 3},
            {"metric_key": "gpu.seconds", "subject": ADA, "id": "good-2"},
        ]
        results = meter.record_batch(batch)
        with pytest.raises(RefusedEvents, match=r"1 of 3 events were refused; the first is event 1.*quantitty"):
            results.raise_refused()
        meter.flush(60)
    assert meter.counts == DeliveryCounts(4, 4, 0)
    sql = "SELECT id, subject_id, quantity, resource_id FROM {database}.usage_records FINAL ORDER BY id"
    found = eventually(lambda: (stored := rows(folding, sql)) and len(stored) == 4 and stored, 60)
    assert [tuple(row.values()) for row in found] == [
        (str(uuid), str(uuid), "7", None),
        ("17", "42", "0.12345679", "3"),
        ("good-1", "ada", "2", None),
        ("good-2", "ada", "1", None),
    ]


def test_a_timestamp_that_would_not_count_is_refused_where_the_rules_are_known_and_rejected_where_not(
    folding: ClickHouseSettings, settings_file: Path
) -> None:
    now = datetime.now(UTC)
    times = {"too_old": now - timedelta(days=36), "in_future": now + timedelta(hours=1)}
    rules = {"horizon_seconds": 35 * 86_400, "future_tolerance_seconds": 300}
    with Meter(config=settings_file, **rules) as knowing, Meter(config=settings_file) as unknowing:
        for reason, timestamp in times.items():
            with pytest.raises(InvalidUsage) as caught:
                knowing.record("api.calls", ADA, id=f"known-{reason}", timestamp=timestamp)
            assert caught.value.code == reason.upper()
            unknowing.record("api.calls", ADA, id=f"unknown-{reason}", timestamp=timestamp)
        knowing.record("api.calls", ADA, id="good", timestamp=now - timedelta(days=34))
    assert knowing.counts == DeliveryCounts(1, 1, 0)

    def stored() -> bool:
        rejected = rows(folding, "SELECT reason FROM {database}.usage_rejected FINAL ORDER BY reason")
        counted = rows(folding, "SELECT id FROM {database}.usage_records FINAL")
        assert sorted(row["reason"] for row in rejected) == ["in_future", "too_old"]
        assert counted == [{"id": "good"}]
        return True

    eventually(stored, 60)
