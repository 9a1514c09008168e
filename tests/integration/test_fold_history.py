"""A small history through SDK, Kafka and fold: every row, every message and every offset that it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meterfold import Meter
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from support import eventually
from support.cli import running
from support.fold import Installation, check, fold_environment
from support.fold.verdict import PERIOD_NAMES, published_windows

PARTITIONS = 3


@pytest.fixture
def installation(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    made = Installation(kafka_settings, clickhouse_settings, PARTITIONS)
    yield made
    made.close()


def test_every_row_message_and_offset_of_a_small_history(
    installation: Installation, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    noon = (datetime.now(UTC) - timedelta(days=3)).replace(hour=12, minute=30, second=0, microsecond=0)
    with Meter(
        installation.kafka.bootstrap_servers,
        topic_prefix=installation.kafka.topic_prefix,
        librdkafka=installation.kafka.librdkafka,
        org_id="acme",
    ) as meter:

        def use(quantity: Any, at: datetime, event_id: str, subject_id: str = "ann", **more: Any) -> None:
            meter.record("api.calls", ("user", subject_id), quantity, timestamp=at, id=event_id, **more)

        use(5, noon, "a", source="gate", resource_type="route", resource_id="/v1", metadata={"ü": [1, {"x": None}]})
        use(Decimal("0.000000001"), noon + timedelta(minutes=1), "b")
        use(-2, noon + timedelta(minutes=1), "c")  # a credit, at the same time as b: the later offset is the last
        use(9, noon - timedelta(hours=1), "d")  # late, of the hour before
        use(5, noon, "a")  # sent again
        use("99999999999999999999.999999999", noon + timedelta(days=1), "e")
        use(7, noon, "a", subject_id="bob")  # another subject's id is another identity
        use(3, noon, 'quo"te\\', subject_id='"\\ üñï ', org_id="")
        use(1, noon - timedelta(days=36), "old")
        use(1, datetime.now(UTC) + timedelta(minutes=30), "ahead")
    environment = fold_environment(installation, tmp_path, stack_environment)
    with running("fold", env=environment, folder=tmp_path, ready="fold: ready", deadline=120) as worker:
        installation.wait_folded()
        truth = check(installation)
        assert worker.terminate(20) == 0

    ann, bob = (partition_of(subject_key("acme", "api.calls", "user", name), PARTITIONS) for name in ("ann", "bob"))
    strange = partition_of(subject_key("", "api.calls", "user", '"\\ üñï '), PARTITIONS)
    records = [row for row in installation.rows("usage_records") if row["partition"] == ann]
    assert [row["id"] for row in records if row["subject_id"] == "ann"] == ["a", "b", "c", "d", "e"]
    first = records[0]
    assert (first["source"], first["resource_type"], first["resource_id"]) == ("gate", "route", "/v1")
    assert first["metadata"] == '{"ü":[1,{"x":null}]}'
    assert [(row["id"], row["counted_offset"]) for row in installation.rows("usage_duplicates")] == [
        ("a", first["offset"])
    ]
    assert sorted(row["reason"] for row in installation.rejects()) == ["in_future", "too_old"]

    windows = {
        (row["subject_id"], PERIOD_NAMES[row["period_type"]], row["period_start"]): row
        for row in installation.rows("usage_windows", "partition")
    }
    hour = windows["ann", "hourly", noon.replace(minute=0)]
    assert (hour["record_count"], hour["sum"]) == (3, Decimal("3.000000001"))
    assert (hour["min"], hour["max"], hour["last"]) == (-2, 5, -2)
    assert hour["last_timestamp"] == noon + timedelta(minutes=1)
    lifetime = windows["ann", "lifetime", datetime(1970, 1, 1, tzinfo=UTC)]
    assert (lifetime["record_count"], lifetime["sum"]) == (5, Decimal("100000000000000000012"))
    assert windows["bob", "daily", noon.replace(hour=0, minute=0)]["sum"] == 7
    assert windows['"\\ üñï ', "lifetime", datetime(1970, 1, 1, tzinfo=UTC)]["partition"] == strange
    assert {row["partition"] for row in published_windows(installation)} == {ann, bob, strange}

    hashes = installation.client.rows(
        "SELECT countIf(identity_hash != xxHash64(concat({key:String}, id))) AS wrong, count() AS all "
        "FROM usage_records FINAL WHERE subject_id = {subject:String}",
        {"key": subject_key("", "api.calls", "user", '"\\ üñï ').decode(), "subject": '"\\ üñï '},
    )
    assert hashes == [{"wrong": 0, "all": 1}]

    ends = {partition: offset + 1 for partition, offset in truth.messages}
    eventually(lambda: installation.committed() == ends, 30, "the group's offsets are committed")
    assert {p: row.log_start for p, row in installation.progress().items()} == dict.fromkeys(range(PARTITIONS), 0)
