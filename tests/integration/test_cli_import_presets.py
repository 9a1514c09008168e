"""Files of other systems through `meterfold import` into the real stack, and an import that continues."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meterfold import Meter
from meterfold_cli.importing import resume
from meterfold_cli.importing.options import Options
from meterfold_cli.importing.preflight import require_kafka
from meterfold_cli.importing.run import Import
from meterfold_cli.importing.session import topic_name
from meterfold_cli.importing.source import Form, Source
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.usage import UsageRecorded
from support import consume_all, import_files
from support.cli import answer, inside, running
from support.clickhouse import http_query


@pytest.fixture
def migrated(tables: None, stack_environment: dict[str, str]) -> dict[str, str]:
    answer("migrate", "--partitions", "2", env=stack_environment)
    return stack_environment


def test_presets_count_once_with_exact_sums(
    migrated: dict[str, str], kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    focus = tmp_path / "focus.csv.gz"
    focus.write_bytes(
        gzip.compress(import_files.csv_text(import_files.FOCUS_COLUMNS, import_files.focus_rows(now)).encode())
    )
    spend = tmp_path / "spend.jsonl"
    spend.write_text(import_files.json_lines(import_files.spend_rows(now)), encoding="utf-8")
    topic = kafka_settings.topic_prefix + "usage.recorded"

    preview = answer("import", focus, "--preset", "focus-1.3", "--dry-run", env=migrated)
    assert {key: count["events"] for key, count in preview["metrics"].items()} == {
        "amazon_elastic_compute_cloud.compute_hours": 2,
        "amazon_s3": 1,
    }
    assert consume_all(kafka_settings, topic) == []

    with running("fold", env=migrated, folder=tmp_path, ready="fold: ready"):
        first = answer("import", focus, "--preset", "focus-1.3", "--set", "org_id=acme", env=migrated)
        assert (first["read"], first["left_out"], first["delivered"], first["counted"]) == (5, 2, 3, 3)
        # Saved as a file of its own, the preset makes the same ids.
        mapping = tmp_path / "own.toml"
        saved = inside("import", focus, "--preset", "focus-1.3", "--write-mapping", mapping, env=migrated)
        assert saved.returncode == 0, saved.stderr
        again = answer("import", focus, "--mapping", mapping, "--set", "org_id=acme", env=migrated)
        assert (again["counted"], again["duplicates"]) == (0, 3)
        logged = answer("import", spend, "--preset", "litellm", env=migrated)
        assert (logged["read"], logged["left_out"], logged["counted"]) == (3, 1, 6)

    totals = f"SELECT org_id, metric_key, subject_id, sum FROM {clickhouse_settings.database}.usage_windows FINAL"
    found = http_query(clickhouse_settings, f"{totals} WHERE period_type = 'lifetime' ORDER BY metric_key, subject_id")
    assert [tuple(line.split("\t")) for line in found.splitlines()] == [
        ("acme", "amazon_elastic_compute_cloud.compute_hours", "210987654321", "24.000277778"),
        ("acme", "amazon_s3", "123456789012", "7"),
        ("", "litellm.completion_tokens", "ada", "20"),
        ("", "litellm.completion_tokens", "customer-7", "20"),
        ("", "litellm.prompt_tokens", "ada", "10"),
        ("", "litellm.prompt_tokens", "customer-7", "10"),
        ("", "litellm.spend", "ada", "0.0000138"),
        ("", "litellm.spend", "customer-7", "0.5"),
    ]


def test_rows_older_than_the_horizon_are_named_with_their_column(migrated: dict[str, str], tmp_path: Path) -> None:
    old = import_files.write_focus(tmp_path / "focus.csv", datetime.now(UTC) - timedelta(days=60))
    done = inside("import", old, "--preset", "focus-1.3", env=migrated)
    assert done.returncode == 2
    assert "line 2: column 'ChargePeriodStart': timestamp" in done.stderr
    assert "nothing was sent. The fold would reject 3 rows because of the timestamp (too_old 3)" in done.stderr
    assert "Remove old rows, or raise the horizon first" in done.stderr
    shown = inside("import", old, "--preset", "focus-1.3", "--dry-run", env=migrated)
    assert shown.returncode == 1
    assert "3 with a timestamp that would be rejected, 2 left out by the mapping" in shown.stdout


def test_an_import_that_broke_off_continues_behind_what_was_delivered(
    migrated: dict[str, str], settings_file: Path, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    at = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    path = tmp_path / "usage.csv"
    lines = [f"e{number},m,user,u{number % 5},1,{at}\n" for number in range(2500)]
    path.write_text("id,metric_key,subject_type,subject_id,quantity,timestamp\n" + "".join(lines), encoding="utf-8")

    calls = iter(range(100))

    def interrupted(*_: Any, **__: Any) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt

    with Source(path, Options({}, {}, (), ignore_others=False), Form()) as source:
        rows, plan = source.open()
        assert source.mapping is not None
        topic = topic_name(kafka_settings, require_kafka(kafka_settings))
        begin = resume.fingerprint(path, source.mapping, "", topic)
        summary = Import(
            rows,
            plan,
            Meter(config=settings_file),
            source.rejects(rows, None),
            interrupted,
            checkpoint=lambda line: resume.save(path, begin.at(line)),
        ).run()
    assert summary.interrupted
    assert 1000 <= summary.delivered < 2500
    assert summary.delivered_through == summary.delivered + 1

    # Of another topic with the same name, nothing is known to be delivered.
    resume.save(path, replace(begin, topic=topic_name(kafka_settings, "another")).at(summary.delivered_through))
    other = inside("import", path, "--resume", env=migrated)
    assert other.returncode == 2
    assert "--resume: it was sent to" in other.stderr
    resume.save(path, begin.at(summary.delivered_through))

    done = answer("import", path, "--resume", "--no-wait", env=migrated)
    assert (done["skipped"], done["delivered"]) == (summary.delivered, 2500 - summary.delivered)
    ids = Counter(
        UsageRecorded.from_bytes(message.value() or b"").id
        for message in consume_all(kafka_settings, kafka_settings.topic_prefix + "usage.recorded")
    )
    assert ids == Counter(f"e{number}" for number in range(2500))
    assert not resume.path_of(path).exists()
    nothing = inside("import", path, "--resume", env=migrated)
    assert nothing.returncode == 2
    assert "so no import of" in nothing.stderr


def test_the_sum_of_a_scaled_column_is_exact(
    migrated: dict[str, str], clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> None:
    """Two measures of a row, megabytes as gigabytes, days in a zone, and rows that are chosen."""
    now = datetime.now(UTC)
    path = tmp_path / "traffic.csv"
    day = (now - timedelta(days=2)).strftime("%Y-%m-%d")
    rows = [f"{n},{day},ada,{n},{n * 2},{'Usage' if n % 2 else 'Tax'}" for n in range(100)]
    path.write_text("\n".join(["no,day,who,in,out,kind", *rows]) + "\n", encoding="utf-8")
    options = (
        *("--measure", "traffic.in=in", "--measure", "traffic.out=out", "--scale", "0.001", "--id-from", "no"),
        *("--subject", "user=who", "--map", "day=timestamp", "--time-format", "date", "--timezone", "Europe/Berlin"),
        *("--where", "kind=Usage"),
    )
    with running("fold", env=migrated, folder=tmp_path, ready="fold: ready"):
        done = answer("import", path, *options, env=migrated)
    assert (done["read"], done["left_out"], done["counted"]) == (100, 50, 100)
    totals = f"SELECT metric_key, sum, record_count FROM {clickhouse_settings.database}.usage_windows FINAL"
    found = http_query(clickhouse_settings, f"{totals} WHERE period_type = 'lifetime' ORDER BY metric_key")
    assert [tuple(line.split("\t")) for line in found.splitlines()] == [
        ("traffic.in", f"{Decimal(2500) / 1000:f}", "50"),
        ("traffic.out", "5", "50"),
    ]
