"""What `meterfold status` concludes from the views of both servers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from meterfold_schemas import catalog
from meterfold_service.status.clickhouse_view import TABLES, ClickHouseView, StoredProgress
from meterfold_service.status.kafka_view import Group, KafkaView, LogBounds, OpenTransaction, PendingHead, PendingHeads
from meterfold_service.status.positions import positions
from meterfold_service.status.report import MirrorLag, StatusReport, make_report
from meterfold_sink.backup_catalogue import BackupRow
from meterfold_sink.notifications import Backlog
from meterfold_sink.schema_decisions import SchemaFacts

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KNOWN = catalog.latest("usage_recorded").header
UNKNOWN = b"\xc3\x01" + bytes(range(8))


def progress(next_offset: int, *, flushed: float = 1.0, counted: int = 0) -> StoredProgress:
    return StoredProgress(next_offset, 0, counted, 2, 1, NOW, NOW - timedelta(seconds=flushed))


def kafka(start: int = 0, end: int = 100, *, workers: int = 1, checked: int = 10) -> KafkaView:
    group = Group("g", "STABLE" if workers else "EMPTY", workers)
    return KafkaView(
        brokers=1,
        recorded={0: LogBounds(start, end)},
        windows={0: LogBounds(5, 10)},
        checked={0: checked},
        fold_group=group,
        checker_group=group,
    )


def stored(row: StoredProgress | None, **settings: str) -> ClickHouseView:
    named = {name.replace("__", ":"): value for name, value in settings.items()}
    return ClickHouseView(settings=named, progress={} if row is None else {0: row})


def report(
    kafka: KafkaView, clickhouse: ClickHouseView, *, waited: float | None = None, header: bytes = KNOWN
) -> StatusReport:
    events = {} if waited is None else {0: PendingHead(NOW.timestamp() - waited, header)}
    return make_report(kafka, clickhouse, PendingHeads(events, {}), NOW, 60.0)


def test_all_folded_is_well() -> None:
    found = report(kafka(), stored(progress(100, counted=97)))
    assert found.well
    assert (found.counted, found.duplicates, found.rejected) == (97, 2, 1)
    status = found.partitions[0]
    assert (status.state, status.lag, status.checker_lag) == ("ok", 0, 0)


def test_a_backup_that_the_log_no_longer_reaches_is_a_problem() -> None:
    backup = BackupRow(
        *("b1", "disk:backups", "", "complete", NOW, NOW),
        *({0: 40}, {0: 0}, NOW + timedelta(days=13), 1_000),
    )
    view = replace(stored(progress(100)), backup=backup)
    assert report(kafka(start=40), view).well
    (problem,) = report(kafka(start=41), view).problems
    assert problem.startswith("the newest backup b1 can no longer be repaired from Kafka: partition 0 needs offset 40")


def test_a_marker_of_a_transaction_at_the_end_is_no_lag() -> None:
    assert positions(kafka(), stored(progress(99))).events == {0: 99}
    status = report(kafka(), stored(progress(99, flushed=1e6))).partitions[0]
    assert (status.state, status.lag) == ("ok", 0)


def test_events_that_just_came_are_behind_and_no_problem() -> None:
    found = report(kafka(), stored(progress(90, flushed=3600)), waited=2.0)
    assert found.well
    assert (found.partitions[0].state, found.partitions[0].lag) == ("behind", 10)


def test_a_long_backlog_that_is_being_folded_is_behind_and_no_problem() -> None:
    found = report(kafka(), stored(progress(90, flushed=1)), waited=86_400)
    assert found.well
    assert found.partitions[0].state == "behind"


def test_events_that_wait_without_a_flush_are_stuck() -> None:
    found = report(kafka(), stored(progress(90, flushed=61)), waited=61)
    assert found.partitions[0].state == "stuck"
    assert found.problems == (
        "partition 0: nothing is folded, the oldest event has waited 61 s; the fold worker's log says why",
    )
    nobody = report(kafka(workers=0), stored(progress(90, flushed=61)), waited=61)
    assert "no fold worker runs: start `meterfold fold`" in nobody.problems[0]


def test_a_partition_that_nobody_has_begun_is_stuck_as_well() -> None:
    found = report(kafka(workers=0), stored(None), waited=120)
    assert (found.partitions[0].state, found.partitions[0].lag) == ("stuck", 100)


def test_an_unknown_schema_holds_its_partition_unless_it_is_declared_poison() -> None:
    held = report(kafka(), stored(progress(90)), waited=1, header=UNKNOWN)
    assert held.partitions[0].state == "held"
    assert "unknown schema 0001020304050607" in held.problems[0]
    poison = replace(stored(progress(90)), schemas={"0001020304050607": SchemaFacts(decision="poison")})
    assert report(kafka(), poison, waited=1, header=UNKNOWN).well


def test_events_that_were_deleted_before_they_were_folded_are_lost() -> None:
    clickhouse = stored(progress(90))
    assert positions(kafka(start=95), clickhouse).events == {}
    found = report(kafka(start=95), clickhouse)
    assert found.partitions[0].state == "lost"
    assert "offset 90, the log holds 95 to 100" in found.problems[0]
    assert report(kafka(), stored(progress(101))).partitions[0].state == "lost"


def test_another_partition_count_than_stored_is_a_problem() -> None:
    found = report(kafka(), stored(progress(100), partition_count="6"))
    assert "usage.recorded has 1 partitions, 6 were there" in found.problems[0]


def test_what_is_down_is_said_and_the_other_one_still_shown() -> None:
    without_clickhouse = report(kafka(), ClickHouseView(error="ClickHouse at http://c:1 could not be reached"))
    assert not without_clickhouse.well
    assert without_clickhouse.problems == without_clickhouse.silent
    assert "ClickHouse at http://c:1 could not be reached. The fold waits" in without_clickhouse.problems[0]
    assert (without_clickhouse.partitions[0].log_end, without_clickhouse.partitions[0].state) == (100, "unknown")
    assert without_clickhouse.counted is None
    without_kafka = report(KafkaView(error="Kafka at k:1 could not be reached"), stored(progress(100, counted=97)))
    assert "Kafka at k:1 could not be reached. Producers and workers wait" in without_kafka.problems[0]
    assert (without_kafka.partitions[0].next_offset, without_kafka.partitions[0].lag) == (100, None)
    assert without_kafka.counted == 97


def test_what_is_missing_is_named_with_the_command_that_makes_it() -> None:
    found = make_report(
        KafkaView(brokers=1, missing=("usage.recorded",)),
        ClickHouseView(missing=TABLES),
        PendingHeads({}, {}),
        NOW,
        60.0,
    )
    assert [problem.partition(":")[0] for problem in found.problems] == [
        "topics are missing",
        "tables or views are missing",
    ]
    assert all("meterfold migrate" in problem for problem in found.problems)


def test_a_transaction_that_stays_open_is_named() -> None:
    def with_transaction(seconds: float | None) -> StatusReport:
        stamp = None if seconds is None else NOW.timestamp() - seconds
        view = replace(kafka(), open_transactions=(OpenTransaction("usage.recorded", 3, 210, stamp),))
        return report(view, stored(progress(100)))

    assert with_transaction(59).well
    assert with_transaction(None).well
    (problem,) = with_transaction(61).problems
    assert problem.startswith("usage.recorded partition 3: the transaction at offset 210 has been open for 61 s")
    assert "docs/operations.md" in problem


def test_windows_that_wait_without_a_checker_are_a_problem() -> None:
    view = kafka(workers=0, checked=7)
    assert positions(view, stored(None)).windows == {0: 7}
    assert positions(kafka(checked=2), stored(None)).windows == {0: 5}
    waiting = PendingHeads({}, {0: PendingHead(NOW.timestamp() - 90, b"")})
    found = make_report(view, stored(progress(100)), waiting, NOW, 60.0)
    assert found.partitions[0].checker_lag == 3
    assert found.problems == ("no checker runs and windows have waited for 90 s: start `meterfold check`",)
    running = make_report(kafka(checked=7), stored(progress(100)), waiting, NOW, 60.0)
    assert running.well


def test_events_that_clickhouse_lacks_are_named() -> None:
    exceeded, defined = "threshold.exceeded", "metric.defined"
    view = replace(
        kafka(),
        mirrored={
            exceeded: {0: LogBounds(0, 9), 1: LogBounds(4, 9), 2: LogBounds(0, 9)},
            defined: {0: LogBounds(0, 2)},
        },
    )
    clickhouse = replace(stored(progress(100)), mirrored={exceeded: {0: 7, 2: 9}})
    assert positions(view, clickhouse).mirrored == {exceeded: {0: 7, 1: 4}, defined: {0: 0}}
    assert positions(view, replace(clickhouse, error="down")).mirrored == {}

    def found(waited: float) -> StatusReport:
        # Offset 7 is a message that waits; partition 1 and metric.defined hold only markers of transactions.
        heads = PendingHeads({}, {}, {exceeded: {0: PendingHead(NOW.timestamp() - waited, b"")}})
        return make_report(view, clickhouse, heads, NOW, 60.0)

    assert found(5).well
    assert found(5).mirror_lag == (MirrorLag(exceeded, 0, 7, 9, 5.0),)
    assert found(90).problems == (
        "ClickHouse lacks messages of threshold.exceeded that are 90 s old: the checker copies them. Start "
        "`meterfold check`, or read its log",
    )


EXCEEDED, CLEARED = "threshold.exceeded", "threshold.cleared"


def notified(waited: float, *, members: int = 0, thresholds: int = 1, chats: bool = False, **more: Any) -> StatusReport:
    """Two events of threshold.exceeded that no notifier has read, and at most a transaction marker elsewhere."""
    view = replace(
        kafka(),
        notified={EXCEEDED: {0: LogBounds(0, 9), 1: LogBounds(3, 9)}, CLEARED: {0: LogBounds(0, 2)}},
        notify_group=Group("n", "STABLE" if members else "EMPTY", members),
    )
    stored_ = replace(
        stored(progress(100)), planned={EXCEEDED: {0: 7, 1: 1}, CLEARED: {0: 2}}, notified_thresholds=thresholds, **more
    )
    assert positions(view, stored_).notified == {EXCEEDED: {0: 7, 1: 3}, CLEARED: {}}
    assert positions(view, replace(stored_, error="down")).notified == {}
    heads = PendingHeads({}, {}, {}, {EXCEEDED: {0: PendingHead(NOW.timestamp() - waited, b"")}})
    return make_report(view, stored_, heads, NOW, 60.0, chats=chats)


def test_the_lag_of_the_notifiers_counts_what_waits() -> None:
    found = notified(5, members=2)
    assert (found.notifier.members, found.notifier.lag, found.notifier.waiting_seconds) == (2, {EXCEEDED: 2}, 5.0)
    assert found.well


def test_events_that_wait_without_a_notifier_are_a_problem_where_someone_is_to_be_notified() -> None:
    (problem,) = notified(61).problems
    assert problem == "no notifier runs and notifications have waited for 61 s: start `meterfold notify`"
    assert notified(59).well
    assert notified(61, thresholds=0, chats=True).problems == (problem,)
    unwanted = notified(61, thresholds=0)
    assert (unwanted.well, unwanted.notifier.wanted) == (True, False)
    assert notified(61, members=1).problems == (
        "events have waited for 61 s to be notified of; the notifier's log says why",
    )


def test_planned_deliveries_that_are_due_wait_for_a_notifier_as_well() -> None:
    backlog = Backlog(waiting=3, failing=1, due_since=NOW - timedelta(seconds=300))
    found = notified(5, deliveries=backlog)
    assert found.problems == ("no notifier runs and notifications have waited for 300 s: start `meterfold notify`",)
    assert (found.notifier.waiting, found.notifier.failing, found.notifier.overdue_seconds) == (3, 1, 300.0)
    assert notified(5, members=1, deliveries=backlog).well, "a slow receiver is not the notifier's fault"
    later = backlog._replace(due_since=None)
    assert notified(5, deliveries=later).well, "a retry that is not due yet waits for its time"


def test_endpoints_that_fail_are_a_note() -> None:
    found = notified(5, members=1, endpoints={"failing": 1, "disabled": 2})
    assert found.well
    assert found.notes == (
        "1 webhook endpoint is failing; `meterfold notify endpoints` lists them",
        "2 webhook endpoints are disabled; `meterfold notify endpoints` lists them",
    )
