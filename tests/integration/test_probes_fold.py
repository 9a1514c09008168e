"""A fold worker's probes and metrics over HTTP, on real servers: what was folded, and each condition come and gone."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from meterfold_local.process import ManagedProcess
from meterfold_local.stack import LocalStack
from meterfold_processor.kafka import clients
from meterfold_processor.kafka.offsets import at
from meterfold_processor.probes.fold import FoldSubject
from meterfold_processor.probes.server import serving
from meterfold_processor.probes.settings import HealthSettings
from meterfold_schemas.periods import MICROS_PER_SECOND
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service import schema_decisions
from support import eventually
from support.fold import Installation, Running, event, fold_environment, raw_event, running, started
from support.probes import Probes

pytestmark = pytest.mark.stack

DEADLINE = 90.0


@pytest.fixture
def installation(tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings) -> Any:
    made = Installation(kafka_settings, clickhouse_settings)
    yield made
    made.close()


def test_metrics_equal_what_was_folded(installation: Installation, stack: LocalStack, tmp_path: Path) -> None:
    whole = [event(f"u{number % 7}", number) for number in range(60)]
    bad = raw_event(subject_id="")
    installation.send(*whole, *whole[:5], bad, bad)
    with started("fold", fold_environment(installation, tmp_path, stack.environment()), tmp_path) as worker:
        probes = Probes.of(worker)
        installation.wait_folded()
        assert probes.wait_ready() == []  # what the group says of its members comes every two seconds
        found = eventually(
            lambda: (m := probes.metrics()) and m.total("fold_lag_messages") == 0 and m, DEADLINE, "no lag"
        )
        assert found.labels("fold_lag_messages") == {"0", "1"}
        rows = installation.progress()
        assert found["fold_counted_events_total"] == sum(row.counted for row in rows.values()) == 60
        assert found["fold_duplicate_events_total"] == sum(row.duplicates for row in rows.values()) == 5
        reason = installation.rejects()[0]["reason"]
        assert found["fold_rejected_messages_total", reason] == sum(row.rejected for row in rows.values()) == 2
        assert found["fold_consumed_messages_total"] >= 67
        for partition, row in rows.items():
            assert found["fold_next_offset", str(partition)] == row.next_offset
            age = time.time() - row.last_stamp / MICROS_PER_SECOND
            assert found["fold_freshness_seconds", str(partition)] == pytest.approx(age, abs=DEADLINE)
            assert found["fold_freshness_seconds", str(partition)] <= age
        steps = {
            "records",
            "duplicates",
            "rejected",
            "windows",
            "publish_windows",
            "publish_rejected",
            "progress",
            "commit",
        }
        assert found.labels("fold_flush_step_seconds_count") == steps
        assert all(found["fold_flush_step_seconds_count", step] >= 1 for step in steps)
        assert found["fold_arrival_to_readable_seconds_count"] >= 2
        assert found["fold_arrival_to_readable_seconds_sum"] > 0
        assert 1 <= found["fold_recorded_to_readable_seconds_count"] <= found["fold_arrival_to_readable_seconds_count"]
        assert found["fold_flush_step_seconds_count", "progress"] == found["fold_flushes_total"]
        windows = {
            tuple(row[name] for name in ("partition", "subject_id", "period_type"))
            for row in installation.rows("usage_windows", "partition")
        }
        assert found["fold_open_windows"] == len(windows)
        assert found["fold_remembered_identities"] == 60
        assert found["fold_remembered_identities_bytes"] == 480
        assert 0 <= found["fold_last_flush_age_seconds"] < DEADLINE
        assert (found["fold_alive"], found["fold_ready"], found["fold_group_member"]) == (1, 1, 1)
        assert probes.ask("/healthz")[1]["partitions"][0]["lag"] == 0
        assert worker.terminate(20) == 0


def test_clickhouse_is_killed_and_comes_back(own_stack: LocalStack, tmp_path: Path) -> None:
    installation = Installation(own_stack.kafka_settings("probes."), own_stack.clickhouse_settings("probes"))
    environment = {
        **fold_environment(installation, tmp_path, own_stack.environment()),
        "METERFOLD_HEALTH_STALL_SECONDS": "3",
    }
    installation.send(*(event(f"u{number}") for number in range(20)))
    with started("fold", environment, tmp_path) as worker:
        probes = Probes.of(worker)
        installation.wait_folded()
        assert probes.wait_ready() == []
        own_stack.clickhouse.kill()
        probes.wait_unready("store is failing and being retried: ")
        assert probes.ask("/healthz")[0] == 200, "nothing waits"
        installation.send(*(event(f"u{number}") for number in range(20)))
        assert any("ClickHouse" in problem for problem in probes.wait_unready("flush is failing and being retried: "))
        stuck = probes.wait_dead("has made no progress for")
        assert any("next offset" in problem and "log end" in problem for problem in stuck)
        found = probes.metrics()
        assert found.total("fold_lag_messages") == 20
        assert found.total("fold_errors") >= 1
        assert (found["fold_alive"], found["fold_ready"]) == (0, 0)
        assert max(found["fold_standstill_seconds", label] for label in ("0", "1")) >= 3
        own_stack.clickhouse.restart()
        assert probes.wait_ready() == []
        installation.wait_folded()
        eventually(lambda: probes.metrics().total("fold_lag_messages") == 0, DEADLINE)

        own_stack.kafka.broker(1).kill()
        probes.wait_unready("no Kafka broker can be reached")
        own_stack.kafka.restart(1)
        assert probes.wait_ready() == []
    installation.close()


def test_a_worker_that_was_away_is_ready_again_once_it_is_back_in_its_group(
    installation: Installation, stack: LocalStack, tmp_path: Path
) -> None:
    environment = {
        **fold_environment(installation, tmp_path, stack.environment()),
        "METERFOLD_HEALTH_STALL_SECONDS": "5",
    }
    with started("fold", environment, tmp_path) as worker:
        probes = Probes.of(worker)
        assert probes.wait_ready() == []
        worker.signal(signal.SIGSTOP)
        try:
            with running(installation) as other:
                other.wait_for_partitions(2)
                installation.send(*(event(f"u{number}") for number in range(10)))
                installation.wait_folded(other)
        finally:
            worker.signal(signal.SIGCONT)
        installation.send(*(event(f"u{number}") for number in range(10)))
        installation.wait_folded()
        eventually(lambda: probes.metrics().total("fold_counted_events_total") == 10, DEADLINE, "it has them again")
        assert probes.wait_ready() == []


def test_a_held_partition_is_named_and_released(installation: Installation, stack: LocalStack, tmp_path: Path) -> None:
    strange = event("u1")
    assert strange.value is not None
    foreign = type(strange)(strange.value[:2] + bytes(range(8)) + strange.value[10:], strange.key, 1)
    installation.send(*(event(f"u{number}") for number in range(20)))
    (at,) = installation.send(foreign)
    environment = {
        **fold_environment(installation, tmp_path, stack.environment()),
        "METERFOLD_HEALTH_STALL_SECONDS": "3",
    }
    with started("fold", environment, tmp_path) as worker:
        probes = Probes.of(worker)
        where = f"partition 1 is held, unknown schema 0001020304050607: next offset {at[1]}, log end {at[1] + 1}"
        assert probes.wait_unready(where) == [where]
        found = eventually(lambda: (m := probes.metrics()) and m["fold_lag_messages", "1"] == 1 and m, DEADLINE)
        assert found["fold_held_partitions"] == 1
        eventually(lambda: probes.metrics()["fold_standstill_seconds", "1"] > 4, DEADLINE)
        assert probes.ask("/healthz")[0] == 200
        schema_decisions.poison(installation.client, "0001020304050607", "of this test")
        assert probes.wait_ready() == []
        (rejection,) = probes.ask("/readyz")[1]["rejections"]
        assert (rejection["reason"], rejection["org_id"], rejection["count"]) == ("undecodable", "acme", 1)
        assert (rejection["partition"], rejection["offset"]) == at
        assert "0001020304050607 is poison" in rejection["detail"]
        found = eventually(lambda: (m := probes.metrics()) and m["fold_lag_messages", "1"] == 0 and m, DEADLINE)
        assert found["fold_held_partitions"] == 0


def test_transaction_markers_behind_the_last_event_are_no_lag(installation: Installation) -> None:
    producer = clients.producer(installation.kafka, **{"transactional.id": f"{installation.kafka.topic_prefix}probes"})
    producer.init_transactions(30)
    with _served(installation) as (worker, probes):
        producer.begin_transaction()
        for number in range(10):
            one = event(f"u{number}")
            producer.produce(installation.topics.usage_recorded, one.value, one.key)
        producer.commit_transaction(30)
        installation.wait_folded(worker)
        found = eventually(lambda: (m := probes.metrics()) and m.total("fold_lag_messages") == 0 and m, DEADLINE)
        assert found["fold_counted_events_total"] == 10
        ends = _log_ends(installation)
        assert {p: int(found["fold_next_offset", str(p)]) for p in ends} == ends, "the markers included"
        assert sum(ends.values()) > 10


def test_more_workers_than_partitions_are_ready(installation: Installation) -> None:
    with running(installation) as one, running(installation) as two:
        one.wait_for_partitions(1)
        two.wait_for_partitions(1)
        with _served(installation) as (third, probes):
            assert probes.wait_ready() == []
            assert third.status.partitions == []
            assert probes.metrics()["fold_assigned_partitions"] == 0
            one.end()
            third.wait_for_partitions(1)
            assert probes.wait_ready() == []


def test_a_taken_port_stops_a_worker_before_it_does_anything(
    installation: Installation, stack: LocalStack, tmp_path: Path
) -> None:
    environment = fold_environment(installation, tmp_path, stack.environment())
    with started("fold", environment, tmp_path) as worker:
        taken = Probes.of(worker).url.removeprefix("http://")
        refused = ManagedProcess(
            "refused",
            worker.command,
            tmp_path / "refused.log",
            env={**environment, "METERFOLD_HEALTH_ADDRESS": taken},
        )
        refused.start()
        assert refused.wait(60) == 2
        assert f"cannot listen on {taken.replace(':', ' port ')}: Address already in use" in refused.output()
        assert "Traceback" not in refused.output()


@contextmanager
def _served(installation: Installation) -> Iterator[tuple[Running, Probes]]:
    """A worker of this process, with its probes."""
    with running(installation) as worker, serving(HealthSettings(), FoldSubject(worker.status)) as url:
        assert url is not None
        yield worker, Probes(url)


def _log_ends(installation: Installation) -> dict[int, int]:
    """The offset behind the last one of each partition, be it an event or a marker."""
    reader = clients.consumer(installation.kafka, "nobody", "consumer")
    try:
        topic = installation.topics.usage_recorded
        return {p: reader.get_watermark_offsets(at(topic, p), 30)[1] for p in range(installation.partitions)}
    finally:
        reader.close()
