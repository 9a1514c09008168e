"""Several workers share the partitions: they join, leave, and come back from the dead; and one stops under load."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from support import eventually
from support.fold import Flow, Installation, check, dying_worker, event, fold_environment, running, started
from support.fold.installation import DEADLINE
from support.fold.verdict import published_windows
from support.mortal import mortal_members
from support.seeds import seed_of

PARTITIONS = 4


@pytest.fixture
def installation(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    made = Installation(kafka_settings, clickhouse_settings, PARTITIONS)
    yield made
    made.close()


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_workers_join_leave_and_come_back_from_the_dead(
    installation: Installation, stack_environment: dict[str, str], tmp_path: Path, protocol: str
) -> None:
    settings = {"group_protocol": protocol, "session_timeout_seconds": 6, "batch_events": 100}
    if protocol == "classic":  # members hear of a join or a departure with their next heartbeat
        quick = {**installation.kafka.librdkafka, "heartbeat.interval.ms": "300"}
        installation.kafka = installation.kafka.model_copy(update={"librdkafka": quick})
    environment = fold_environment(installation, tmp_path, stack_environment, **settings)
    seed = seed_of("events while workers join and leave")
    with Flow(installation, seed), running(installation, **settings) as one:
        one.wait_for_partitions(PARTITIONS)
        with started("two", environment, tmp_path) as two, started("three", environment, tmp_path) as three:
            assert two.terminate(30) == 0
            one.wait_for_partitions(2)

            three.signal(signal.SIGSTOP)
            one.wait_for_partitions(PARTITIONS)
            taken_over = installation.folded()
            eventually(lambda: installation.folded() > taken_over + 100, DEADLINE, "the other one folds all")
            three.signal(signal.SIGCONT)
            # It goes on with what it had in memory, then learns that it lost its partitions, and joins again.
            one.wait_for_partitions(2)
            assert three.terminate(30) == 0
            assert "Traceback" not in three.output()
            one.wait_for_partitions(PARTITIONS)
    with running(installation, **settings) as last:
        installation.wait_folded(last)
    truth = check(installation)
    assert len(truth.counted) > 200
    assert truth.duplicates


def test_a_worker_whose_client_has_given_up_makes_another_and_goes_on(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = mortal_members(monkeypatch)
    installation.send(*(event(f"u{number}", 1) for number in range(40)))
    with running(installation) as worker:
        installation.wait_folded(worker)
        (first,) = clients
        first.gave_up = True
        eventually(lambda: len(clients) == 2, DEADLINE, "a second client")
        installation.send(*(event(f"u{number}", 1) for number in range(40)))
        installation.wait_folded(worker)
        worker.require_running()
    assert len(check(installation).counted) == 80


def test_what_a_zombie_still_writes_counts_for_nothing(
    installation: Installation, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    """It stands still in the middle of a flush, loses its partitions, and finishes the flush afterwards."""
    users = [f"u{number}" for number in range(12)]
    installation.send(*(event(user, 1) for user in users))
    environment = fold_environment(installation, tmp_path, stack_environment)
    with started("zombie", environment, tmp_path, dying_worker("SIGSTOP", "before", "windows")) as zombie:
        eventually(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED, DEADLINE, "it stands still")
        with running(installation) as heir:
            heir.wait_for_partitions(PARTITIONS)
            installation.send(*(event(user, 10) for user in users))
            installation.wait_folded(heir)
            first = len(published_windows(installation))
            zombie.signal(signal.SIGCONT)
            # It learns of its loss only after it has finished its flush: then it is a member again.
            heir.wait_for_partitions(PARTITIONS // 2)
            eventually(
                lambda: any(
                    row["record_count"] == 1
                    for row in published_windows(installation)[first:]
                    if row["period_type"] == 4
                ),
                DEADLINE,
                "it publishes old states",
            )
            check(installation)
            installation.send(*(event(user, 100) for user in users))
            installation.wait_folded(heir)
    truth = check(installation)
    assert len(truth.counted) == 36


def test_a_stop_under_load_is_clean_and_the_next_worker_goes_on(
    installation: Installation, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    environment = fold_environment(installation, tmp_path, stack_environment, batch_events=200)
    with Flow(installation, seed_of("events while a worker stops")):
        for name in ("first", "second"):
            before = installation.folded()
            with started(name, environment, tmp_path) as worker:
                worker.wait_until(lambda start=before: installation.folded() > start + 200, DEADLINE, "folding")
                worker.signal(signal.SIGTERM)
                assert worker.wait(60) == 0  # a worker that takes more than 9.5 s ends itself with 1
                assert "fold: stopped" in worker.output()
                assert "Traceback" not in worker.output()
            # A clean stop commits what it has flushed: the lag that others see is the true one.
            committed = installation.committed()
            assert committed == {
                partition: row.next_offset for partition, row in installation.progress().items() if row.next_offset
            }
    with running(installation) as last:
        installation.wait_folded(last)
    check(installation)
