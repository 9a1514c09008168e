"""`meterfold migrate` and `meterfold fold` as real processes: ready, folding, stopped, refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from meterfold import Meter
from meterfold_local.stack_settings import write_settings
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import NAMES
from support import eventually
from support.cli import answer, inside, meterfold, running


@pytest.fixture
def migrated(tables: None, stack_environment: dict[str, str]) -> dict[str, str]:
    """The environment of an installation with two partitions."""
    answer("migrate", "--partitions", "2", env=stack_environment)
    return stack_environment


def test_migrate_says_what_it_did_and_does_nothing_the_second_time(stack_environment: dict[str, str]) -> None:
    first = answer("migrate", "--partitions", "2", env=stack_environment)
    assert len(first["topics"]) == len(NAMES)
    assert first["migrations"]
    assert (first["rules"]["partition_count"], first["rules"]["horizon_seconds"]) == (2, 35 * 86_400)
    second = answer("migrate", env=stack_environment)
    assert (second["topics"], second["migrations"], second["rules"]) == ([], [], first["rules"])
    spoken = inside("migrate", env=stack_environment)
    assert spoken.stdout.splitlines()[:2] == ["tables    up to date", "topics    up to date"]


def test_migrate_refuses_other_settings_than_the_stored_ones(migrated: dict[str, str]) -> None:
    done = inside("migrate", "--horizon-days", "40", "--record-retention-days", "200", env=migrated)
    assert done.returncode == 1
    assert "the stored settings differ" in done.stderr
    assert "Traceback" not in done.stderr
    short = inside("migrate", "--record-retention-days", "3", env=migrated)
    assert short.returncode == 2
    assert "record_retention_seconds 259200 is too short" in short.stderr


def test_a_fold_worker_folds_until_sigterm_and_stops_cleanly(
    migrated: dict[str, str], settings_file: Path, tmp_path: Path
) -> None:
    with running("fold", "--json", env=migrated, folder=tmp_path, ready='"event":"ready"') as worker:
        with Meter(config=settings_file) as meter:
            for number in range(100):
                meter.record("api.calls", ("user", f"u{number % 7}"), id=f"e{number}")
        eventually(lambda: answer("status", env=migrated)["counted"] == 100, 30)
        assert worker.terminate(60) == 0  # a worker that takes more than 9.5 s ends itself with 1
        lines = [json.loads(line) for line in worker.output().splitlines() if '"event"' in line]
        assert [line["event"] for line in lines if line["event"] != "progress"] == ["ready", "stopping", "stopped"]
        assert lines[0]["partitions"] == [0, 1]
        assert (lines[-1]["counted"], lines[-1]["troubles"]) == (100, [])


def test_a_second_fold_worker_says_that_it_is_not_the_only_one(migrated: dict[str, str], tmp_path: Path) -> None:
    with running("fold", env=migrated, folder=tmp_path, ready="fold: ready, partitions 0, 1") as first:
        assert "more worker" not in first.output()
        (tmp_path / "second").mkdir()
        with running("fold", env=migrated, folder=tmp_path / "second", ready="1 more worker in group") as second:
            assert second.terminate(60) == 0
        assert first.running


def test_ctrl_c_stops_a_fold_worker_as_cleanly(migrated: dict[str, str], tmp_path: Path) -> None:
    with running("fold", env=migrated, folder=tmp_path, ready="fold: ready, partitions 0, 1") as worker:
        worker.signal(signal.SIGINT)
        assert worker.wait(60) == 0
        assert "fold: stopped" in worker.output()
        assert "Traceback" not in worker.output()


def test_a_fold_worker_without_tables_says_which_command_makes_them(stack_environment: dict[str, str]) -> None:
    done = meterfold("fold", env=stack_environment)
    assert done.returncode == 1
    assert "run `meterfold migrate`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_fold_worker_waits_for_servers_and_still_stops_at_once(
    tmp_path: Path, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, migrated: dict[str, str]
) -> None:
    nowhere = tmp_path / "nowhere.toml"
    write_settings(nowhere, kafka_settings, clickhouse_settings.model_copy(update={"url": "http://127.0.0.1:1"}))
    environment = {**migrated, "METERFOLD_CONFIG": str(nowhere)}
    with running("fold", env=environment, folder=tmp_path, ready="ClickHouse could not be reached") as worker:
        assert worker.terminate(60) == 0  # a worker that takes more than 9.5 s ends itself with 1
