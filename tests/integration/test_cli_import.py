"""`meterfold import` into the real stack: once, again, with bad rows, without a cluster, interrupted."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from meterfold_deploy.stack_settings import write_settings
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from stack_support import consume_all, eventually
from stack_support.cli import answer, meterfold, running
from stack_support.clickhouse import http_query

ROWS = 500


@pytest.fixture
def migrated(stack_environment: dict[str, str]) -> dict[str, str]:
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
        for again in (file, tmp_path / "usage.parquet"):
            assert answer("import", again, *MAPPED, env=migrated)["delivered"] == ROWS
        eventually(lambda: answer("status", env=migrated)["duplicates"] == 2 * ROWS, 40)
        report = answer("status", env=migrated)
    assert [report[name] for name in ("counted", "duplicates", "rejected")] == [ROWS, 2 * ROWS, 0]
    totals = f"SELECT subject_id, sum, record_count FROM {clickhouse_settings.database}.usage_windows FINAL"
    found = http_query(clickhouse_settings, f"{totals} WHERE period_type = 'lifetime' ORDER BY subject_id")
    # Fifty times 0.1, without the rest that floats would have.
    assert found.splitlines() == [f"u{number}\t5\t50" for number in range(10)]


def test_bad_rows_are_refused_and_the_exit_code_says_so(migrated: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path / "usage.csv", 3)
    with file.open("a", encoding="utf-8") as more:
        more.write("3,,0.1,2026-11-01T00:00:00Z\n4,u,0.1,2026-11-01\n")
    done = meterfold("import", file, *MAPPED, env=migrated)
    assert done.returncode == 1
    assert done.stdout.startswith("5 rows read")
    assert f"2 rows refused; correct them in {file}.rejects.csv" in done.stderr
    rejected = (tmp_path / "usage.csv.rejects.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in rejected] == ["rejected_line", "5", "6"]


def test_without_a_cluster_it_ends_with_what_to_do(
    migrated: dict[str, str], kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> None:
    config = tmp_path / "nowhere.toml"
    write_settings(config, kafka_settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"}), clickhouse_settings)
    env = {**migrated, "METERFOLD_CONFIG": str(config), "METERFOLD_SDK_DELIVERY_TIMEOUT": "2"}
    done = meterfold("import", write(tmp_path / "usage.csv"), *MAPPED, env=env)
    assert done.returncode == 3
    assert f"{ROWS} events were not delivered" in done.stderr
    assert "nothing counts twice" in done.stderr


def test_ctrl_c_ends_it_with_an_account_of_what_was_delivered(
    migrated: dict[str, str], kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    file = write(tmp_path / "usage.csv", 400_000)
    with running("import", str(file), *MAPPED, "--json", env=migrated, folder=tmp_path) as process:
        topic = kafka_settings.topic_prefix + "usage.recorded"
        eventually(lambda: consume_all(kafka_settings, topic), 30, "the first delivered event")
        process.signal(signal.SIGINT)
        assert process.wait(15) == 130
        text = process.log_file.read_text(encoding="utf-8")
    assert '"interrupted":true' in text
    assert "Traceback" not in text
