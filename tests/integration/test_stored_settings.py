"""`meterfold settings set` on real servers: stored settings, the tables' TTL and the topics' retention change together,
and not while something would count twice or be lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meterfold_processor.kafka.topics import read_retentions, set_retentions
from meterfold_processor.verify import verify
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service.settings import operations
from meterfold_sink import settings_change
from meterfold_sink.fold_state import read_rules, read_settings
from meterfold_sink.server import server_now
from support import eventually
from support.cli import answer, inside
from support.fold import Installation, event, raw_event, running
from support.fold.installation import DEADLINE

PARTITIONS = 2
DAY = 86_400


@pytest.fixture
def installation(
    kafka_settings: KafkaSettings,
    clickhouse_settings: ClickHouseSettings,
    stack_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Installation]:
    """A database of its own: its tables are altered."""
    monkeypatch.setattr(operations, "_FRESH_SECONDS", 0)
    answer("migrate", "--partitions", str(PARTITIONS), env=stack_environment)
    made = Installation(kafka_settings, clickhouse_settings, PARTITIONS)
    yield made
    made.close()


def test_settings_change_with_what_depends_on_them(
    installation: Installation, stack_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, names = installation.client, installation.topics

    def change(*arguments: str) -> Any:
        return answer("settings", "set", *arguments, "--yes", env=stack_environment)

    def refused(*arguments: str, code: int = 1) -> str:
        done = inside("settings", "set", *arguments, "--yes", env=stack_environment)
        assert done.returncode == code, done
        assert done.stderr.count("\n") == 1, done.stderr
        return str(done.stderr)

    old = raw_event(id="old", timestamp=micros(datetime.now(UTC) - timedelta(days=50)))
    with running(installation) as worker:
        installation.send(event("u1", id="1"), old)
        installation.wait_folded(worker)
        assert [row["reason"] for row in installation.rejects()] == ["too_old"]
        # A worker runs.
        assert "WORKERS_RUNNING" in refused("horizon=60d", "record_retention=120d", code=3)
        assert change("unknown_schema_hold=2h")["changes"] == [
            {"name": "unknown_schema_hold_seconds", "old": "3600", "new": "7200"}
        ]

    def stopped() -> bool:
        assert answer("settings", "show", env=stack_environment)["workers"] == {}
        return True

    eventually(stopped, DEADLINE, "the worker has left its group")

    # Combinations that could count twice, and what is no setting, change nothing.
    before = read_settings(client)
    assert "record_retention_seconds 8640000 is too short" in refused("horizon=90d", code=2)
    assert "Changing the partition count" in refused("partition_count=4", code=2)
    assert "not a stored setting" in refused("horizont=90d", code=2)
    assert "must be whole seconds" in refused("horizon=soon", code=2)
    assert "NOT_CONFIRMED" in inside("settings", "set", "horizon=60d", env=stack_environment).stderr
    planned = answer("settings", "set", "horizon=60d", "record_retention=120d", "--dry-run", env=stack_environment)
    assert [one["name"] for one in planned["changes"]] == ["horizon_seconds", "record_retention_seconds"]
    assert read_settings(client) == before
    assert set(settings_change.read_ttls(client).values()) == {100 * DAY}

    # Longer: the tables first.
    change("horizon=60d", "record_retention=120d")
    assert set(settings_change.read_ttls(client).values()) == {120 * DAY}
    rules = read_rules(client)
    assert (rules.horizon_seconds, rules.record_retention_seconds) == (60 * DAY, 120 * DAY)
    shown = answer("settings", "show", env=stack_environment)
    assert shown["problems"] == []
    assert change("horizon=60d", "record_retention=120d")["changes"] == []
    answer("migrate", env=stack_environment)

    # What was interrupted is completed by the same command.
    settings_change.write_ttl(client, "usage_records", 90 * DAY)
    set_retentions(installation.kafka, {names.usage_recorded: -1})
    shown = answer("settings", "show", env=stack_environment, code=1)
    assert len(shown["problems"]) == 2
    assert change("record_retention=120d")["changes"] == []
    assert set(settings_change.read_ttls(client).values()) == {120 * DAY}
    assert read_retentions(installation.kafka, [names.usage_recorded]) == {names.usage_recorded: 14 * DAY * 1000}

    # Messages that nobody has read are not deleted.
    installation.send(event("u1", id="2"), old)
    assert "too short: messages" in refused("source_retention=1m", code=2)
    with monkeypatch.context() as later:
        later.setattr(operations, "server_now", lambda client: server_now(client) + 8 * DAY * 1_000_000)
        assert "NOT_AT_REST" in refused("source_retention=7d")
    change("source_retention=7d")
    topics = [names.usage_recorded, names.usage_rejected]
    assert read_retentions(installation.kafka, topics) == dict.fromkeys(topics, 7 * DAY * 1000)

    # The new horizon decides about what is folded now.
    with running(installation) as worker:
        installation.wait_folded(worker)
    assert [row["id"] for row in installation.rows("usage_records") if row["id"] == "old"] == ["old"]
    assert verify(installation.kafka, installation.clickhouse).findings == ()


def test_rows_of_a_flush_that_did_not_complete_keep_the_rules_as_they_are(
    installation: Installation, stack_environment: dict[str, str]
) -> None:
    with running(installation) as worker:
        installation.send(event("u1", id="1"))
        installation.wait_folded(worker)
    eventually(
        lambda: answer("settings", "show", env=stack_environment)["workers"] == {}, DEADLINE, "the worker has left"
    )
    installation.client.command(
        "INSERT INTO usage_records SELECT * REPLACE (offset + 1 AS offset, 'x' AS id) FROM usage_records"
    )
    done = inside("settings", "set", "horizon=40d", "--yes", env=stack_environment)
    assert done.returncode == 1
    assert "NOT_AT_REST" in done.stderr
    # It does not matter for what decides about no event.
    assert answer("settings", "set", "grace=2h", "--yes", env=stack_environment)["changes"][0]["new"] == "7200"
    installation.client.command(
        "INSERT INTO fold_progress SELECT * REPLACE (next_offset + 5 AS next_offset, 9 AS counted) "
        "FROM fold_progress FINAL"
    )
    # Records that have expired do not come back with a longer retention.
    done = inside("settings", "set", "horizon=100d", "record_retention=130d", "--yes", env=stack_environment)
    assert done.returncode == 2
    assert "have expired" in done.stderr
