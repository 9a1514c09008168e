"""Where a worker starts, and when it refuses to: progress rows, logs, topics, settings and tables that do not fit."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewPartitions
from pydantic import SecretStr

from meterfold_processor.fold import opening
from meterfold_processor.fold.opening import Opening
from meterfold_processor.fold.partition import PartitionFold
from meterfold_processor.kafka.topics import ensure_topics
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.errors import Fatal, InvalidSettings
from meterfold_schemas.keys import partition_of
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import topic_specs
from meterfold_sink.writers import Writer
from support import eventually, producer
from support.fold import Installation, Outgoing, Running, check, event, fold_environment, running, started
from support.fold.installation import DEADLINE
from support.kafka import admin

PARTITIONS = 2
GROUP = "meterfold-fold"


@pytest.fixture
def installation(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    made = Installation(kafka_settings, clickhouse_settings, PARTITIONS)
    yield made
    made.close()


class FromCommitted(Opening):
    """The broken variant: starts where the group's commit stands."""

    def open(self, partition: int, consumer: Consumer) -> PartitionFold:
        fold = super().open(partition, consumer)
        place = consumer.committed([TopicPartition(self._topic, partition)], timeout=30)[0]
        if place.offset >= 0:
            fold.progress = replace(fold.progress, next_offset=place.offset)
        return fold


def test_a_non_empty_topic_is_read_from_its_beginning_and_a_restart_goes_on(installation: Installation) -> None:
    installation.send(*_events(40))
    with running(installation) as worker:
        installation.wait_folded(worker)
    check(installation)
    before = {name: installation.rows(name) for name in ("usage_records", "usage_duplicates")}
    with running(installation) as worker:
        worker.wait_for_partitions(PARTITIONS)
        installation.send(*_events(5))
        installation.wait_folded(worker)
        assert worker.status.consumed == 5
    check(installation)
    for name, rows in before.items():
        assert [row for row in installation.rows(name) if row in rows] == rows


def test_a_log_that_lost_its_beginning_is_read_from_where_it_begins(installation: Installation) -> None:
    installation.send(*_events(40))
    ends = _ends(installation)
    _delete_records(installation, {0: ends[0] // 2, 1: ends[1]})
    with running(installation) as worker:
        worker.wait_for_partitions(PARTITIONS)
        installation.send(*_events(3))
        installation.wait_folded(worker)
    check(installation)
    rows = installation.progress()
    assert {partition: row.log_start for partition, row in rows.items()} == {0: ends[0] // 2, 1: ends[1]}


@pytest.mark.parametrize("moved", ["deleted", "back", "ahead"])
def test_history_11_the_progress_row_decides_where_a_worker_starts(installation: Installation, moved: str) -> None:
    installation.send(*_events(20))
    with running(installation) as worker:
        installation.wait_folded(worker)
    folded = _ends(installation)
    eventually(lambda: installation.committed() == folded, 30)
    installation.send(*_events(20))
    if moved == "deleted":
        _delete_group(installation)
    else:
        installation.move_committed(dict.fromkeys(folded, 0) if moved == "back" else _ends(installation))
    with running(installation) as worker:
        installation.wait_folded(worker)
        assert worker.status.consumed == 20
    check(installation)


def test_history_11_a_start_at_the_committed_offset_would_lose_events(installation: Installation) -> None:
    """ClickHouse was restored to an older state: the commit is ahead of what it holds."""
    installation.send(*_events(20))
    ends = _ends(installation)
    installation.move_committed(ends)
    more = {partition_of_event(e): e for e in _events(20)}.values()
    with running(installation, opening=FromCommitted) as worker:
        worker.wait_for_partitions(PARTITIONS)
        installation.send(*more)
        installation.wait_folded(worker)
    with pytest.raises(AssertionError, match=r"usage_records: 20 missing"):
        check(installation)


def test_an_older_state_of_clickhouse_is_repaired_from_the_log(installation: Installation) -> None:
    """What was flushed after the backup is lost: records, windows and progress stand at different places."""
    installation.send(*_events(30))
    with running(installation) as worker:
        installation.wait_folded(worker)
    backup = installation.client.query("SELECT * FROM fold_progress FINAL")
    installation.send(*_events(30), *_events(5, first=3))
    with running(installation) as worker:
        installation.wait_folded(worker)
    client = installation.client
    client.command("TRUNCATE TABLE fold_progress")
    Writer(client).insert("fold_progress", backup)
    client.command(
        "DELETE FROM usage_records WHERE partition = 0 AND offset >= {end:Int64}", {"end": _backup(backup, 0)}
    )
    client.command("TRUNCATE TABLE usage_duplicates")
    with running(installation) as worker:
        installation.wait_folded(worker)
    check(installation)


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_history_18_a_topic_that_grows_stops_the_worker_before_it_rejects_anything(
    installation: Installation, protocol: str
) -> None:
    installation.send(*_events(20))
    worker = Running(installation, group_protocol=protocol)
    installation.wait_folded(worker)
    _grow(installation)
    said = worker.wait_for_failure(Fatal)
    assert "has 3 partitions, the stored settings say 2" in said
    assert "Changing the partition count" in said
    assert installation.rejects() == []
    assert "has 3 partitions" in _refused(installation)


def test_history_18_without_reading_the_count_again_well_keyed_events_are_rejected(installation: Installation) -> None:
    class Trusting(Opening):
        def check_partition_count(self, consumer: Consumer) -> None:
            pass

        def check_source(self) -> None:
            pass

    installation.send(*_events(20))
    with running(installation, opening=Trusting, group_protocol="classic") as worker:
        installation.wait_folded(worker)
        _grow(installation)
        eventually(lambda: {row["reason"] for row in installation.rejects()} == {"misrouted"}, DEADLINE)


def test_history_12_a_topic_that_was_created_again_is_refused(installation: Installation) -> None:
    installation.send(*_events(10))
    with running(installation) as worker:
        installation.wait_folded(worker)
    before = installation.rows("usage_records")
    _create_again(installation)
    installation.send(*_events(30))
    assert "deleted and created again" in _refused(installation)
    assert installation.rows("usage_records") == before


def test_history_12_a_topic_that_is_created_again_while_a_worker_runs_stops_it(
    installation: Installation, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    """The new log is already longer than what was folded of the old one, so no offset is out of range; but the group
    hands out the partitions of a new topic anew, and the worker looks whose they are."""
    environment = fold_environment(installation, tmp_path, stack_environment)
    installation.send(*_events(10))
    with started("fold", environment, tmp_path) as worker:
        installation.wait_folded()
        before = installation.rows("usage_records")
        worker.signal(signal.SIGSTOP)
        _create_again(installation)
        installation.send(*_events(60))
        worker.signal(signal.SIGCONT)
        assert worker.wait(DEADLINE) == 1
        assert "created again" in worker.output()
        assert "Traceback" not in worker.output()
    assert installation.rows("usage_records") == before


def test_history_12_messages_of_a_topic_that_was_created_again_are_not_folded(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, but messages arrive before the group has noticed: the checks at the start are switched off."""
    installation.send(*_events(10))
    with running(installation) as worker:
        installation.wait_folded(worker)
    before = installation.rows("usage_records"), installation.progress()
    _create_again(installation)
    installation.send(*_events(60))
    monkeypatch.setattr(opening, "check_source", lambda *_: None)
    assert "deleted and created again" in _refused(installation)
    assert (installation.rows("usage_records"), installation.progress()) == before


def test_progress_outside_of_the_log_is_refused(installation: Installation) -> None:
    installation.send(*_events(30))
    with running(installation) as worker:
        installation.wait_folded(worker)
    ends = _ends(installation)
    installation.send(*_events(30))
    _delete_records(installation, {0: ends[0] + 3})
    said = _refused(installation)
    assert f"partition 0: folded up to offset {ends[0]}, but the log begins at {ends[0] + 3}" in said
    assert "3 offsets of it were deleted before they were folded" in said
    beyond = _ends(installation)[1] + 7
    _write_progress(installation, 1, beyond)
    _write_progress(installation, 0, ends[0] + 3)
    assert "7 folded offsets are missing" in _refused(installation)


def test_a_lost_progress_row_is_repaired_from_a_whole_log_and_refused_on_one_that_was_cut(
    installation: Installation,
) -> None:
    installation.send(*_events(40), *_events(6))
    with running(installation) as worker:
        installation.wait_folded(worker)
    installation.client.command("TRUNCATE TABLE fold_progress")
    with running(installation) as worker:
        installation.wait_folded(worker)
    check(installation)
    installation.client.command("TRUNCATE TABLE fold_progress")
    before = installation.rows("usage_windows", "partition")
    _delete_records(installation, dict.fromkeys(range(PARTITIONS), 5))
    said = _refused(installation)
    assert "has windows but no progress row" in said
    assert "begins at offset 5" in said
    assert installation.rows("usage_windows", "partition") == before


def test_a_log_cut_off_while_a_partition_waits_is_refused(installation: Installation) -> None:
    """The offset is out of the log in the middle of a run: no jump to another one."""
    key = event().key
    held = installation.send(Outgoing(b"\xc3\x01" + b"12345678", key), event())[0]
    worker = Running(installation)
    eventually(lambda: worker.status.holds, 60)
    installation.send(event(), event())
    _delete_records(installation, {held[0]: held[1] + 2})
    installation.store_setting(f"poison_fingerprint:{b'12345678'.hex()}", "")
    assert "not in the log any more" in worker.wait_for_failure(Fatal)
    assert installation.rows("usage_records") == []


def test_settings_of_another_version_are_refused(installation: Installation) -> None:
    installation.store_setting("decoder_version", "4")
    said = _refused(installation)
    assert "decoder_version 4, this worker has 1, 2, 3" in said
    assert "Changing stored settings" in said


def test_stored_times_that_could_count_twice_are_refused(installation: Installation) -> None:
    installation.store_setting("horizon_seconds", str(95 * 86_400))
    assert "record_retention_seconds 8640000 is too short" in _refused(installation, InvalidSettings)


def test_another_horizon_than_the_stored_one_is_refused_by_migrate(installation: Installation) -> None:
    with pytest.raises(Fatal, match="horizon_seconds is stored as '3024000', not '864000'"):
        migrate_all(installation.kafka, installation.clickhouse, MigrationOptions(horizon_seconds=864_000))


def test_a_poison_fingerprint_that_is_none_is_refused(installation: Installation) -> None:
    installation.store_setting("poison_fingerprint:xyz", "")
    assert "fold_settings: 'xyz' must be 16 hexadecimal digits" in _refused(installation)


def test_tables_of_a_newer_version_are_refused(installation: Installation) -> None:
    installation.client.command("INSERT INTO schema_migrations (version, name, checksum) VALUES (999, 'later', 'x')")
    installation.store_setting("schema_compatible_with", "999", earlier=2**62)
    assert "use the newer version that migrated it" in _refused(installation)


def test_another_cluster_is_refused(installation: Installation) -> None:
    installation.store_setting("cluster_id", "somewhere-else")
    assert "the stored settings name somewhere-else" in _refused(installation)


def test_a_wrong_password_is_refused_and_not_told(installation: Installation) -> None:
    installation.clickhouse = installation.clickhouse.model_copy(update={"password": SecretStr("wrong-secret")})
    said = _refused(installation)
    assert "check the username and password" in said
    assert "wrong-secret" not in said


def test_a_wrong_kafka_password_is_refused_and_not_told(installation: Installation) -> None:
    login = {**installation.kafka.librdkafka, "sasl.password": "wrong-secret"}
    installation.kafka = installation.kafka.model_copy(update={"librdkafka": login})
    said = _refused(installation)
    assert "credentials" in said
    assert "wrong-secret" not in said


def _refused(installation: Installation, kind: type[Fatal] = Fatal) -> str:
    return Running(installation).wait_for_failure(kind)


def _events(count: int, first: int = 0) -> list[Outgoing]:
    return [event(f"u{number % 9}", number, id=f"id-{datetime.now(UTC)}-{number}") for number in range(first, count)]


def partition_of_event(message: Outgoing) -> int:
    assert message.key is not None
    return partition_of(message.key, PARTITIONS)


def _ends(installation: Installation) -> dict[int, int]:
    ends: dict[int, int] = {}
    for message in installation.log():
        ends[message.partition()] = message.offset() + 1
    return ends


def _delete_records(installation: Installation, before: dict[int, int]) -> None:
    client = admin(installation.kafka)
    places = [TopicPartition(installation.topics.usage_recorded, p, offset) for p, offset in before.items()]
    for future in client.delete_records(places).values():
        future.result(30)


def _delete_group(installation: Installation) -> None:
    client = admin(installation.kafka)
    name = installation.kafka.topic_prefix + GROUP

    def deleted() -> bool:
        try:
            client.delete_consumer_groups([name])[name].result(30)
        except Exception as error:
            raise AssertionError(str(error)) from error
        return True

    eventually(deleted, DEADLINE, "the group is deleted")


def _grow(installation: Installation) -> None:
    """One partition more (twice as many would move no key from one of the old ones to another), and events on all."""
    client = admin(installation.kafka)
    name, count = installation.topics.usage_recorded, PARTITIONS + 1
    client.create_partitions([NewPartitions(name, count)])[name].result(30)
    eventually(lambda: len(client.list_topics(name, timeout=10).topics[name].partitions) == count, 60)
    installation.producer = producer(installation.kafka)
    events = [event(f"many-{number}") for number in range(40)]

    def spread() -> bool:
        return {partition for partition, _ in installation.send(*events)} == set(range(count))

    eventually(spread, 60, "the producer knows all partitions")
    moves = [(partition_of_event(message), partition_of(message.key or b"", count)) for message in events]
    assert any(was != now < PARTITIONS for was, now in moves)


def _create_again(installation: Installation) -> None:
    client = admin(installation.kafka)
    name = installation.topics.usage_recorded
    client.delete_topics([name])[name].result(30)
    eventually(lambda: name not in client.list_topics(timeout=10).topics, 60, "the topic is gone")
    specs = [spec for spec in topic_specs(PARTITIONS, prefix=installation.kafka.topic_prefix) if spec.name == name]
    ensure_topics(installation.kafka, specs)
    installation.producer = producer(installation.kafka)


def _write_progress(installation: Installation, partition: int, next_offset: int) -> None:
    installation.client.command(
        "INSERT INTO fold_progress (partition, next_offset, log_start, counted, duplicates, rejected, last_stamp) "
        "VALUES ({partition:Int32}, {end:Int64}, 0, 0, 0, 0, now64(6))",
        {"partition": partition, "end": next_offset},
    )


def _backup(table: pa.Table, partition: int) -> Any:
    return next(row["next_offset"] for row in table.to_pylist() if row["partition"] == partition)
