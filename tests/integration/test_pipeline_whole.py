"""The whole pipeline as real processes: SDK, fold, checker, mirror; and the proof of it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from meterfold import Meter
from meterfold_local.process import ManagedProcess
from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.events import ThresholdEvent, ThresholdState, UsageAggregated
from meterfold_schemas.periods import Period
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.vocabulary import Level
from meterfold_service import Metering
from support import consume_all, eventually
from support.cli import answer, running
from support.fold import Installation, check

DEADLINE = 120
PARTITIONS = 2


@dataclass
class Pipeline:
    """Migrated, with a fold and a checker at work."""

    installation: Installation
    environment: dict[str, str]
    settings_file: Path
    fold: ManagedProcess
    checker: ManagedProcess

    def meter(self) -> Meter:
        return Meter(config=self.settings_file, org_id="acme")

    def metering(self) -> Metering:
        return Metering(kafka=self.installation.kafka, clickhouse=self.installation.clickhouse, wait_seconds=DEADLINE)

    def threshold(self, **values: object) -> UsageThreshold:
        return self.metering().thresholds.create(metric_key="api.calls", org_id="acme", name="quota", **values)

    def alerts(self) -> list[ThresholdEvent]:
        topics = self.installation.topics
        names = (topics.threshold_approaching, topics.threshold_exceeded, topics.threshold_cleared)
        messages = itertools.chain.from_iterable(consume_all(self.installation.kafka, name) for name in names)
        return [ThresholdEvent.from_bytes(message.value()) for message in messages]

    def states(self) -> dict[str, ThresholdState]:
        """The newest state by subject."""
        messages = consume_all(self.installation.kafka, self.installation.topics.threshold_state)
        states = [ThresholdState.from_bytes(message.value()) for message in messages if message.value()]
        return {state.subject_id: state for state in states}

    def wait_for_alerts(self, expected: list[tuple[str, str, Level, int]]) -> None:
        """(subject, event type without its prefix, level, crossing) of every event on the three topics."""

        def there() -> bool:
            seen = Counter(
                (e.subject_id, e.event_type.removeprefix("threshold."), e.level, e.crossing) for e in self.alerts()
            )
            assert seen == Counter(expected)
            return True

        eventually(there, DEADLINE, "the expected alerts")


@pytest.fixture
def pipeline(
    stack_environment: dict[str, str],
    settings_file: Path,
    kafka_settings: KafkaSettings,
    clickhouse_settings: ClickHouseSettings,
    tmp_path: Path,
) -> Iterator[Pipeline]:
    environment = {
        **stack_environment,
        "METERFOLD_FOLD_BATCH_SECONDS": "0.05",
        "METERFOLD_CHECKER_EMIT_INTERVAL_SECONDS": "0.5",
    }
    assert answer("migrate", "--partitions", str(PARTITIONS), env=environment)["rules"]["partition_count"] == PARTITIONS
    installation = Installation(kafka_settings, clickhouse_settings, PARTITIONS)
    with (
        running("fold", env=environment, folder=tmp_path) as fold,
        running("check", env=environment, folder=tmp_path) as checker,
    ):
        fold.wait_for_line("fold: ready", DEADLINE)
        checker.wait_for_line("check: ready", DEADLINE)
        yield Pipeline(installation, environment, settings_file, fold, checker)
    installation.close()


def test_events_of_an_application_become_records_windows_alerts_and_aggregates(pipeline: Pipeline) -> None:
    installation = pipeline.installation
    pipeline.metering().metrics.define(key="api.calls", name="API calls", unit="call")
    threshold = pipeline.threshold(threshold=100, period_type=Period.LIFETIME)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    with pipeline.meter() as meter:

        def use(subject_id: str, quantity: object, event_id: str, at: datetime | None = None) -> None:
            meter.record("api.calls", ("user", subject_id), quantity, id=event_id, timestamp=at)
            meter.flush()

        expected = [("ann", "approaching", Level.APPROACHING, 1)]
        use("ann", 50, "a1", yesterday)
        use("ann", "35.5", "a2")
        pipeline.wait_for_alerts(expected)
        use("ann", 50, "a1")  # sent again: a duplicate reaches no threshold
        use("ann", 20, "a3")
        expected += [("ann", "exceeded", Level.EXCEEDED, 1)]
        pipeline.wait_for_alerts(expected)
        use("ann", -60, "a4")
        expected += [("ann", "cleared", Level.APPROACHING, 1), ("ann", "cleared", Level.EXCEEDED, 1)]
        pipeline.wait_for_alerts(expected)
        use("bob", 250, "b1")
        expected += [("bob", "approaching", Level.APPROACHING, 1), ("bob", "exceeded", Level.EXCEEDED, 1)]
        pipeline.wait_for_alerts(expected)
        use("ann", 100, "a5")
        expected += [("ann", "approaching", Level.APPROACHING, 2), ("ann", "exceeded", Level.EXCEEDED, 2)]
        pipeline.wait_for_alerts(expected)
    installation.wait_folded()
    truth = check(installation)
    assert (len(truth.counted), len(truth.duplicates)) == (6, 1)

    exceeded = [e for e in pipeline.alerts() if e.event_type == "threshold.exceeded"]
    assert {(e.subject_id, e.actual_value) for e in exceeded} == {
        ("ann", Decimal("105.5")),
        ("bob", Decimal(250)),
        ("ann", Decimal("145.5")),
    }
    assert {e.threshold_id for e in exceeded} == {threshold.id}
    assert {subject: state.level for subject, state in pipeline.states().items()} == {
        "ann": Level.EXCEEDED,
        "bob": Level.EXCEEDED,
    }
    _check_aggregates(installation)
    _check_mirror(pipeline, threshold)
    _check_summaries(installation, yesterday)

    report = answer("verify", "--wait", "60", "--contents", env=pipeline.environment)
    assert report["findings"] == []
    assert pipeline.checker.terminate(20) == 0
    assert pipeline.fold.terminate(20) == 0
    for process in (pipeline.checker, pipeline.fold):
        assert "Traceback" not in process.output()


def test_nothing_is_lost_or_said_twice_when_fold_and_checker_are_killed(pipeline: Pipeline) -> None:
    """Quantities only rise, so the exact alerts of the whole history are known, whatever died in between."""
    pipeline.metering().metrics.define(key="api.calls", name="API calls", unit="call")
    pipeline.threshold(threshold=100, period_type=Period.MONTHLY)
    totals: Counter[str] = Counter()
    numbers = itertools.count()
    now = datetime.now(UTC)
    with pipeline.meter() as meter:

        def send(count: int) -> None:
            for number in itertools.islice(numbers, count):
                subject, quantity = f"u{number % 12}", number % 12 % 7
                totals[subject] += quantity
                meter.record("api.calls", ("user", subject), quantity, id=f"e{number}", timestamp=now)
            meter.flush()

        send(60)
        pipeline.fold.kill()
        send(60)
        pipeline.fold.start()
        send(60)
        eventually(lambda: pipeline.installation.folded() > 120, DEADLINE, "the fold goes on")
        eventually(lambda: pipeline.states(), DEADLINE, "the checker judges")
        pipeline.checker.kill()
        send(60)
        pipeline.checker.start()
        pipeline.fold.kill()
        send(60)
        pipeline.fold.start()
    pipeline.installation.wait_folded()
    check(pipeline.installation)
    expected = [(s, "approaching", Level.APPROACHING, 1) for s, total in totals.items() if total >= 80]
    expected += [(s, "exceeded", Level.EXCEEDED, 1) for s, total in totals.items() if total >= 100]
    assert 2 < len(expected) < 24
    pipeline.wait_for_alerts(expected)
    report = answer("verify", "--wait", "60", env=pipeline.environment)
    assert report["findings"] == []
    pipeline.wait_for_alerts(expected)


def _check_aggregates(installation: Installation) -> None:
    """The newest revision of each emitted window is the stored row."""
    stored = {
        (row["subject_id"], row["period"], row["period_start"]): (
            row["record_count"],
            row["sum"],
            row["folded_through"],
        )
        for row in installation.client.rows(
            "SELECT subject_id, toString(period_type) AS period, period_start, record_count, sum, folded_through "
            "FROM usage_windows FINAL WHERE period_type != 'hourly'"
        )
    }

    def all_there() -> bool:
        newest: dict[object, tuple[object, ...]] = {}
        messages = consume_all(installation.kafka, installation.topics.usage_aggregated)
        for event in (UsageAggregated.from_bytes(message.value()) for message in messages if message.value()):
            name = (event.subject_id, event.period_type.value, event.period_start)
            assert event.total_quantity == event.sum
            newest[name] = (event.record_count, event.sum, event.revision)
        assert newest == stored
        return True

    eventually(all_there, DEADLINE, "every window is emitted")


def _check_mirror(pipeline: Pipeline, threshold: UsageThreshold) -> None:
    client = pipeline.installation.client
    metrics = client.rows("SELECT key, unit, deleted FROM metric_definitions FINAL")
    assert metrics == [{"key": "api.calls", "unit": "call", "deleted": 0}]
    assert [row["id"] for row in client.rows("SELECT id FROM thresholds FINAL")] == [threshold.id]
    ids = {event.event_id for event in pipeline.alerts()}

    def mirrored() -> bool:
        rows = client.rows("SELECT event_id FROM threshold_events FINAL")
        assert sorted(row["event_id"] for row in rows) == sorted(ids)
        return True

    eventually(mirrored, DEADLINE, "every alert is in ClickHouse")
    alerts = client.rows("SELECT subject_id, toString(level) AS level, toString(status) AS status FROM usage_alerts")
    assert Counter((row["subject_id"], row["level"], row["status"]) for row in alerts) == Counter(
        [
            *(("ann", level, status) for level in ("approaching", "exceeded") for status in ("pending", "resolved")),
            *(("bob", level, "pending") for level in ("approaching", "exceeded")),
        ]
    )


def _check_summaries(installation: Installation, yesterday: datetime) -> None:
    rows = installation.client.rows(
        "SELECT subject_id, total_quantity FROM usage_daily WHERE toDate(period_start) = {day:Date}",
        {"day": yesterday.strftime("%Y-%m-%d")},
    )
    assert rows == [{"subject_id": "ann", "total_quantity": Decimal(50)}]
