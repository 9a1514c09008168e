"""`meterfold import` into the real stack: once, again, with bad rows, without a cluster, interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from meterfold import Meter
from meterfold_cli.importing.deliveries import Deliveries
from meterfold_cli.importing.outcome import wait_for_fold
from meterfold_cli.local_run import command
from meterfold_local.stack_settings import write_settings
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_sink.client import connect
from support import consume_all, eventually
from support.cli import answer, inside, meterfold, running
from support.clickhouse import http_query

ROWS = 500


@pytest.fixture
def migrated(tables: None, stack_environment: dict[str, str]) -> dict[str, str]:
    answer("migrate", "--partitions", "2", env=stack_environment)
    return stack_environment


def write(path: Path, rows: int = ROWS) -> Path:
    """One event per row: quantity 0.1, of ten users, no ids."""
    at = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    lines = [f"{number},u{number % 10},0.1,{at}" for number in range(rows)]
    path.write_text("\n".join(["no,user,amount,at", *lines]) + "\n", encoding="utf-8")
    return path


MAPPED = (
    *("--map", "user=subject_id", "--map", "amount=quantity", "--map", "at=timestamp", "--map", "no=metadata.no"),
    *("--set", "metric_key=tokens", "--set", "subject_type=user", "--id-from", "no"),
)


def test_importing_twice_counts_once_and_exactly(
    migrated: dict[str, str], clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> None:
    file = write(tmp_path / "usage.csv")
    table = pl.read_csv(file, infer_schema=False).with_columns(pl.col("at").str.to_datetime("%+", time_zone="UTC"))
    table.write_parquet(tmp_path / "usage.parquet")
    with running("fold", env=migrated, folder=tmp_path, ready="fold: ready"):
        first = answer("import", file, *MAPPED, env=migrated)
        assert (first["read"], first["handed_in"], first["delivered"], first["refused"]) == (ROWS, ROWS, ROWS, 0)
        assert fate(first) == (ROWS, 0, {}, 0, 0)
        for again in (file, tmp_path / "usage.parquet"):
            second = answer("import", again, *MAPPED, env=migrated)
            assert second["delivered"] == ROWS
            assert fate(second) == (0, ROWS, {}, 0, 0)
        report = answer("status", env=migrated)
    assert [report[name] for name in ("counted", "duplicates", "rejected")] == [ROWS, 2 * ROWS, 0]
    totals = f"SELECT subject_id, sum, record_count FROM {clickhouse_settings.database}.usage_windows FINAL"
    found = http_query(clickhouse_settings, f"{totals} WHERE period_type = 'lifetime' ORDER BY subject_id")
    # Fifty times 0.1, without the rest that floats would have.
    assert found.splitlines() == [f"u{number}\t5\t50" for number in range(10)]


def fate(summary: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(summary[name] for name in ("counted", "duplicates", "rejected", "pending", "unknown"))


def test_bad_rows_are_refused_and_the_exit_code_says_so(migrated: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path / "usage.csv", 3)
    with file.open("a", encoding="utf-8") as more:
        more.write("3,,0.1,2026-11-01T00:00:00Z\n4,u,0.1,2026-11-01\n")
    done = meterfold("import", file, *MAPPED, "--no-wait", env=migrated)
    assert done.returncode == 1
    assert done.stdout.startswith("5 rows read")
    assert done.stdout.endswith(": 3 delivered, 2 refused\n")
    assert "line 5: column 'user': subject_id is empty" in done.stderr
    assert "line 6: column 'at': timestamp '2026-11-01' is not ISO 8601" in done.stderr
    assert f"Refused rows are in {file}.rejects.csv" in done.stderr
    rejected = (tmp_path / "usage.csv.rejects.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in rejected] == ["rejected_line", "5", "6"]


def test_without_a_cluster_it_ends_with_what_to_do(
    migrated: dict[str, str], kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> None:
    config = tmp_path / "nowhere.toml"
    write_settings(config, kafka_settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"}), clickhouse_settings)
    done = meterfold("import", write(tmp_path / "usage.csv"), *MAPPED, "--config", config, env=migrated)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("meterfold: Kafka at 127.0.0.1:1 could not be reached, looking for the topic: ")
    assert "Connection refused" in line
    assert "Nothing was sent" in line
    assert done.stdout == ""


def test_a_wrong_password_is_one_line_within_seconds(
    migrated: dict[str, str], kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> None:
    config = tmp_path / "wrong.toml"
    wrong = dict(kafka_settings.librdkafka) | {"sasl.password": "wrong-password"}
    write_settings(config, kafka_settings.model_copy(update={"librdkafka": wrong}), clickhouse_settings)
    done = inside("import", write(tmp_path / "usage.csv"), *MAPPED, "--config", config, env=migrated)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "refuses the connection" in line
    assert "Invalid username or password" in line
    assert "wrong-password" not in line


def test_without_clickhouse_nothing_is_sent_unless_it_is_asked_for(
    migrated: dict[str, str], kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> None:
    config = tmp_path / "half.toml"
    write_settings(config, kafka_settings, clickhouse_settings.model_copy(update={"url": "http://127.0.0.1:1"}))
    file = write(tmp_path / "usage.csv", 3)
    done = inside("import", file, *MAPPED, "--config", config, env=migrated)
    assert done.returncode == 3
    assert "Nothing was sent" in done.stderr
    assert "--kafka-only" in done.stderr
    topic = kafka_settings.topic_prefix + "usage.recorded"
    assert consume_all(kafka_settings, topic) == []
    assert answer("import", file, *MAPPED, "--kafka-only", "--config", config, env=migrated)["delivered"] == 3
    assert len(consume_all(kafka_settings, topic)) == 3


def test_what_would_not_count_is_refused_before_anything_is_sent(
    migrated: dict[str, str], kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    topic = kafka_settings.topic_prefix + "usage.recorded"
    now = datetime.now(UTC)
    file = tmp_path / "usage.csv"
    times = [now, now, now, now - timedelta(days=75), now + timedelta(days=365)]
    lines = [f"{day},ada,{amount},{at.isoformat()}" for day, amount, at in zip("11134", "57911", times, strict=True)]
    file.write_text("\n".join(["no,user,amount,at", *lines]) + "\n", encoding="utf-8")
    done = inside("import", file, *MAPPED, env=migrated)
    assert done.returncode == 2
    assert "line 3: same id as line 2, but different contents" in done.stderr
    assert "line 5: column 'at': timestamp" in done.stderr
    assert "line 6: column 'at': timestamp" in done.stderr
    assert "nothing was sent. 3 rows share an id with a row that has different contents" in done.stderr
    assert "--id-from no does not identify a row" in done.stderr
    assert (
        "would reject 2 rows because of the timestamp (in_future 1, too_old 1): the horizon is 35 days" in done.stderr
    )
    assert inside("import", file, *MAPPED, "--dry-run", env=migrated).returncode == 1
    assert consume_all(kafka_settings, topic) == []
    partly = answer("import", file, *MAPPED, "--id-from", "no,amount", "--partial", "--no-wait", env=migrated, code=1)
    assert (partly["delivered"], partly["refused"], partly["counted"]) == (3, 2, None)
    assert len(consume_all(kafka_settings, topic)) == 3


def test_when_the_fold_does_not_catch_up_it_says_so_and_how_to_ask_again(
    migrated: dict[str, str], tmp_path: Path
) -> None:
    done = inside("import", write(tmp_path / "usage.csv", 7), *MAPPED, "--wait", "0.5", env=migrated)
    assert done.returncode == 3
    assert "7 delivered, 0 refused" in done.stdout
    assert "not folded within 0.5 s: 7 events of partition" in done.stderr
    assert "meterfold status --wait" in done.stderr
    with running("fold", env=migrated, folder=tmp_path, ready="fold: ready"):
        assert fate(answer("import", tmp_path / "usage.csv", *MAPPED, env=migrated)) == (0, 7, {}, 0, 0)


def test_standard_input_is_imported_like_a_file(migrated: dict[str, str], tmp_path: Path) -> None:
    content = write(tmp_path / "usage.csv", 20).read_bytes()
    done = subprocess.run(
        [*command("import"), "-", *MAPPED, "--no-wait", "--json"],
        input=content,
        env=migrated,
        cwd=tmp_path,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["delivered"] == 20


def test_what_became_of_delivered_events_is_looked_up_by_their_positions(
    migrated: dict[str, str], settings_file: Path, clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> None:
    """Between the events of another producer: of ours five are counted, two are duplicates, three are too old."""
    deliveries = Deliveries()
    now = datetime.now(UTC)
    with Meter(config=settings_file) as other, Meter(config=settings_file, on_delivery=deliveries.report) as ours:
        for number in range(5):
            other.record("m", ("user", f"u{number}"), id="theirs")
            other.record("m", ("user", f"u{number}"), id="old", timestamp=now - timedelta(days=36))
            other.flush(30)
            ours.record("m", ("user", f"u{number}"), id="ours")
            ours.flush(30)
        for number in range(2):
            ours.record("m", ("user", f"u{number}"), id="theirs")
        for number in range(3):
            ours.record("m", ("user", f"u{number}"), id="late", timestamp=now - timedelta(days=36))
    since = micros(now) - 86_400_000_000
    silent = lambda *_, **__: None  # noqa: E731
    with connect(clickhouse_settings) as client:
        before = wait_for_fold(client, deliveries, since, 0, silent)
        assert (before.counted, before.duplicates, before.rejected, before.pending) == (0, 0, {}, 10)
        with running("fold", env=migrated, folder=tmp_path, ready="fold: ready"):
            after = wait_for_fold(client, deliveries, since, 60, silent)
    assert (after.counted, after.duplicates, after.rejected, after.pending, after.unknown) == (
        *(5, 2, {"too_old": 3}),
        *(0, 0),
    )
    assert len(after.rejected_shown) == 3
    assert all("too_old: " in text for text in after.rejected_shown)


def test_ctrl_c_ends_it_with_an_account_of_what_was_delivered(
    migrated: dict[str, str], kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    file = write(tmp_path / "usage.csv", 250_000)
    with running("import", str(file), *MAPPED, "--json", env=migrated, folder=tmp_path) as process:
        topic = kafka_settings.topic_prefix + "usage.recorded"
        eventually(lambda: consume_all(kafka_settings, topic), 90, "the first delivered event")
        process.signal(signal.SIGINT)
        assert process.wait(60) == 130
        text = process.log_file.read_text(encoding="utf-8")
    assert '"interrupted":true' in text
    assert "Traceback" not in text
