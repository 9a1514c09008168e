"""Backups on the real stack: written while everything works, restored, repaired by the log, and proven."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from meterfold_cli import exits
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_processor.fold.status import FoldStatus
from meterfold_processor.probes.backups import BackupWatch
from meterfold_processor.verify import VerifyReport
from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_service.backups.errors import BackupExists, BackupTooOld, DatabaseNotEmpty
from meterfold_service.errors import WorkersRunning
from meterfold_sink import backup_parts, fold_state
from meterfold_sink.backup_catalogue import BackupRow
from meterfold_sink.client import connect
from support import consume_all, eventually
from support.cli import answer, inside
from support.clickhouse import http_query
from support.kafka import admin
from support.verify.history import METRIC, History, folded, installed


@pytest.fixture
def history(stack: LocalStack) -> Iterator[History]:
    with installed(stack) as history:
        yield history
        for name in _databases(history):
            if name.startswith(history.there.clickhouse.database):
                http_query(history.there.clickhouse, f"DROP DATABASE {name}")


@pytest.fixture
def metering(history: History, tmp_path: Path) -> Iterator[Metering]:
    with _metering(history, tmp_path) as metering:
        yield metering


def _metering(history: History, tmp_path: Path) -> Metering:
    path = _settings_file(history, tmp_path)
    return Metering(sources=Sources.read(environ={}, config=path))


def _settings_file(history: History, tmp_path: Path) -> Path:
    path = tmp_path / "meterfold.toml"
    write_settings(path, history.kafka, history.there.clickhouse)
    with path.open("a", encoding="utf-8") as file:
        group = history.checker_group.removeprefix(history.kafka.topic_prefix)
        file.write(f'\n[checker]\ngroup_id = "{group}"\n\n[backup]\ndestination = "disk:backups/tests"\n')
    return path


def _databases(history: History) -> list[str]:
    settings = history.there.clickhouse
    return http_query(settings, "SELECT name FROM system.databases").split()


def _send(history: History, first: int, count: int) -> None:
    """Events of five subjects, up and down through the threshold, every fifth of them twice."""
    for number in range(first, first + count):
        event = history.event(f"e{number}", f"u{number % 5}", 45 if number % 20 < 12 else -45)
        history.send(*([event] * (1 + (number % 5 == 0))))


def _proven(history: History) -> VerifyReport:
    """Everything folded, mirrored and proven."""

    def proven() -> VerifyReport:
        report = history.verify(wait_seconds=10)
        assert report.proven, report
        return report

    return eventually(proven, 90, "everything is proven")


def test_an_older_backup_is_restored_and_the_log_repairs_it(
    history: History, metering: Metering, tmp_path: Path
) -> None:
    database = history.there.clickhouse.database
    with history.folding(), history.checking():
        _send(history, 0, 40)
        history.there.define_metric("deleted.later")
        folded(history)
        eventually(lambda: _metric_keys(history) == [METRIC, "deleted.later"], 60)
        full = metering.backups.create(tell=_folding_between(history, "full"))
        _send(history, 40, 20)
        folded(history)
        increment = metering.backups.create()
        _send(history, 60, 20)
        _delete_metric(history, "deleted.later")
        before = _proven(history)
        with pytest.raises(WorkersRunning, match="has 1 member"):
            metering.backups.restore(full.name, replace_database=True)
    assert (full.base, increment.base) == ("", full.name)
    assert 0 < increment.total_bytes < full.total_bytes
    assert [row.name for row in metering.backups.list().rows] == [increment.name, full.name]
    _shown_and_exported(history, increment, {"METERFOLD_CONFIG": str(_settings_file(history, tmp_path))})
    with pytest.raises(DatabaseNotEmpty, match="--replace"):
        metering.backups.restore(full.name)

    for backup in (increment, full):  # both by the same log, the second one from further back
        restored = metering.backups.restore(backup.name, replace_database=True)
        assert restored.replaced in _databases(history)
        offsets = {one.partition: one.next_offset for one in restored.partitions}
        with connect(history.there.clickhouse) as client:
            progress = fold_state.read_progress(client)
        assert {partition: row.next_offset for partition, row in progress.items()} == offsets
        # The row of the catalogue is from just before the first part.
        assert all(offsets[partition] >= known for partition, known in backup.next_offsets.items())
        assert sum(offsets.values()) < sum(one.log_end for one in restored.partitions)
        with history.folding(), history.checking():
            after = _proven(history)
        assert [(p.counted, p.duplicates, p.windows) for p in after.partitions] == [
            (p.counted, p.duplicates, p.windows) for p in before.partitions
        ]
        assert _metric_keys(history) == [METRIC]
        assert [row.name for row in metering.backups.list().rows] == [increment.name, full.name]

    # The database is lost altogether: the name of a backup is enough.
    http_query(history.there.clickhouse, f"DROP DATABASE {database}")
    env = {"METERFOLD_CONFIG": str(_settings_file(history, tmp_path))}
    lost = inside("backup", "list", env=env)
    assert (lost.returncode, "[CATALOGUE_LOST]" in lost.stderr) == (exits.FAILED, True), lost.stderr
    assert answer("backup", "check", full.name, env=env)["restorable"]
    assert answer("backup", "restore", increment.name, env=env)["replaced"] is None
    with history.folding(), history.checking():
        _proven(history)
    rows = {row["name"]: row["status"] for row in answer("backup", "list", env=env)["rows"]}
    assert rows == {full.name: "complete", increment.name: "complete"}


def test_the_order_of_the_parts_two_at_once_and_a_backup_that_is_too_old(
    history: History, metering: Metering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One installation for several questions, because making it takes longer than they do."""
    with history.folding():
        _send(history, 0, 10)
        folded(history)
        backups = {}
        for order, parts in (("right", backup_parts.PARTS), ("wrong", tuple(reversed(backup_parts.PARTS)))):
            with monkeypatch.context() as patch:
                patch.setattr(backup_parts, "PARTS", parts)
                backups[order] = metering.backups.create(full=True, tell=_folding_between(history, order))
        _send(history, 500, 10)
        folded(history)
        proofs = {order: metering.backups.check(made.name, restore=True).proof for order, made in backups.items()}
        assert proofs["right"] is not None
        assert proofs["wrong"] is not None
        assert (proofs["right"].records, proofs["right"].findings) == (20, ())
        # Progress stands for events that no table has; no worker would fold them again.
        assert {finding.check for finding in proofs["wrong"].findings} >= {"conservation"}

        with _metering(history, tmp_path) as other, ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(one.backups.create) for one in (metering, other)]
            made = [future.result(120) for future in futures]
            verified = [pool.submit(history.verify, wait_seconds=10) for _ in range(2)]
            assert not any(one.result(120).findings for one in verified)
        assert len({backup.name for backup in made}) == 2
        assert all(metering.backups.check(backup.name).restorable for backup in made)
        with pytest.raises(BackupExists, match="Choose another name"):
            metering.backups.create(full=True, name=made[0].name)

        newest = made[0]
        _send(history, 900, 20)
        folded(history)
    env = {"METERFOLD_CONFIG": str(_settings_file(history, tmp_path))}
    assert timedelta(days=13) < newest.replayable_until - datetime.now(UTC) <= timedelta(days=14)
    done = inside("backup", "check", newest.name, env=env)
    assert (done.returncode, "it can be restored until" in done.stdout) == (exits.OK, True), done.stderr
    starts = _cut_log(history, {partition: offset + 3 for partition, offset in newest.next_offsets.items()})
    checked = answer("backup", "check", newest.name, env=env, code=exits.FAILED)
    assert [(one["log_start"], one["next_offset"]) for one in checked["partitions"]] == [
        (starts[partition], offset) for partition, offset in sorted(newest.next_offsets.items())
    ]
    assert not checked["restorable"]
    before = _databases(history)
    with pytest.raises(BackupTooOld, match=r"3 offsets with their events are deleted") as refused:
        metering.backups.restore(newest.name, replace_database=True)
    assert [one.partition for one in refused.value.partitions] == sorted(starts)
    assert _databases(history) == before, "nothing was renamed, and nothing is left"


def _folding_between(history: History, prefix: str) -> Callable[[int, int, str], None]:
    """Before each part of a backup, some events are recorded and folded, so that each part is of another moment."""

    def between(done: int, total: int, _text: str) -> None:
        if done < total:
            for number in range(10):
                history.send(history.event(f"{prefix}-{done}-{number}", f"u{number % 5}", 1))
            folded(history)

    return between


def _cut_log(history: History, offsets: dict[int, int]) -> dict[int, int]:
    """What retention does: the log begins at these offsets."""
    topic = history.there.topics.usage_recorded
    client = admin(history.kafka)
    places = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    for future in client.delete_records(places).values():
        future.result(30)
    return offsets


def _delete_metric(history: History, key: str) -> None:
    topic = history.there.topics.metric_defined
    keys = {message.key() or b"" for message in consume_all(history.kafka, topic)}
    (found,) = [known for known in keys if key.encode() in known]
    history.there.send(topic, found, None)


def _shown_and_exported(history: History, newest: BackupRow, env: dict[str, str]) -> None:
    """The newest backup in `status`, and in the status of a fold worker, from which the metrics are made."""
    assert answer("status", env=env, code=None)["clickhouse"]["backup"]["name"] == newest.name
    assert f"backup      {newest.name}, " in inside("status", env=env).stdout
    status = FoldStatus()
    with connect(history.there.clickhouse) as client:
        BackupWatch(status).look(client)
    assert status.backup == (newest.started_at.timestamp(), newest.replayable_until.timestamp())


def _metric_keys(history: History) -> list[Any]:
    with connect(history.there.clickhouse) as client:
        rows = client.rows("SELECT key FROM metric_definitions FINAL WHERE NOT deleted ORDER BY key")
    return [row["key"] for row in rows]
