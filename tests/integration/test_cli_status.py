"""`meterfold status` on the real stack: while all is well, while something is down, while nothing moves."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer

from meterfold import Meter
from meterfold_cli import exits
from meterfold_local.stack_settings import write_settings
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import NAMES
from meterfold_schemas.usage import UsageRecorded
from support import eventually, producer
from support.cli import answer, inside, meterfold, running
from support.clickhouse import http_query


@pytest.fixture
def migrated(tables: None, stack_environment: dict[str, str]) -> dict[str, str]:
    answer("migrate", "--partitions", "2", env=stack_environment)
    return stack_environment


def test_before_migrate_it_says_what_is_missing(stack_environment: dict[str, str]) -> None:
    report = answer("status", env=stack_environment, code=1)
    assert not report["well"]
    assert all("meterfold migrate" in problem for problem in report["problems"])
    assert report["kafka"]["brokers"] == 1


def test_an_idle_installation_is_well(migrated: dict[str, str]) -> None:
    done = meterfold("status", env=migrated)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "all is well"
    assert "\x1b[" not in done.stdout


def test_events_that_nobody_folds_are_stuck_and_folded_ones_are_well(
    migrated: dict[str, str], settings_file: Path, tmp_path: Path
) -> None:
    with Meter(config=settings_file) as meter:
        for number in range(20):
            meter.record("api.calls", ("user", f"u{number}"))

    def stuck() -> bool:
        report = answer("status", "--stuck-after", "1", env=migrated, code=1)
        return len(report["problems"]) == 1 and "no fold worker runs" in report["problems"][0]

    eventually(stuck, 20)
    with running("fold", env=migrated, folder=tmp_path, ready="fold: ready"):
        eventually(lambda: answer("status", env=migrated)["counted"] == 20, 30)
        report = answer("status", env=migrated)
        assert [(p["partition"], p["state"], p["lag"]) for p in report["partitions"]] == [(0, "ok", 0), (1, "ok", 0)]
        assert [p["log_end"] for p in report["partitions"]] == [p["next_offset"] for p in report["partitions"]]
        assert sum(p["counted"] for p in report["partitions"]) == 20
        assert sum(p["checker_lag"] for p in report["partitions"]) > 0
        assert report["kafka"]["fold_group"]["state"] == "STABLE"


def test_wait_returns_when_what_was_recorded_is_folded_judged_and_copied(
    migrated: dict[str, str], settings_file: Path, clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> None:
    with Meter(config=settings_file) as meter:
        for number in range(20):
            meter.record("api.calls", ("user", f"u{number}"))
    late = answer("status", "--wait", "0.5", env=migrated, code=3)
    assert late["behind"] == ["not folded yet: partitions 0, 1"]
    assert (
        inside("status", "--wait", "0", env=migrated).stdout.splitlines()[-1].startswith("! after 0 s not folded yet")
    )
    with (
        running("fold", env=migrated, folder=tmp_path, ready="fold: ready"),
        running("check", env=migrated, folder=tmp_path, ready="check: ready"),
    ):
        report = answer("status", "--wait", env=migrated)
        assert (report["counted"], report["behind"], report["well"]) == (20, [], True)
        assert [p["checker_lag"] for p in report["partitions"]] == [0, 0]
        answer("metric", "define", "api.calls", "--name", "Calls", "--unit", "calls", env=migrated)
        answer(
            "threshold", "create", "api.calls", "--name", "q", "--value", "2", "--subject-type", "user", env=migrated
        )
        with Meter(config=settings_file) as meter:
            for number in range(20):
                meter.record("api.calls", ("user", f"u{number}"))
        report = answer("status", "--wait", env=migrated)
        assert (report["behind"], report["mirror_lag"]) == ([], [])
        # 2 calls of each user: approaching (1.6) and exceeded (2) at once, and both are in ClickHouse now.
        assert (
            http_query(
                clickhouse_settings, f"SELECT count() FROM {clickhouse_settings.database}.threshold_events FINAL"
            ).strip()
            == "40"
        )


def test_an_event_of_an_unknown_schema_is_named(migrated: dict[str, str], kafka_settings: KafkaSettings) -> None:
    key = subject_key("", "m", "user", "u")
    client = producer(kafka_settings)
    client.produce(kafka_settings.topic_prefix + "usage.recorded", b"\xc3\x01" + b"unknown!" + b"body", key)
    assert client.flush(10) == 0
    report = answer("status", env=migrated, code=1)
    assert f"unknown schema {b'unknown!'.hex()}" in report["problems"][0]
    assert report["partitions"][partition_of(key, 2)]["state"] == "held"


def test_events_of_a_foreign_partitioner_are_named_with_cause_and_remedy(
    migrated: dict[str, str], kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    """librdkafka's default, as a producer in C, Go, Rust or .NET has it: 20 events, many of them astray."""
    client = Producer(kafka_settings.client())
    expected = dict[str, int]()
    landed = dict[str, int]()
    for number in range(20):
        one = UsageRecorded(
            id=f"e{number}",
            org_id="acme",
            metric_key="api.calls",
            subject_type="user",
            subject_id=f"u{number}",
            quantity=1,
            timestamp=datetime.now(UTC),
        )

        def delivered(error: object, sent: Message, key: str = one.key.decode()) -> None:
            assert error is None, error
            landed[key] = sent.partition()

        client.produce(kafka_settings.topic_prefix + "usage.recorded", one.to_bytes(), one.key, on_delivery=delivered)
        expected[one.key.decode()] = partition_of(one.key, 2)
    assert client.flush(30) == 0
    astray = {key for key, partition in landed.items() if partition != expected[key]}
    assert 2 <= len(astray) <= 18
    with running("fold", env=migrated, folder=tmp_path, ready="fold: ready"):
        eventually(lambda: sum(answer("status", env=migrated, code=None)[n] for n in ("counted", "rejected")) == 20, 60)
        report = answer("status", env=migrated, code=1)
    (problem,) = (problem for problem in report["problems"] if "rejected as" in problem)
    assert (
        f"{len(astray)} messages of organization 'acme' were rejected as misrouted within the last 3,600 s" in problem
    )
    (shown,) = (key for key in astray if f"the key {key} is right, the partition is not" in problem)
    assert f"expected partition {expected[shown]} (murmur2 of the key), found on partition {landed[shown]}" in problem
    assert "set partitioner=murmur2_random" in problem
    (rejection,) = report["clickhouse"]["rejections"]
    assert (rejection["reason"], rejection["org_id"], rejection["count"]) == ("misrouted", "acme", len(astray))
    log = (tmp_path / "fold.log").read_text()
    warned = [line for line in log.splitlines() if "messages of organization 'acme' as misrouted" in line]
    assert 1 <= len(warned) <= 2, "not a line per message"
    text = meterfold("status", env=migrated)
    assert (text.returncode, "all is well" in text.stdout) == (1, False)
    assert answer("status", "--rejected-within", "0", env=migrated)["well"]


def test_a_server_that_is_down_is_said_and_the_other_is_still_shown(
    migrated: dict[str, str], kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> None:
    config = tmp_path / "half.toml"
    write_settings(config, kafka_settings, clickhouse_settings.model_copy(update={"url": "http://127.0.0.1:1"}))
    done = meterfold("status", "--config", config, env=migrated)
    assert done.returncode == exits.UNAVAILABLE
    (line,) = done.stderr.splitlines()
    assert "ClickHouse could not be reached" in line
    assert "http://127.0.0.1:1" in line
    assert "Check the address" in line
    assert "ClickHouse  does not answer" in done.stdout
    assert f"Kafka       1 broker, {len(NAMES)} topics" in done.stdout
    write_settings(config, kafka_settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"}), clickhouse_settings)
    done = meterfold("status", "--json", "--config", config, env=migrated)
    assert done.returncode == exits.UNAVAILABLE
    (line,) = done.stderr.splitlines()
    assert line.startswith("meterfold: Kafka at 127.0.0.1:1 could not be reached")
    assert "Check the address" in line
    report = json.loads(done.stdout)
    assert report["problems"] == report["silent"]
    assert report["clickhouse"]["error"] is None
    wrong = dict(kafka_settings.librdkafka) | {"sasl.password": "wrong-password"}
    write_settings(config, kafka_settings.model_copy(update={"librdkafka": wrong}), clickhouse_settings)
    refused = answer("status", "--config", config, env=migrated, code=exits.UNAVAILABLE)
    assert "_AUTHENTICATION" in refused["problems"][0]
    assert "wrong-password" not in str(refused)
