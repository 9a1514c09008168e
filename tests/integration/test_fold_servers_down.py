"""ClickHouse and Kafka are killed under a worker: it says so, goes on by itself, and nothing is lost or doubled."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from meterfold_local.stack import LocalStack
from support import eventually
from support.fold import Installation, Outgoing, check, event, fold_environment, running, started

pytestmark = pytest.mark.stack

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def mortal_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Servers for the tests of this file alone, which bring back what they kill."""
    with LocalStack(tmp_path_factory.mktemp("mortal"), kafka_port=0, clickhouse_port=0) as stack:
        yield stack


@pytest.fixture
def installation(mortal_stack: LocalStack) -> Iterator[Installation]:
    name = f"down_{next(_numbers)}_{secrets.token_hex(3)}"
    made = Installation(mortal_stack.kafka_settings(f"{name}."), mortal_stack.clickhouse_settings(name))
    yield made
    made.close()


def test_clickhouse_is_killed_and_comes_back(mortal_stack: LocalStack, installation: Installation) -> None:
    installation.send(*_events(20))
    with running(installation, batch_events=30) as worker:
        installation.wait_folded(worker)
        committed = eventually(lambda: len(installation.committed()) == 2 and installation.committed(), 60)
        mortal_stack.clickhouse.kill()
        # More than the worker holds in flight: it has to pause, and must not lose its place in the group.
        for _ in range(8):
            installation.send(*_events(25))
        eventually(lambda: any("ClickHouse" in text for text in worker.status.errors.values()), 60, "it says so")
        worker.require_running()
        assert installation.committed() == committed
        mortal_stack.clickhouse.restart()
        installation.wait_folded(worker)
        eventually(lambda: not worker.status.errors, 60, "all is well again")
    check(installation)


def test_clickhouse_is_down_when_a_partition_is_loaded(mortal_stack: LocalStack, installation: Installation) -> None:
    installation.send(*_events(20))
    with running(installation) as worker:
        installation.wait_folded(worker)
        with running(installation) as second:
            second.wait_for_partitions(1)
            installation.send(*_events(20))
            installation.wait_folded(worker)
            mortal_stack.clickhouse.kill()
            second.end()
            eventually(lambda: "load" in worker.status.errors, 60, "it cannot load what the other one had")
            installation.send(*_events(20))
        worker.require_running()
        mortal_stack.clickhouse.restart()
        installation.wait_folded(worker)
    check(installation)


def test_kafka_is_killed_and_comes_back(mortal_stack: LocalStack, installation: Installation) -> None:
    broker = mortal_stack.kafka.broker(1)
    installation.send(*_events(20))
    with running(installation, batch_events=30) as worker:
        installation.wait_folded(worker)
        installation.send(*_events(200))
        broker.kill()
        eventually(lambda: _unreachable(installation), 60, "Kafka is gone")
        worker.require_running()
        mortal_stack.kafka.restart(1)
        installation.send(*_events(50))
        installation.wait_folded(worker)
    check(installation)


def test_both_are_killed_while_events_wait_and_a_worker_that_starts_meanwhile_waits_for_them(
    mortal_stack: LocalStack, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meterfold_processor.kafka.topics._TIMEOUT", 3.0)
    installation.send(*_events(200))
    mortal_stack.clickhouse.kill()
    mortal_stack.kafka.broker(1).kill()
    with running(installation) as worker:
        eventually(lambda: "start" in worker.status.errors, 60, "it says what it waits for")
        mortal_stack.clickhouse.restart()
        eventually(lambda: "Kafka" in worker.status.errors.get("start", ""), 60, "now it waits for Kafka")
        mortal_stack.kafka.restart(1)
        installation.wait_folded(worker)
    check(installation)


@pytest.mark.parametrize("stuck", ["inserting", "publishing"])
def test_a_stop_while_a_flush_is_stuck_ends_in_time(
    mortal_stack: LocalStack, installation: Installation, tmp_path: Path, stuck: str
) -> None:
    # The default leaves a flush six seconds to end; once is enough to see that it fits.
    settings = {} if stuck == "publishing" else {"stop_seconds": 1}
    environment = fold_environment(installation, tmp_path, mortal_stack.environment(), **settings)
    installation.send(*_events(20))
    broker, clickhouse = mortal_stack.kafka.broker(1), mortal_stack.clickhouse
    with started("fold", environment, tmp_path) as worker:
        installation.wait_folded()
        clickhouse.kill()
        installation.send(*_events(20))
        worker.wait_for_line("ClickHouse could not be reached", 60)
        if stuck == "publishing":
            broker.kill()
            clickhouse.restart()
            # Those of the first flush: the twenty may stand in two, and the second one waits behind it.
            eventually(lambda: len(installation.rows("usage_records")) > 20, 60, "it gets as far as Kafka")
        try:
            assert worker.terminate(60) == 0  # a worker that takes more than 9.5 s ends itself with 1
            assert "fold: stopped" in worker.output()
        finally:
            if stuck == "publishing":
                mortal_stack.kafka.restart(1)
            else:
                clickhouse.restart()
    # Where the leave could not be told, the group waits for the session's end: another group need not.
    with running(installation, group_id="fold-last") as last:
        installation.wait_folded(last)
    check(installation)


def _events(count: int) -> list[Outgoing]:
    return [event(f"u{number % 11}", number) for number in range(count)]


def _unreachable(installation: Installation) -> bool:
    try:
        return not installation.producer.list_topics(timeout=1)
    except KafkaException:
        return True
