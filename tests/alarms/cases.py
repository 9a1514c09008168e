"""The faults, in the order in which they happen, and the alerts that each has to fire.

A fault is a generator: what it does before its `yield` breaks something, what it does afterwards mends it. Its alerts
are silent before, fire while it lasts, and are resolved afterwards. A test compares the names with the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event, Thread

import polars as pl

from alarms.scene import BACKUPS, PARTITIONS, Scene
from meterfold import Meter
from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.periods import Period
from meterfold_schemas.vocabulary import Action, Level
from meterfold_sink.backup_catalogue import COMPLETE, BackupRow, write_backup
from meterfold_sink.client import connect

__all__ = ["FAULTS", "Fault", "begin"]

METRIC = "api.calls"
BACKLOG = 200_000
"""Messages of usage.windows that take a checker longer than the alert waits."""
MANY_EVENTS = 1_100_000


def begin(scene: Scene) -> None:
    """What every fault finds: a metric, a threshold, and usage that is folded and judged."""
    scene.command("migrate", "--partitions", str(PARTITIONS))
    scene.start("fold", "check", "notify")
    scene.metering.metrics.define(key=METRIC, name="API calls", unit="call")
    scene.metering.thresholds.create(metric_key=METRIC, name="quota", threshold=10**12, period_type=Period.LIFETIME)
    record(scene, 200)
    scene.command("status", "--wait", "60")


def record(scene: Scene, count: int) -> None:
    """`count` events of a few subjects."""
    frame = pl.DataFrame({"subject_id": [f"u{number % 40}" for number in range(count)]})
    with Meter(config=scene.config, buffer_timeout=300, close_timeout=120) as meter:
        meter.record_batch(
            frame.with_columns(metric_key=pl.lit(METRIC), subject_type=pl.lit("user"), quantity=pl.lit(1))
        ).raise_refused()


def notifications(scene: Scene) -> Iterator[None]:
    """The mail server refuses three times; an endpoint answers 410. The event is of an hour ago."""
    scene.endpoint.each = 410
    threshold = scene.metering.thresholds.create(
        metric_key=METRIC,
        name="notified",
        threshold=10**11,
        period_type=Period.DAILY,
        notify_emails=["ada@example.com"],
        notify_webhook=scene.endpoint.url,
    )
    event = _exceeded(threshold, datetime.now(UTC) - timedelta(hours=1))
    scene.send(scene.topics.threshold_exceeded, event.to_bytes(), b"key")
    yield
    scene.endpoint.each = 204
    scene.command("notify", "enable", scene.endpoint.url, "--by", "ada")


def workers(scene: Scene) -> Iterator[None]:
    """Fold worker and checker are killed."""
    scene.kill("fold", "check")
    yield
    scene.start("fold", "check")


def backlog(scene: Scene) -> Iterator[None]:
    """Windows have piled up while the checker was away. It works through them, so there is nothing to mend."""
    scene.kill("check")
    window = scene.published_window()
    scene.send_many(scene.topics.usage_windows, window.value(), BACKLOG, partition=window.partition() or 0)
    scene.start("check")
    yield


def backups(scene: Scene) -> Iterator[None]:
    """The newest backup is of 60 hours ago, and Kafka will soon delete what it needs. A fold worker looks at once after
    its start."""
    now = datetime.now(UTC)
    old = BackupRow(
        name="old",
        destination=BACKUPS,
        base="",
        status=COMPLETE,
        started_at=now - timedelta(hours=60),
        finished_at=now - timedelta(hours=60),
        next_offsets={0: 0},
        needed_since={0: 0},
        replayable_until=now + timedelta(hours=1),
        total_bytes=1,
    )
    client = connect(scene.stack.clickhouse_settings())
    write_backup(client, old)
    client.close()
    scene.kill("fold")
    scene.start("fold")
    yield
    scene.command("backup", "create", "--full")
    scene.kill("fold")
    scene.start("fold")


def restarts(scene: Scene) -> Iterator[None]:
    """The notifier is killed three times."""
    for _ in range(3):
        scene.kill("notify")
        scene.start("notify")
        scene.wait_scraped(2)
    yield


def damaged(scene: Scene) -> Iterator[None]:
    """Messages that nobody can read: on usage.recorded, usage.windows and threshold.defined."""
    scene.send(scene.topics.usage_recorded, b"no event", b"key", 0)
    scene.send(scene.topics.usage_windows, b"no windows", partition=1)
    scene.send(scene.topics.threshold_defined, b"no threshold", b"broken")
    yield
    scene.send(scene.topics.threshold_defined, None, b"broken")


def held(scene: Scene) -> Iterator[None]:
    """A schema that is not known."""
    scene.send(scene.topics.usage_recorded, bytes.fromhex("c301" + "1122334455667788") + b"body", b"key", 0)
    yield
    scene.command("schema", "poison", "1122334455667788")


def group(scene: Scene) -> Iterator[None]:
    """Another application has joined the group of the fold workers, and takes partitions away."""
    with _joined(scene, "meterfold-fold", scene.topics.usage_recorded):
        yield


def transaction(scene: Scene) -> Iterator[None]:
    """A transaction without an end on threshold.state: a checker that starts cannot read it."""
    scene.kill("check")
    with scene.open_transaction(scene.topics.threshold_state):
        scene.start("check", wait=False)
        yield


def clickhouse(scene: Scene) -> Iterator[None]:
    """ClickHouse is killed, a million events arrive, a definition changes, and the checkers' group rebalances."""
    scene.stack.clickhouse.kill()
    record(scene, MANY_EVENTS)
    now = datetime.now(UTC)
    changed = UsageThreshold(
        id="during",
        metric_key=METRIC,
        name="during the outage",
        threshold=Decimal(10**9),
        warn_threshold=Decimal(10**8),
        period_type=Period.LIFETIME,
        created_at=now,
        updated_at=now,
    )
    scene.send(scene.topics.threshold_defined, changed.to_bytes(), changed.message_key)
    with _joined(scene, "meterfold-checker", scene.topics.usage_windows):
        pass
    yield
    scene.stack.clickhouse.restart()


@contextmanager
def _joined(scene: Scene, group: str, topic: str) -> Iterator[None]:
    """A member of a group that has got partitions, and does nothing with them."""
    left, joined = Event(), Event()
    with scene.group_member(group, topic) as consumer:

        def poll() -> None:
            while not left.is_set():
                consumer.consume(100, 0.2)
                if consumer.assignment():  # in this thread: beside a consume it can wait forever
                    joined.set()

        thread = Thread(target=poll, daemon=True)
        thread.start()
        try:
            assert joined.wait(60), f"no partition of {group} is given to another member"
            yield
        finally:
            left.set()
            thread.join(30)


def _exceeded(threshold: UsageThreshold, at: datetime) -> ThresholdEvent:
    return ThresholdEvent(
        event_type="threshold.exceeded",
        occurred_at=at,
        threshold_id=threshold.id,
        org_id="",
        metric_key=METRIC,
        subject_type="user",
        subject_id="u1",
        period_type=Period.DAILY,
        period_start=at.replace(hour=0, minute=0, second=0, microsecond=0),
        period_end=at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1),
        level=Level.EXCEEDED,
        crossing=1,
        threshold=Decimal(threshold.threshold),
        warn_threshold=Decimal(threshold.warn_threshold or 0),
        actual_value=Decimal(threshold.threshold),
        percentage_used=Decimal(100),
        action=Action.ALERT,
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """`lingering` alerts are resolved by time, some minutes later: looked at when all faults are over."""

    does: Callable[[Scene], Iterator[None]]
    fires: frozenset[str]
    lingering: frozenset[str] = frozenset()

    @property
    def alerts(self) -> frozenset[str]:
        return self.fires | self.lingering


FAULTS = (
    Fault(
        notifications,
        frozenset({"MeterfoldEndpointDisabled"}),
        frozenset({"MeterfoldNotificationsLate"}),
    ),
    Fault(restarts, frozenset(), frozenset({"MeterfoldWorkerRestarts"})),
    Fault(workers, frozenset({"MeterfoldWorkerDown", "MeterfoldFoldAbsent", "MeterfoldCheckerAbsent"})),
    Fault(backlog, frozenset({"MeterfoldCheckerBehind"})),
    Fault(backups, frozenset({"MeterfoldBackupLate", "MeterfoldBackupTooOld"})),
    Fault(
        damaged,
        frozenset({"MeterfoldDefinitionsUnreadable"}),
        frozenset({"MeterfoldEventsRejected", "MeterfoldWindowsDamaged"}),
    ),
    Fault(held, frozenset({"MeterfoldPartitionHeld"})),
    Fault(group, frozenset({"MeterfoldPartitionsUnassigned"})),
    Fault(transaction, frozenset({"MeterfoldCheckerStuck"})),
    Fault(
        clickhouse,
        frozenset(
            {
                "MeterfoldFoldLag",
                "MeterfoldMirrorBehind",
                "MeterfoldPartitionStuck",
                "MeterfoldUsageStale",
                "MeterfoldWorkerErrors",
                "MeterfoldWorkerNotReady",
            }
        ),
        frozenset({"MeterfoldTransactionsAborted"}),
    ),
)
