"""The commands that define, and the mirror that shows it, on the real stack."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from meterfold_schemas.errors import InvalidDefinition
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service.definitions import CheckerNotRunning, DefinitionCommands, DefinitionRefused
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
    commands = DefinitionCommands(there.kafka, there.clickhouse)
    with running(there, mirror=True):
        made = commands.define_metric(key="api.calls", name="Calls", unit="call", category="api")
        (row,) = stored(there, "metric_definitions")
        assert (row["id"], row["key"], row["category"], row["version"], row["aggregation_type"]) == (
            made.id,
            "api.calls",
            "api",
            0,
            "sum",
        )
        assert row["created_at"] == made.created_at
        assert commands.define_metric(key="api.calls", name="Calls", unit="call", category="api") == made
        with pytest.raises(DefinitionRefused) as refused:
            commands.define_metric(key="api.calls", name="Other", unit="call")
        assert refused.value.code == "METRIC_KEY_EXISTS"
        own = commands.define_metric(key="api.calls", name="Other", unit="call", org_id="acme")
        updated = commands.update_metric("api.calls", aggregation_type="max", unit="calls")
        assert (updated.id, updated.version, updated.unit) == (made.id, 2, "calls")
        assert commands.update_metric("api.calls", unit="calls") == updated
        assert len(consume_all(there.kafka, there.topics.metric_defined)) == 3
        commands.delete_metric("api.calls")
        assert [row["id"] for row in stored(there, "metric_definitions")] == [own.id]
        for change in (lambda: commands.update_metric("api.calls", unit="x"), lambda: commands.delete_metric("nope")):
            with pytest.raises(DefinitionRefused) as refused:
                change()
            assert refused.value.code == "METRIC_NOT_FOUND"


def test_thresholds_are_created_updated_and_deleted(there: Installation) -> None:
    commands = DefinitionCommands(there.kafka, there.clickhouse)
    with running(there, mirror=True):
        with pytest.raises(DefinitionRefused) as refused:
            commands.create_threshold(metric_key="api.calls", name="cap", threshold=100)
        assert refused.value.code == "METRIC_NOT_FOUND"
        commands.define_metric(key="api.calls", name="Calls", unit="call", reset_period="weekly")
        with pytest.raises(InvalidDefinition) as invalid:
            commands.create_threshold(metric_key="api.calls", name="cap", threshold=100)
        assert invalid.value.code == "PERIOD_NOT_KEPT"
        values = {"metric_key": "api.calls", "org_id": "acme", "name": "cap", "period_type": "daily"}
        made = commands.create_threshold(**values, threshold=100, action="block", notify_emails=("a@example.com",))
        (row,) = stored(there, "thresholds")
        assert (row["id"], row["threshold"], row["warn_threshold"]) == (made.id, Decimal(100), Decimal(80))
        assert (row["subject_type"], row["notify_emails"], row["action"]) == (None, ["a@example.com"], "block")
        again = commands.create_threshold(**values, threshold=100, action="block", notify_emails=("a@example.com",))
        assert again == made
        raised = commands.update_threshold(made.id, threshold=1000)
        assert (raised.warn_threshold, raised.version) == (Decimal(800), made.version + 1)
        with pytest.raises(InvalidDefinition):
            commands.update_threshold(made.id, period_type="hourly")
        commands.delete_threshold(made.id)
        assert stored(there, "thresholds") == []
        with pytest.raises(DefinitionRefused) as refused:
            commands.delete_threshold(made.id)
        assert refused.value.code == "THRESHOLD_NOT_FOUND"


def test_a_command_says_that_the_checker_is_not_running(there: Installation) -> None:
    commands = DefinitionCommands(there.kafka, there.clickhouse, wait_seconds=0.3)
    with pytest.raises(CheckerNotRunning, match=r"^api\.calls is published \(offset 0\).* the checker is not running"):
        commands.define_metric(key="api.calls", name="Calls", unit="call")
    with running(there, mirror=True):
        patient = DefinitionCommands(there.kafka, there.clickhouse)
        made = patient.define_metric(key="api.calls", name="Calls", unit="call")
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
    commands = DefinitionCommands(there.kafka, there.clickhouse)
    tables = ("metric_definitions", "thresholds", "threshold_events", "mirror_progress")
    keys = {"metric_definitions": "key", "thresholds": "name", "threshold_events": "event_id"}

    def rows() -> dict[str, list[str]]:
        return {
            table: sorted(row[key] for row in there.client.rows(f"SELECT {key} FROM {table} FINAL"))
            for table, key in keys.items()
        }

    with running(there, mirror=True) as checker:
        checker.ready(2)
        commands.define_metric(key="api.calls", name="Calls", unit="call", org_id="acme")
        commands.create_threshold(metric_key="api.calls", name="cap", threshold=100, org_id="acme")
        backup = {table: there.client.query(f"SELECT * FROM {table} FINAL") for table in tables}
        commands.define_metric(key="api.bytes", name="Bytes", unit="byte")
        commands.create_threshold(metric_key="api.calls", name="low", threshold=10, org_id="acme")
        there.use(50)
        eventually(lambda: len(rows()["threshold_events"]) == 2, 30, "both levels of the low threshold")
        whole = rows()
    for table, before in backup.items():
        there.client.command(f"TRUNCATE TABLE {table}")
        there.writer.insert(table, before)
    assert (rows()["thresholds"], rows()["threshold_events"]) == (["cap"], [])
    with running(there, mirror=True):
        eventually(lambda: rows() == whole, 30, "everything is there again")
