"""A checker's probes and metrics over HTTP, on real servers: what it did, and each condition come and gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_processor.checker import operations as ops
from meterfold_processor.probes.checker import CheckerSubject
from meterfold_processor.probes.server import serving
from meterfold_processor.probes.settings import HealthSettings
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_sink.client import connect
from support import consume_all, eventually
from support.checker.installation import Installation, Running, running
from support.cli import running as process
from support.probes import DEADLINE, Metrics, Probes

pytestmark = pytest.mark.stack

UP = [("t1", "u1", event, 1) for event in ("approaching approaching", "exceeded exceeded")]


@pytest.fixture
def there(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    made = Installation(kafka_settings, clickhouse_settings)
    yield made
    made.close()


def test_metrics_equal_what_was_emitted(there: Installation, stack: LocalStack, tmp_path: Path) -> None:
    path = tmp_path / "check" / "meterfold.toml"
    write_settings(path, there.kafka, there.clickhouse)
    environment = {
        **stack.environment(),
        "METERFOLD_CONFIG": str(path),
        "METERFOLD_CHECKER_EMIT_INTERVAL_SECONDS": "0",
    }
    there.define_metric()
    there.define_threshold()
    with process("check", env=environment, folder=tmp_path, ready="check: ready") as worker:
        probes = Probes.of(worker)
        assert probes.wait_ready() == []
        before = probes.metrics()
        there.use(70)
        there.use(70)
        there.use(1, partition=1)
        there.seen_soon(UP)

        def settled() -> Metrics:
            found = probes.metrics()
            assert found.total("checker_lag_messages") == 0
            assert found["checker_waiting_windows"] == 0
            assert found["checker_consumed_windows_total"] == 12
            assert found.labels("checker_emitted_messages_total") >= set(_topics(there))
            assert found["checker_mirrored_rows_total", "threshold_events"] == 2
            return found

        found = eventually(settled, DEADLINE, "everything is judged and emitted")
        for topic in _topics(there):
            assert found["checker_emitted_messages_total", topic] == len(consume_all(there.kafka, topic)), topic
        assert found["checker_transactions_total"] > before["checker_transactions_total"]
        assert found["checker_transaction_aborts_total"] == 0
        assert found["checker_step_seconds_count"] >= 1
        assert found["checker_mirrored_rows_total", "thresholds"] == 1
        assert {p: found["checker_next_offset", str(p)] for p in (0, 1)} == {0: 2, 1: 1}
        assert (found["checker_alive"], found["checker_ready"], found["checker_group_member"]) == (1, 1, 1)
        assert worker.terminate(20) == 0


def test_aborted_transactions_are_counted_and_it_is_ready_again(there: Installation) -> None:
    there.define_metric()
    there.define_threshold()
    broken = [True, False]

    def drive(steps: Any, perform: Any) -> None:
        def commit(operation: Any) -> Any:
            if isinstance(operation, ops.CommitTransaction) and broken[0]:
                broken[1] = True
                raise Retryable("the transaction did not commit, says this test")
            return perform(operation)

        ops.drive_all(steps, commit)

    with _served(there, 1.0, drive=drive) as (_, probes):
        probes.wait_unready("step is failing and being retried: the transaction did not commit")
        assert any("not loaded yet" in problem for problem in probes.wait_dead("has made no progress"))
        found = eventually(lambda: (m := probes.metrics())["checker_transaction_aborts_total"] >= 2 and m, DEADLINE)
        assert found["checker_transactions_total"] == 0
        assert found["checker_errors", "step"] == 1
        broken[0] = False
        assert probes.wait_ready() == []
        there.use(140)
        there.seen_soon(UP)
        found = eventually(lambda: (m := probes.metrics())["checker_transactions_total"] >= 1 and m, DEADLINE)
        assert found.total("checker_errors") == 0


def test_clickhouse_is_killed_and_comes_back(own_stack: LocalStack) -> None:
    settings = own_stack.clickhouse_settings("checker")
    connect(settings, create_database=True).close()
    there = Installation(own_stack.kafka_settings("probes."), settings)
    there.define_metric()
    there.define_threshold()
    there.use(140)
    with _served(there, 2.0, mirror=True) as (checker, probes):
        checker.ready(2)
        there.seen_soon(UP)
        assert probes.wait_ready() == []
        own_stack.clickhouse.kill()
        there.define_threshold("t2", 130)
        probes.wait_unready("is failing and being retried: ")
        # Not dead: it still judges what arrives.
        own_stack.clickhouse.restart()
        assert probes.wait_ready() == []
        there.seen_soon([*UP, *(("t2", *event[1:]) for event in UP)])


@contextmanager
def _served(there: Installation, stall_seconds: float, **more: Any) -> Iterator[tuple[Running, Probes]]:
    """A checker of this process, with its probes."""
    health = HealthSettings(stall_seconds=stall_seconds)
    with running(there, **more) as checker, serving(health, CheckerSubject(checker.worker.status)) as url:
        assert url is not None
        yield checker, Probes(url)


def _topics(there: Installation) -> tuple[str, ...]:
    topics = there.topics
    return (topics.usage_aggregated, topics.threshold_state, topics.threshold_approaching, topics.threshold_exceeded)
