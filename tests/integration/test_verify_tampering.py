"""`verify` on a real history: proven as it is, and every row that is changed by hand is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meterfold_cli import exits
from meterfold_cli.commands.verify import exit_code
from meterfold_local.stack import LocalStack
from meterfold_processor.verify import Finding, TimeRange, VerifyReport, VerifyResult
from meterfold_schemas.vocabulary import AlertAction
from support.verify.history import METRIC, Copy, History, folded, installed

HOURS = timedelta(hours=30)
ACKNOWLEDGE, RESOLVE = AlertAction.ACKNOWLEDGE, AlertAction.RESOLVE
TWO_TABLES = "2 rows (usage_duplicates, usage_records)"
ONE_TABLE = "2 rows (usage_records, usage_records)"


@pytest.fixture(scope="module")
def history(stack: LocalStack) -> Iterator[History]:
    """Two partitions. In the log: counted events of several subjects and hours, duplicates, poison, markers and aborted
    records. One subject has exceeded its threshold, one is approaching, one fell back."""
    with installed(stack) as history:
        history.send(history.event("first", "u1", 70), history.event("first", "u1", 70), history.event("a", "u2", 85))
        history.send(*(history.event(f"n{i}", f"s{i % 7}", i, ago=i * HOURS / 40) for i in range(40)))
        for partition, key in enumerate((history.event("bad", "nobody", 1).key, b"key")):
            history.there.send(history.there.topics.usage_recorded, key, b"no event", partition)
        again = [history.event(f"n{i}", f"s{i % 7}", i, ago=i * HOURS / 40) for i in range(7)]
        history.send_in_transactions(
            [history.event(f"c{i}", f"s{i}", 3) for i in range(7)],
            [history.event(f"x{i}", f"s{i}", 9) for i in range(7)],
        )
        history.send(*again, history.event("b", "u1", 60))
        for action, by in ((ACKNOWLEDGE, "ann"), (ACKNOWLEDGE, "bob"), (RESOLVE, "bob")):
            history.act("a1", action, by)
        with history.checking(), history.folding():
            folded(history)
            history.there.seen_soon([*_reached("u1"), ("t1", "u2", "approaching approaching", 1), *_others(history)])
            history.send(history.event("credit", "u1", -100))
            folded(history)
            assert history.verify(wait_seconds=30).verdict is VerifyResult.PROVEN
        yield history


def _reached(subject_id: str) -> list[tuple[str, str, str, int]]:
    return [("t1", subject_id, f"{level} {level}", 1) for level in ("approaching", "exceeded")]


def _others(history: History) -> list[tuple[str, str, str, int]]:
    """What the subjects s0 to s6 reached."""
    totals = {f"s{i}": sum(n for n in range(40) if n % 7 == i) + 3 for i in range(7)}
    found = []
    for subject_id, total in totals.items():
        found += [("t1", subject_id, "approaching approaching", 1)] if total >= 80 else []
        found += [("t1", subject_id, "exceeded exceeded", 1)] if total >= 100 else []
    return found


Tampered = Callable[..., VerifyReport]


@pytest.fixture
def copy(history: History, stack: LocalStack) -> Iterator[Copy]:
    with history.copy(stack) as copied:
        yield copied


@pytest.fixture
def tampered(history: History, copy: Copy) -> Tampered:
    """Run statements on a copy of the tables, then verify it."""

    def verify(*statements: str, **more: Any) -> VerifyReport:
        for statement in statements:
            copy.client.command(statement)
        report = history.verify(copy.settings, **more)
        assert report.verdict is VerifyResult.DIFFERENT, report
        return report

    return verify


@pytest.fixture
def record(copy: Copy) -> dict[str, Any]:
    """One counted event of an unremarkable subject."""
    (row,) = copy.client.rows("SELECT * FROM usage_records FINAL WHERE id = 'n12'")
    return row


def of(report: VerifyReport, check: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.check == check]


def columns(told: str) -> dict[str, str]:
    """A finding's "sum 3, record_count 1" as a dictionary."""
    return dict(part.split(" ", 1) for part in told.split(", "))  # type: ignore[misc]


def test_a_whole_history_is_proven(history: History, copy: Copy) -> None:
    report = history.verify(copy.settings, contents=True)
    assert report.verdict is VerifyResult.PROVEN, [*map(str, (*report.findings, *report.unproven))]
    partitions = report.partitions
    assert sum(p.counted for p in partitions) == 2 + 1 + 40 + 7 + 1
    assert sum(p.duplicates for p in partitions) == 1 + 7
    assert sum(p.rejected for p in partitions) == 2
    # Seven aborted records, and the markers of the partitions that the two transactions touched.
    assert sum(p.no_message for p in partitions) >= 7 + 2
    for p in partitions:
        assert p.next_offset is not None
        assert p.counted + p.duplicates + p.rejected + p.no_message == p.next_offset
        assert p.windows > 0
        assert p.compared == p.counted + p.duplicates + p.rejected
    assert [(o.org_id, o.counted, o.duplicates, o.rejected, o.in_log) for o in report.orgs] == [
        ("acme", 51, 8, 1, 60),
        (None, 0, 0, 1, 1),
    ]
    assert report.thresholds.judged
    assert (report.thresholds.thresholds, report.unfolded) == (1, [])
    assert report.thresholds.events == report.thresholds.mirrored >= 5
    assert report.thresholds.definitions == 2
    assert report.thresholds.actions == 2
    assert report.aggregates > 0
    for p in partitions:
        assert [(o.org_id, o.in_log) for o in p.orgs] == [
            (o.org_id, o.counted + o.duplicates + o.rejected) for o in p.orgs
        ]
        assert sum(o.in_log or 0 for o in p.orgs) == p.counted + p.duplicates + p.rejected


def test_removed_rows_are_named(tampered: Tampered, copy: Copy, record: dict[str, Any]) -> None:
    (duplicate,) = copy.client.rows("SELECT partition, offset FROM usage_duplicates FINAL WHERE id = 'n3'")
    rejected = copy.client.rows("SELECT partition, offset FROM usage_rejected FINAL ORDER BY partition")[0]
    report = tampered(
        "DELETE FROM usage_records WHERE id = 'n12'",
        "DELETE FROM usage_duplicates WHERE id = 'n3'",
        f"DELETE FROM usage_rejected WHERE partition = {rejected['partition']} AND offset = {rejected['offset']}",
    )
    lost = {(f.partition, f.offset): f for f in of(report, "conservation") if f.offset is not None}
    assert lost.keys() == {(row["partition"], row["offset"]) for row in (record, duplicate, rejected)}
    assert "'n12'" in lost[record["partition"], record["offset"]].expected
    assert "'n3'" in lost[duplicate["partition"], duplicate["offset"]].expected
    assert "no event" in lost[rejected["partition"], rejected["offset"]].expected
    assert {f.found for f in lost.values()} == {"none"}
    counters = {
        f.place: (f.partition, int(f.expected) - int(f.found)) for f in of(report, "conservation") if not f.offset
    }
    assert counters == {
        "usage_records": (record["partition"], 1),
        "usage_duplicates": (duplicate["partition"], 1),
        "usage_rejected": (rejected["partition"], 1),
    }
    windows = {(f.window.period_type, f.window.subject_id) for f in of(report, "windows") if f.window}
    assert windows == {(period, record["subject_id"]) for period in ("hourly", "daily", "monthly")}


def test_altered_rows_are_named(tampered: Tampered, record: dict[str, Any]) -> None:
    """A record is named by the windows that hold it; a window by itself, with the columns that differ. Against the log
    every row is named by its offset, also one that no window holds."""
    report = tampered(
        "INSERT INTO usage_records SELECT * REPLACE (quantity + 1 AS quantity) FROM usage_records WHERE id = 'n12'",
        "INSERT INTO usage_windows SELECT * REPLACE (sum + 7 AS sum, folded_through + 1000 AS folded_through) "
        "FROM usage_windows FINAL WHERE period_type = 'daily' AND subject_id = 's2' LIMIT 1",
        "INSERT INTO usage_duplicates SELECT * REPLACE ('n4x' AS id) FROM (SELECT * FROM usage_duplicates FINAL "
        "WHERE id = 'n4')",
        "INSERT INTO usage_rejected SELECT * REPLACE ('an event' AS value) FROM usage_rejected FINAL "
        "ORDER BY partition LIMIT 1",
        contents=True,
    )
    rows = {f.place: f for f in of(report, "contents")}
    assert (rows["usage_records"].partition, rows["usage_records"].offset) == (record["partition"], record["offset"])
    assert (rows["usage_records"].expected, rows["usage_records"].found) == (
        "quantity 12.000000000",
        "quantity 13.000000000",
    )
    assert (rows["usage_duplicates"].expected, rows["usage_duplicates"].found) == ("id 'n4'", "id 'n4x'")
    assert (rows["usage_rejected"].expected, rows["usage_rejected"].found) == ("value b'no event'", "value b'an event'")
    assert len(of(report, "contents")) == 3
    assert {finding.check for finding in report.findings} == {"windows", "contents", "identities"}
    (renamed,) = of(report, "identities")
    assert (renamed.place, renamed.offset) == ("usage_duplicates", rows["usage_duplicates"].offset)
    found = {(f.window.subject_id, f.window.period_type): f for f in report.findings if f.window}
    assert found.keys() == {*((record["subject_id"], p) for p in ("hourly", "daily", "monthly")), ("s2", "daily")}
    before, after = (columns(found["s2", "daily"].expected), columns(found["s2", "daily"].found))
    assert before.keys() == after.keys() == {"sum", "folded_through"}
    assert int(after["sum"]) == int(before["sum"]) + 7
    assert int(after["folded_through"]) == int(before["folded_through"]) + 1000
    monthly = found[record["subject_id"], "monthly"]
    assert int(columns(monthly.expected)["sum"]) == int(columns(monthly.found)["sum"]) + 1


def test_columns_that_no_window_holds_are_named(tampered: Tampered, copy: Copy, record: dict[str, Any]) -> None:
    """What decides about later duplicates, why a message was rejected, and what a duplicate repeated."""
    (duplicate,) = copy.client.rows("SELECT partition, offset, counted_offset FROM usage_duplicates WHERE id = 'n4'")
    report = tampered(
        "INSERT INTO usage_records SELECT * REPLACE (identity_hash + 1 AS identity_hash) "
        "FROM (SELECT * FROM usage_records FINAL WHERE id = 'n12')",
        "INSERT INTO usage_rejected SELECT * REPLACE ('too_old' AS reason) FROM (SELECT * FROM usage_rejected FINAL "
        "ORDER BY partition LIMIT 1)",
        "INSERT INTO usage_duplicates SELECT * REPLACE (counted_offset + 1 AS counted_offset) "
        "FROM (SELECT * FROM usage_duplicates FINAL WHERE id = 'n4')",
        contents=True,
    )
    rows = {f.place: f for f in report.findings}
    assert len(report.findings) == 3
    assert rows["usage_records"].offset == record["offset"]
    assert rows["usage_records"].expected == f"identity_hash {record['identity_hash']}"
    assert (rows["usage_rejected"].expected, rows["usage_rejected"].found) == (
        "reason 'undecodable'",
        "reason 'too_old'",
    )
    repeated = rows["usage_duplicates"]
    assert (repeated.check, repeated.offset, repeated.partition) == (
        "identities",
        duplicate["offset"],
        duplicate["partition"],
    )
    assert repeated.found.startswith(str(duplicate["counted_offset"] + 1))


def test_a_decision_that_was_changed_is_named(tampered: Tampered, copy: Copy, record: dict[str, Any]) -> None:
    """A counted event moved among the rejected ones, counters and windows adapted: only its message tells."""
    where = f"partition = {record['partition']}"
    report = tampered(
        "INSERT INTO usage_rejected (partition, offset, received_at, reason, detail, key, value) "
        "SELECT partition, offset, received_at, 'too_old', '', "
        "concat('[\"', org_id, '\",\"', metric_key, '\",\"', subject_type, '\",\"', subject_id, '\"]'), '' "
        "FROM usage_records FINAL WHERE id = 'n12'",
        "DELETE FROM usage_records WHERE id = 'n12'",
        "INSERT INTO fold_progress SELECT * REPLACE (counted - 1 AS counted, rejected + 1 AS rejected) "
        f"FROM fold_progress FINAL WHERE {where}",
        contents=True,
    )
    (decision,) = of(report, "contents")
    assert (decision.place, decision.partition, decision.offset) == (
        "usage_rejected",
        record["partition"],
        record["offset"],
    )
    assert (decision.expected, decision.found) == ("counted or a duplicate", "in usage_rejected")


def test_a_rejected_message_of_another_organization_is_named(tampered: Tampered, copy: Copy) -> None:
    first = "(SELECT * FROM usage_rejected FINAL ORDER BY partition LIMIT 1)"
    (before,) = copy.client.rows(f"SELECT org_id, metric_key, subject_type, subject_id FROM {first}")
    assert before == {"org_id": "acme", "metric_key": METRIC, "subject_type": "user", "subject_id": "nobody"}
    report = tampered(f"INSERT INTO usage_rejected SELECT * REPLACE ('other' AS org_id) FROM {first}", contents=True)
    (finding,) = of(report, "contents")
    assert (finding.place, finding.expected, finding.found) == ("usage_rejected", "org_id b'acme'", "org_id b'other'")


def test_rejected_rows_of_a_version_that_stored_no_subject_are_no_difference(history: History, copy: Copy) -> None:
    older = ", ".join(f"'' AS {name}" for name in ("org_id", "metric_key", "subject_type", "subject_id"))
    copy.client.command(f"INSERT INTO usage_rejected SELECT * REPLACE ({older}) FROM usage_rejected FINAL")
    (rows,) = copy.client.rows("SELECT count() AS n, countIf(org_id = '') AS empty FROM usage_rejected FINAL")
    assert rows == {"n": 2, "empty": 2}
    assert history.verify(copy.settings, contents=True).verdict is VerifyResult.PROVEN


def test_rows_that_count_for_another_organization_are_named(tampered: Tampered, record: dict[str, Any]) -> None:
    report = tampered(
        "INSERT INTO usage_records SELECT * REPLACE ('other' AS org_id) FROM (SELECT * FROM usage_records FINAL "
        "WHERE id = 'n12')",
        contents=True,
    )
    orgs = {f.name: int(f.found.split()[0]) - int(f.expected) for f in of(report, "contents") if f.name}
    assert orgs == {"organization 'acme'": -1, "organization 'other'": 1}
    (row,) = [f for f in of(report, "contents") if f.offset is not None]
    assert (row.partition, row.offset, row.found) == (record["partition"], record["offset"], "org_id 'other'")


def test_definitions_that_were_changed_are_named(tampered: Tampered) -> None:
    report = tampered(
        "INSERT INTO metric_definitions SELECT * REPLACE ('max' AS aggregation_type) FROM metric_definitions FINAL",
        "INSERT INTO metric_definitions SELECT * REPLACE ('made.up' AS key) FROM metric_definitions FINAL",
        "DELETE FROM thresholds WHERE id = 't1'",
        "INSERT INTO thresholds SELECT * REPLACE ('t2' AS id) FROM (SELECT * FROM thresholds FINAL LIMIT 1)",
    )
    found = {(f.place, f.name): (f.expected, f.found) for f in of(report, "definitions")}
    assert found == {
        ("metric_definitions", "metric 'api.calls'"): ("aggregation_type 'sum'", "aggregation_type 'max'"),
        ("metric_definitions", "metric 'made.up'"): ("no row", "one row"),
        ("thresholds", "threshold 't1'"): ("one row", "none"),
    }
    assert len(report.findings) == 3


def test_actions_on_alerts_that_were_changed_are_named(tampered: Tampered) -> None:
    report = tampered(
        "INSERT INTO alert_actions SELECT * REPLACE ('bob' AS by, earlier + 1 AS earlier) "
        "FROM alert_actions FINAL WHERE action = 'acknowledge'",
        "DELETE FROM alert_actions WHERE action = 'resolve'",
        "INSERT INTO alert_actions SELECT * REPLACE ('a2' AS alert_id) "
        "FROM (SELECT * FROM alert_actions FINAL LIMIT 1)",
        "INSERT INTO alert_actions SELECT * REPLACE ('a3' AS alert_id, -3 AS earlier) "
        "FROM (SELECT * FROM alert_actions FINAL LIMIT 1)",
    )
    found = {f.name: (f.place, f.expected, f.found) for f in of(report, "actions")}
    assert found.pop("acknowledge of alert a1")[1:] == ("by 'ann', offset 0", "by 'bob', offset -1")
    assert found == {
        "resolve of alert a1": ("alert_actions", "one row", "none"),
        "acknowledge of alert a2": ("alert_actions", "no row", "one row"),
    }
    assert len(report.findings) == 3


def test_a_removed_and_an_invented_window_are_named(tampered: Tampered) -> None:
    report = tampered(
        "INSERT INTO usage_windows SELECT * REPLACE ('nobody' AS subject_id) FROM (SELECT * FROM usage_windows FINAL "
        "WHERE period_type = 'hourly' AND subject_id = 's1' LIMIT 1)",
        "DELETE FROM usage_windows WHERE period_type = 'monthly' AND subject_id = 's2'",
    )
    found = {
        (f.window.subject_id, f.window.period_type, f.found == "no window") for f in of(report, "windows") if f.window
    }
    # Without its month a lifetime is no sum of months any more.
    assert found == {("nobody", "hourly", False), ("s2", "monthly", True), ("s2", "lifetime", False)}
    # Subscribers were told of the month that is gone.
    told = {(f.window.subject_id, f.window.period_type, f.found) for f in of(report, "aggregates") if f.window}
    assert told == {("s2", "monthly", "none")}


def test_positions_in_two_places_are_named(tampered: Tampered, copy: Copy, record: dict[str, Any]) -> None:
    names = "org_id, metric_key, subject_type, subject_id, id, quantity, timestamp, received_at, partition, offset"
    (other,) = copy.client.rows("SELECT partition, offset FROM usage_records FINAL WHERE id = 'n13'")
    report = tampered(
        f"INSERT INTO usage_duplicates ({names}, counted_offset) SELECT {names}, 0 FROM usage_records FINAL "
        "WHERE id = 'n12'",
        "INSERT INTO usage_records SELECT * REPLACE (received_at + toIntervalSecond(1) AS received_at) "
        "FROM usage_records FINAL WHERE id = 'n13'",
    )
    twice = {(f.place, f.partition, f.offset, f.found) for f in report.findings if "more than once" in f.what}
    assert twice == {
        ("usage_duplicates, usage_records", record["partition"], record["offset"], TWO_TABLES),
        ("usage_records", other["partition"], other["offset"], ONE_TABLE),
    }


def test_an_event_counted_again_is_named(tampered: Tampered, copy: Copy) -> None:
    """A duplicate turned into a record, as a fold that forgot the first one would have stored it."""
    (row,) = copy.client.rows("SELECT partition, offset, counted_offset FROM usage_duplicates FINAL WHERE id = 'n5'")
    report = tampered(
        "INSERT INTO usage_records SELECT r.* REPLACE (d.offset AS offset, d.received_at AS received_at) "
        "FROM usage_records AS r FINAL JOIN (SELECT id, offset, received_at FROM usage_duplicates FINAL "
        "WHERE id = 'n5') AS d ON r.id = d.id",
        "DELETE FROM usage_duplicates WHERE id = 'n5'",
    )
    (again,) = of(report, "identities")
    assert (again.partition, again.offset) == (row["partition"], row["offset"])
    assert "'n5'" in (again.name or "")
    assert again.expected == f"a duplicate of offset {row['counted_offset']}"
    assert {f.place for f in of(report, "conservation")} == {"usage_records", "usage_duplicates"}


def test_rows_of_no_message_are_named(tampered: Tampered, copy: Copy, record: dict[str, Any]) -> None:
    """Where an aborted record or a marker stands, beyond the log, and on a partition that the topic does not have."""
    partition = record["partition"]
    known = copy.client.rows(
        "SELECT offset FROM (SELECT offset, partition FROM usage_records UNION ALL SELECT offset, partition "
        "FROM usage_duplicates UNION ALL SELECT offset, partition FROM usage_rejected) WHERE partition = "
        f"{partition}"
    )
    end = copy.client.value(f"SELECT next_offset FROM fold_progress FINAL WHERE partition = {partition}")
    gap = min(set(range(end)) - {row["offset"] for row in known})
    one = "FROM (SELECT * FROM usage_records FINAL WHERE id = 'n12')"
    report = tampered(
        f"INSERT INTO usage_records SELECT * REPLACE ({gap} AS offset, 'invented' AS id) {one}",
        f"INSERT INTO usage_records SELECT * REPLACE (1000000 AS offset, 'beyond' AS id) {one}",
        f"INSERT INTO usage_records SELECT * REPLACE (7 AS partition) {one}",
    )
    found = {(f.what, f.place, f.partition, f.offset) for f in of(report, "conservation")}
    assert found == {
        ("row of an offset that holds no message", "usage_records", partition, gap),
        ("rows below the next offset, against the counter of fold_progress", "usage_records", partition, None),
        ("row outside of what can have been folded", "usage_records", partition, 1_000_000),
        ("rows of a partition that the topic does not have", "usage_records", 7, None),
    }


def test_a_skipped_offset_and_a_progress_beyond_the_log_are_named(tampered: Tampered, copy: Copy) -> None:
    """On one partition the progress passed a message that nobody folded, on the other one the log's end."""
    (last,) = copy.client.rows(
        "SELECT offset, id FROM usage_records FINAL WHERE partition = 0 ORDER BY offset DESC LIMIT 1"
    )
    report = tampered(
        f"DELETE FROM usage_records WHERE partition = 0 AND offset = {last['offset']}",
        "INSERT INTO fold_progress SELECT * REPLACE (counted - 1 AS counted) FROM fold_progress FINAL "
        "WHERE partition = 0",
        "INSERT INTO fold_progress SELECT * REPLACE (next_offset + 500 AS next_offset) FROM fold_progress FINAL "
        "WHERE partition = 1",
    )
    (skipped,) = (f for f in of(report, "conservation") if f.partition == 0)
    assert skipped.offset == last["offset"]
    assert repr(last["id"]) in skipped.expected
    (progress,) = of(report, "progress")
    assert (progress.place, progress.partition) == ("fold_progress", 1)
    assert "next_offset" in progress.what


def test_a_stamp_of_the_progress_that_was_changed_is_named(tampered: Tampered) -> None:
    """Duplicates and the end of windows are measured by it."""
    report = tampered(
        "INSERT INTO fold_progress SELECT * REPLACE (last_stamp + toIntervalDay(9) AS last_stamp) FROM fold_progress "
        "FINAL WHERE partition = 1"
    )
    (stamp,) = report.findings
    assert (stamp.check, stamp.place, stamp.partition) == ("progress", "fold_progress", 1)
    assert "last_stamp" in stamp.what
    assert datetime.fromisoformat(stamp.found) - datetime.fromisoformat(stamp.expected) == timedelta(days=9)


def day_of(record: dict[str, Any]) -> TimeRange:
    start = record["timestamp"].replace(hour=0, minute=0, second=0, microsecond=0)
    return TimeRange(start, start + timedelta(days=1))


def test_a_range_of_time_is_proven_and_says_what_of_it(history: History, copy: Copy, record: dict[str, Any]) -> None:
    within = day_of(record)
    report = history.verify(copy.settings, within=within, contents=True)
    assert report.verdict is VerifyResult.PROVEN, [*map(str, (*report.findings, *report.unproven))]
    assert (report.range_start, report.range_end) == (within.start, within.end)
    start, end = (f"fromUnixTimestamp64Micro({bound}, 'UTC')" for bound in within.bounds)
    wanted = copy.client.value(
        f"SELECT toInt64(count()) FROM usage_windows FINAL WHERE period_start >= {start} AND period_start < {end} "
        "AND period_type IN ('hourly', 'daily')"
    )
    assert sum(p.windows for p in report.partitions) == wanted > 0
    records = f"FROM usage_records FINAL WHERE timestamp >= {start} AND timestamp < {end}"
    assert sum(p.records for p in report.partitions) == copy.client.value(f"SELECT toInt64(count()) {records}") > 0
    # Everything arrived within the same minutes, so every offset may belong to the range.
    assert sum(p.counted for p in report.partitions) == 51
    later = TimeRange(datetime.now(UTC) + timedelta(days=2), datetime.now(UTC) + timedelta(days=3))
    empty = history.verify(copy.settings, within=later)
    assert empty.verdict is VerifyResult.PROVEN
    assert sum(p.windows + p.counted for p in empty.partitions) == 0


def test_what_is_changed_in_a_range_is_named_and_what_lies_outside_is_not(
    tampered: Tampered, history: History, copy: Copy, record: dict[str, Any]
) -> None:
    within = day_of(record)
    yesterday = TimeRange(within.start - timedelta(days=1), within.start)
    day = f"period_type = 'daily' AND period_start = fromUnixTimestamp64Micro({within.bounds[0]}, 'UTC')"
    report = tampered(
        f"INSERT INTO usage_windows SELECT * REPLACE (sum + 7 AS sum) FROM usage_windows FINAL WHERE {day} "
        "AND subject_id = 's5'",
        "INSERT INTO usage_windows SELECT * REPLACE (sum + 7 AS sum) FROM usage_windows FINAL "
        "WHERE period_type = 'lifetime' AND subject_id = 's5'",
        within=within,
    )
    (window,) = of(report, "windows")
    assert window.window is not None
    assert (window.window.period_type, window.window.subject_id) == ("daily", "s5")
    outside = history.verify(copy.settings, within=TimeRange(yesterday.start - timedelta(days=9), yesterday.start))
    assert outside.verdict is VerifyResult.PROVEN, [*map(str, outside.findings)]
    copy.client.command("DELETE FROM usage_records WHERE id = 'n12'")
    lost = history.verify(copy.settings, within=within)
    assert (record["partition"], record["offset"]) in {(f.partition, f.offset) for f in of(lost, "conservation")}
    assert {f.window.period_type for f in of(lost, "windows") if f.window} == {"hourly", "daily"}


def test_a_missing_progress_row_is_named(tampered: Tampered) -> None:
    report = tampered("DELETE FROM fold_progress WHERE partition = 1", limit=3)
    found = of(report, "conservation")
    assert {f.partition for f in found} == {1}
    assert "no row in fold_progress" in found[0].expected
    assert len(found) == 3
    assert report.more > 0


def test_threshold_events_that_were_changed_are_named(tampered: Tampered, copy: Copy) -> None:
    (row,) = copy.client.rows(
        "SELECT event_id FROM threshold_events FINAL WHERE event_type = 'threshold.exceeded' AND subject_id = 'u1'"
    )
    report = tampered(
        f"DELETE FROM threshold_events WHERE event_id = '{row['event_id']}'",
        "INSERT INTO threshold_events SELECT * REPLACE (actual_value + 1 AS actual_value) FROM threshold_events FINAL "
        "WHERE subject_id = 'u2'",
        "INSERT INTO threshold_events SELECT * REPLACE ('made-up' AS event_id) FROM threshold_events FINAL "
        "WHERE subject_id = 'u2'",
    )
    found = {f.what: f for f in report.findings}
    assert {(f.check, f.place) for f in report.findings} == {("events", "threshold_events")}
    removed = next(f for what, f in found.items() if what.startswith("event at "))
    assert removed.found == "none"
    assert row["event_id"] in (removed.name or "")
    assert removed.window is not None
    assert removed.window.subject_id == "u1"
    altered = found["row of an event"]
    assert (altered.expected, altered.found) == ("actual_value 85.000000000", "actual_value 86.000000000")
    assert found["row of an event that is on no topic"].name == "event made-up"
    assert len(report.findings) == 3


def test_states_that_do_not_follow_from_their_windows_are_named(tampered: Tampered) -> None:
    """One lifetime was lowered by hand below its threshold, another one that was judged is gone."""
    report = tampered(
        "INSERT INTO usage_windows SELECT * REPLACE (toDecimal128(1, 9) AS sum) FROM usage_windows FINAL "
        "WHERE period_type = 'lifetime' AND subject_id = 'u2'",
        "DELETE FROM usage_windows WHERE period_type = 'lifetime' AND subject_id = 'u1'",
    )
    found = {f.window.subject_id: f for f in of(report, "states") if f.window}
    assert found.keys() == {"u1", "u2"}
    assert {f.name for f in found.values()} == {"threshold t1"}
    assert (found["u1"].place, found["u1"].found) == ("usage_windows", "no window")
    assert found["u2"].expected.startswith("none (value 1, threshold 100, ")
    assert found["u2"].found == "approaching (value 85)"


def test_windows_that_are_not_what_subscribers_were_told_are_named(tampered: Tampered) -> None:
    """A window and its records lowered together: the recount agrees, what was emitted does not."""
    report = tampered(
        "INSERT INTO usage_records SELECT * REPLACE (quantity - 1 AS quantity) FROM (SELECT * FROM usage_records FINAL "
        "WHERE id = 'a')",
        "INSERT INTO usage_windows SELECT * REPLACE (sum - 1 AS sum, max - 1 AS max, min - 1 AS min, last - 1 AS last) "
        "FROM (SELECT * FROM usage_windows FINAL WHERE subject_id = 'u2')",
    )
    told = {f.window.period_type: f for f in of(report, "aggregates") if f.window}
    assert told.keys() == {"daily", "monthly", "lifetime"}
    assert {f.window.subject_id for f in told.values() if f.window} == {"u2"}
    assert {(columns(f.expected)["sum"], columns(f.found)["sum"]) for f in told.values()} == {
        ("84.000000000", "85.000000000")
    }
    assert {f.check for f in report.findings} == {"aggregates"}


def test_what_has_expired_is_named_and_is_no_difference(history: History, copy: Copy) -> None:
    """With a retention of four hours the records of yesterday's windows may be gone."""
    hour = 3600
    changed = {
        "horizon_seconds": hour,
        "slack_seconds": 0,
        "source_retention_seconds": hour,
        "record_retention_seconds": 4 * hour,
    }
    for name, value in changed.items():
        copy.client.command(f"INSERT INTO fold_settings (name, value, earlier) VALUES ('{name}', '{value}', 1)")
    report = history.verify(copy.settings)
    assert report.verdict is VerifyResult.UNPROVEN, [*map(str, report.findings)]
    assert {(u.check, u.place, u.passing) for u in report.unproven} == {("windows", "usage_windows", False)}
    assert {u.partition for u in report.unproven} == {p.partition for p in report.partitions if p.expired_windows}
    assert sum(p.expired_windows for p in report.partitions) > 0
    assert exit_code(report) == exits.EXPIRED
