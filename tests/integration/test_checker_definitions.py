"""The commands that define, and the mirror that shows it, on the real stack."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from meterfold_schemas.errors import InvalidDefinition
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service import (
    CheckerNotRunning,
    Metering,
    MetricKeyExists,
    MetricNotFound,
    ThresholdNotFound,
)
from support import consume_all, eventually
from support.checker.installation import Installation, running


@pytest.fixture
def there(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    installation = Installation(kafka_settings, clickhouse_settings)
    yield installation
    installation.close()


def stored(there: Installation, table: str) -> list[dict[str, object]]:
    return there.client.rows(f"SELECT * FROM {table} FINAL WHERE deleted = 0")


def test_metrics_are_defined_updated_and_deleted(there: Installation) -> None:
    metering = Metering(kafka=there.kafka, clickhouse=there.clickhouse)
    with running(there, mirror=True):
        made = metering.metrics.define(key="api.calls", name="Calls", unit="call", category="api")
        (row,) = stored(there, "metric_definitions")
        assert (row["id"], row["key"], row["category"], row["version"], row["aggregation_type"]) == (
            made.id,
            "api.calls",
            "api",
            0,
            "sum",
        )
        assert row["created_at"] == made.created_at
        assert metering.metrics.define(key="api.calls", name="Calls", unit="call", category="api") == made
        with pytest.raises(MetricKeyExists) as refused:
            metering.metrics.define(key="api.calls", name="Other", unit="call")
        assert (refused.value.code, refused.value.known) == ("METRIC_KEY_EXISTS", made)
        assert [(one.field, one.known, one.wanted) for one in refused.value.differences] == [("name", "Calls", "Other")]
        own = metering.metrics.define(key="api.calls", name="Other", unit="call", org_id="acme")
        updated = metering.metrics.update("api.calls", aggregation_type="max", unit="calls")
        assert (updated.id, updated.unit) == (made.id, "calls")
        assert updated.version > own.version > made.version
        assert metering.metrics.update("api.calls", unit="calls") == updated
        assert len(consume_all(there.kafka, there.topics.metric_defined)) == 3
        assert metering.metrics.update("api.calls", dimensions=["region", "model"]).dimensions == ("region", "model")
        assert [row["dimensions"] for row in stored(there, "metric_definitions") if row["id"] == made.id] == [
            ["region", "model"]
        ]
        assert metering.metrics.get("api.calls").dimensions == ("region", "model")
        assert [one.dimensions for one in metering.metrics.list().rows] == [("region", "model"), ()]
        metering.metrics.delete("api.calls")
        assert [row["id"] for row in stored(there, "metric_definitions")] == [own.id]
        for change in (lambda: metering.metrics.update("api.calls", unit="x"), lambda: metering.metrics.delete("nope")):
            with pytest.raises(MetricNotFound):
                change()


def test_thresholds_are_created_updated_and_deleted(there: Installation) -> None:
    metering = Metering(kafka=there.kafka, clickhouse=there.clickhouse)
    with running(there, mirror=True):
        with pytest.raises(MetricNotFound):
            metering.thresholds.create(metric_key="api.calls", name="cap", threshold=100)
        metering.metrics.define(key="api.calls", name="Calls", unit="call", reset_period="weekly")
        with pytest.raises(InvalidDefinition) as invalid:
            metering.thresholds.create(metric_key="api.calls", name="cap", threshold=100)
        assert invalid.value.code == "PERIOD_NOT_KEPT"
        values = {"metric_key": "api.calls", "org_id": "acme", "name": "cap", "period_type": "daily"}
        made = metering.thresholds.create(**values, threshold=100, action="block", notify_emails=("a@example.com",))
        (row,) = stored(there, "thresholds")
        assert (row["id"], row["threshold"], row["warn_threshold"]) == (made.id, Decimal(100), Decimal(80))
        assert (row["subject_type"], row["notify_emails"], row["action"]) == (None, ["a@example.com"], "block")
        again = metering.thresholds.create(**values, threshold=100, action="block", notify_emails=("a@example.com",))
        assert again == made
        raised = metering.thresholds.update(made.id, threshold=1000)
        assert raised.warn_threshold == Decimal(800)
        assert raised.version > made.version
        with pytest.raises(InvalidDefinition):
            metering.thresholds.update(made.id, period_type="hourly")
        metering.thresholds.delete(made.id)
        assert stored(there, "thresholds") == []
        with pytest.raises(ThresholdNotFound):
            metering.thresholds.delete(made.id)


def test_a_command_says_that_the_checker_is_not_running(there: Installation) -> None:
    metering = Metering(kafka=there.kafka, clickhouse=there.clickhouse, wait_seconds=0.3)
    with pytest.raises(CheckerNotRunning, match=r"^api\.calls is published \(offset 0\).* the checker is not running"):
        metering.metrics.define(key="api.calls", name="Calls", unit="call")
    with running(there, mirror=True):
        patient = Metering(kafka=there.kafka, clickhouse=there.clickhouse)
        made = patient.metrics.define(key="api.calls", name="Calls", unit="call")
    assert made.version == 0
    assert len(consume_all(there.kafka, there.topics.metric_defined)) == 1


def test_threshold_events_are_mirrored_once(there: Installation) -> None:
    there.define_metric()
    there.define_threshold()
    for turn in (1, 2):  # the second mirror begins where the first has committed
        with running(there, mirror=True) as checker:
            checker.ready(2)
            there.use(120)
            eventually(lambda turn=turn: mirrored(there) == 4 * turn - 2, 30)
            there.use(-120)
            eventually(lambda turn=turn: mirrored(there) == 4 * turn, 30)
    rows = there.client.rows("SELECT * FROM threshold_events FINAL ORDER BY event_id")
    events = sorted(there.events(), key=lambda event: event.event_id)
    assert [row["event_id"] for row in rows] == [event.event_id for event in events]
    assert [(row["event_type"], row["level"], row["actual_value"], row["crossing"]) for row in rows] == [
        (event.event_type, event.level.value, event.actual_value, event.crossing) for event in events
    ]
    assert {row["period_end"] for row in rows} == {None}
    statuses = there.client.rows("SELECT status FROM usage_alerts")
    assert {row["status"] for row in statuses} == {"resolved"}


def mirrored(there: Installation) -> int:
    return int(there.client.value("SELECT toInt64(count()) FROM threshold_events FINAL"))


def test_what_clickhouse_lost_is_copied_again(there: Installation) -> None:
    """The mirror goes on where ClickHouse says, as the fold does: offsets of a group are not restored with a backup."""
    metering = Metering(kafka=there.kafka, clickhouse=there.clickhouse)
    tables = ("metric_definitions", "thresholds", "threshold_events", "mirror_progress")
    keys = {"metric_definitions": "key", "thresholds": "name", "threshold_events": "event_id"}

    def rows() -> dict[str, list[str]]:
        return {
            table: sorted(row[key] for row in there.client.rows(f"SELECT {key} FROM {table} FINAL"))
            for table, key in keys.items()
        }

    with running(there, mirror=True) as checker:
        checker.ready(2)
        metering.metrics.define(key="api.calls", name="Calls", unit="call", org_id="acme")
        metering.thresholds.create(metric_key="api.calls", name="cap", threshold=100, org_id="acme")
        backup = {table: there.client.query(f"SELECT * FROM {table} FINAL") for table in tables}
        metering.metrics.define(key="api.bytes", name="Bytes", unit="byte")
        metering.thresholds.create(metric_key="api.calls", name="low", threshold=10, org_id="acme")
        there.use(50)
        eventually(lambda: len(rows()["threshold_events"]) == 2, 30, "both levels of the low threshold")
        whole = rows()
    for table, before in backup.items():
        there.client.command(f"TRUNCATE TABLE {table}")
        there.writer.insert(table, before)
    assert (rows()["thresholds"], rows()["threshold_events"]) == (["cap"], [])
    with running(there, mirror=True):
        eventually(lambda: rows() == whole, 30, "everything is there again")
