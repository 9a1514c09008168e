"""Periods are closed on the real stack: counted, compared, stored, and what moves afterwards is an adjustment."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_processor.verify.closings import prove_closings
from meterfold_processor.verify.report import Finding, Findings
from meterfold_schemas.errors import Fatal, InvalidUsage, Retryable
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service import (
    Metering,
    NotFoldedInTime,
    PeriodNotClosed,
    PeriodNotEnded,
    PeriodRecordsExpired,
    RecordsExpired,
    WindowsDiffer,
)
from meterfold_service.periods.operations import Periods
from meterfold_service.periods.results import PeriodClosing
from meterfold_service.usage.operations import Usage
from meterfold_sink.client import Client
from support.cli import answer, inside
from support.databases import migrated_database
from support.fold.installation import METRIC, Installation, event
from support.fold.workers import running
from support.kafka import delete_topics
from support.paths import ROOT
from support.sink.database import insert
from support.sink.rows import Record, progress_table, records_table, windows_of, windows_table

GRACE = timedelta(hours=1)
END = (datetime.now(UTC) - GRACE).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
"""Of the newest month that can be closed, also in the first hour of a month."""
LAST_DAY = END - timedelta(days=1)
"""Within the horizon on every day of a month."""
MONTH = LAST_DAY.replace(day=1)
NOON = LAST_DAY + timedelta(hours=12)
EMPTIED = (
    "usage_records",
    "usage_windows",
    "fold_progress",
    "metric_definitions",
    "period_closings",
    "closed_windows",
    "closed_dimensions",
)


class There:
    """One installation without workers: rows are stored as the fold stores them. Its topics are empty, so everything is
    folded."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.client = installation.client
        self.records: list[Record] = []
        self.now = datetime.now(UTC)
        self.interrupt: Callable[[str], None] = lambda sql: None
        self.periods = self.another()

    def another(self) -> Periods:
        """Of another process."""
        return Periods(Pool(self), lambda: self.installation.kafka, lambda: self.now, 5.0)  # type: ignore[arg-type]

    def record(self, quantity: Any, subject: str = "ada", when: datetime = NOON, **more: Any) -> Record:
        """The next event of this subject's partition; nothing is stored yet."""
        values = {"org_id": "acme", "metric_key": METRIC, **more}
        partition = partition_of(subject_key(values["org_id"], values["metric_key"], "user", subject), 2)
        offset = sum(one.partition == partition for one in self.records)
        made = Record(offset, when, quantity, subject, partition=partition, received_at=self.now, **values)
        self.records.append(made)
        return made

    def store(self, *, records: bool = True, progress: bool = True) -> None:
        """All of it, as after a flush; without `progress`, as in the middle of one."""
        if records:
            insert(self.client, "usage_records", records_table(self.records))
        insert(self.client, "usage_windows", windows_table(windows_of(self.records)))
        for partition in (0, 1) if progress else ():
            count = sum(one.partition == partition for one in self.records)
            insert(self.client, "fold_progress", progress_table(partition, count))

    def define(self, kind: str = "sum", dimensions: tuple[str, ...] = (), org_id: str = "") -> None:
        version = self.client.value("SELECT toInt64(max(version)) + 1 FROM metric_definitions")
        columns = "org_id, key, aggregation_type, dimensions, version"
        values = f"('{org_id}', '{METRIC}', '{kind}', {list(dimensions)}, {version})"
        self.client.command(f"INSERT INTO metric_definitions ({columns}) VALUES {values}")

    def proven(self) -> list[Finding]:
        """What `verify` says about closings."""
        findings = Findings(10)
        rules = self.installation.rules
        prove_closings(self.client, rules, micros(self.now), findings, None, lambda text: None)
        return findings.found

    def count(self, table: str) -> int:
        return int(self.client.value(f"SELECT toInt64(count()) FROM {table} FINAL"))


class Pool:
    """Connections whose statements a test can interrupt."""

    def __init__(self, there: There) -> None:
        self._there = there

    @contextmanager
    def client(self) -> Iterator[Client]:
        there = self._there

        class Watched(Client):
            def command(self, sql: str, *arguments: Any, **more: Any) -> None:
                there.interrupt(sql)
                super().command(sql, *arguments, **more)

        from meterfold_sink.client import connect

        with connect(there.installation.clickhouse) as opened:
            yield Watched(opened._connection, opened.database)


@pytest.fixture(scope="module")
def installation(stack: LocalStack) -> Iterator[Installation]:
    kafka = stack.kafka_settings(f"closing-{secrets.token_hex(3)}.")
    with migrated_database(stack, lambda: True) as settings:
        made = Installation(kafka, settings)
        yield made
        made.close()
    delete_topics(kafka)


@pytest.fixture
def there(installation: Installation) -> There:
    for table in EMPTIED:
        installation.client.command(f"TRUNCATE TABLE {table}")
    return There(installation)


@pytest.mark.usefixtures("tables")
def test_a_month_is_closed_and_a_late_event_is_an_adjustment(
    kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> None:
    there = Installation(kafka_settings, clickhouse_settings)

    def used(quantity: Any, subject: str, minutes: int = 0, **more: Any) -> Any:
        return event(subject, quantity, timestamp=NOON + timedelta(minutes=minutes), **more)

    there.client.command(
        f"INSERT INTO metric_definitions (key, aggregation_type, version) VALUES ('{METRIC}', 'sum', 1)"
    )
    with Metering(kafka=kafka_settings, clickhouse=clickhouse_settings, wait_seconds=60) as metering:
        there.send(used(5, "ada", id="a"), used(Decimal("2.5"), "ada", 1), used(1, "bob"), used(3, "eve", org_id=""))
        behind = Periods(metering._clients, lambda: kafka_settings, lambda: datetime.now(UTC), 0.2)
        with pytest.raises(NotFoldedInTime):
            behind.close("monthly", MONTH)
        with running(there):
            # Waits until what was sent is folded.
            first = metering.aggregate("monthly", MONTH)
            assert (first.is_new, first.revision, first.metric_key) == (True, 1, "")
            assert (first.window_count, first.record_count) == (3, 4)
            assert metering.periods.close("monthly", MONTH) == metering.periods.get("monthly", MONTH)
            assert metering.periods.adjustments().rows == ()

            # Late: one window moves, one appears, one gets a duplicate and stays.
            sent = there.send(used(10, "ada", 2), used(7, "new"), used(-1, "ada", 3), used(5, "ada", id="a"))
            there.wait_folded()
        moved = {row.subject_id: row for row in metering.periods.adjustments("monthly").rows}
        assert set(moved) == {"ada", "new"}
        ada, new = moved["ada"], moved["new"]
        assert (ada.old_quantity, ada.new_quantity, ada.difference) == (Decimal("7.5"), Decimal("16.5"), Decimal(9))
        assert (ada.old_count, ada.new_count, ada.closed_at, ada.revised_at) == (2, 4, first.closed_at, None)
        assert [(ada.partition, offset) for offset in ada.offsets] == [sent[0], sent[2]]
        assert (new.old_quantity, new.new_quantity, new.difference, new.old_count) == (None, 7, 7, 0)
        assert [(new.partition, offset) for offset in new.offsets] == [sent[1]]
        assert [one.reason for one in metering.periods.due(["monthly"]).rows] == ["moved"]

        again = metering.periods.close("monthly", MONTH)
        assert (again.is_new, again.revision, again.window_count, again.record_count) == (True, 2, 4, 7)
        assert metering.periods.get("monthly", MONTH, revision=1) == metering.periods.list().rows[1]
        settled = metering.periods.adjustments("monthly").rows
        assert {(row.subject_id, row.difference, row.revised_at) for row in settled} == {
            ("ada", Decimal(9), again.closed_at),
            ("new", Decimal(7), again.closed_at),
        }
        assert metering.periods.due(["monthly"]).rows == ()
    there.close()


def documented_statement() -> str:
    page = (ROOT / "docs" / "closing.md").read_text(encoding="utf-8")
    (statement,) = (text for text in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if "SHA256" in text)
    return str(statement)


def recomputed(windows: list[dict[str, Any]]) -> str:
    """The checksum as docs/closing.md describes it, in Python."""
    groups: dict[str, list[str]] = {}
    for row in windows:
        fields = [
            row["period_type"],
            str(round(row["period_start"].timestamp() * 1_000_000)),
            *(row[name] for name in ("org_id", "metric_key", "subject_type", "subject_id")),
            str(row["record_count"]),
            *(f"{row[name]:.9f}" for name in ("sum", "min_quantity", "max_quantity", "last_quantity")),
            str(round(row["last_timestamp"].timestamp() * 1_000_000)),
        ]
        digest = sha256("\0".join(fields))
        groups.setdefault(digest[:4], []).append(digest)
    return sha256("".join(sorted(sha256("".join(sorted(group))) for group in groups.values())))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_documented_statement_gives_the_checksum(there: There, installation: Installation) -> None:
    """Whatever the order of rows and parts, and with texts that look like others when they are put together."""
    for number in range(700):  # enough for hashes that end with a zero byte, which ClickHouse easily cuts off
        there.record(Decimal(number).scaleb(-number % 9), f"s{number}", NOON + timedelta(seconds=number))
    there.record("-99999999999999999999.999999999", 'quote"\\, ü\n', org_id="o'\t")
    there.record(1, "ada", metric_key="other")
    there.store()
    closing = there.periods.close("monthly", MONTH)
    statement = documented_statement().replace("2026-10-01", f"{MONTH:%Y-%m-%d}")
    for settings in ({}, {"output_format_decimal_trailing_zeros": 1, "max_threads": 1}):
        (row,) = there.client.rows(statement, settings=settings)
        assert row == {"checksum": closing.checksum, "window_count": 702, "record_count": 702}
    windows = there.client.rows(f"SELECT * FROM usage_closed WHERE period_start = '{MONTH:%Y-%m-%d}'")
    assert recomputed(windows) == closing.checksum
    other = there.periods.close("monthly", MONTH, "other")
    (row,) = there.client.rows(statement.replace("WHERE period_type", "WHERE metric_key = 'other' AND period_type"))
    assert (row["checksum"], other.window_count) == (other.checksum, 1)

    # The same usage in another order, with other offsets, has the same checksum.
    kept, there.records = there.records, []
    for one in reversed(kept):
        there.record(one.quantity, one.subject_id, one.timestamp, org_id=one.org_id, metric_key=one.metric_key)
    for table in EMPTIED:
        installation.client.command(f"TRUNCATE TABLE {table}")
    there.store()
    assert there.periods.close("monthly", MONTH).checksum == closing.checksum


def test_every_kind_of_period_is_closed_alone_and_when_due(there: There) -> None:
    there.record(1, when=NOON)
    there.record(2, when=NOON + timedelta(hours=1))
    there.record(3, when=NOON - timedelta(days=1))
    there.record(4, when=there.now)
    there.store()
    due = there.periods.due()
    assert [(one.period_type, one.reason) for one in due.rows].count(("hourly", "not closed")) == 3
    assert due.total == 3 + 2 + 1
    run = there.periods.close_due(limit=4)
    assert (len(run.closings), run.remaining, run.failures) == (4, 2, ())
    run = there.periods.close_due()
    assert (len(run.closings), run.remaining, there.periods.due().rows) == (2, 0, ())
    assert {one.period_type: one.record_count for one in there.periods.list().rows if one.period_start < LAST_DAY} == {
        "monthly": 3,
        "daily": 1,
        "hourly": 1,
    }
    # A late event in one hour moves the hour, its day and its month.
    there.record(5, when=NOON)
    there.store()
    assert {(one.period_type, one.reason) for one in there.periods.due().rows} == {
        (kind, "moved") for kind in ("hourly", "daily", "monthly")
    }
    run = there.periods.close_due(["daily"])
    assert [(one.period_type, one.revision) for one in run.closings] == [("daily", 2)]
    assert {(one.period_type, one.revised_at is None) for one in there.periods.adjustments().rows} == {
        ("hourly", True),
        ("daily", False),
        ("monthly", True),
    }
    # A day without usage can be closed by name; what appears in it is an adjustment.
    empty = there.periods.close("daily", MONTH)
    assert (empty.window_count, empty.checksum) == (0, hashlib.sha256(b"").hexdigest())
    there.record(6, when=MONTH)
    there.store()
    (row,) = there.periods.adjustments("daily", end=MONTH + timedelta(days=1)).rows
    assert (row.old_count, row.new_count, row.difference) == (0, 1, None)


def test_a_range_is_closed_up_to_a_limit_and_from_there_on(there: There) -> None:
    there.record(1, when=NOON)
    there.store()
    hours = [NOON + timedelta(hours=number) for number in range(3)]
    until = NOON + timedelta(hours=3)
    run = there.periods.close_many("hourly", NOON, until, limit=2)
    assert ([one.period_start for one in run.closings], run.remaining) == (hours[:2], 1)
    run = there.periods.close_many("hourly", run.closings[-1].period_end, until, limit=2)
    assert ([one.period_start for one in run.closings], run.remaining) == (hours[2:], 0)


def test_late_events_after_each_closing_are_rows_of_their_own(there: There) -> None:
    there.define("max")
    closings = []
    for quantity in (5, 9, 2, 11):
        there.record(quantity)
        there.store()
        closings.append(there.periods.close("monthly", MONTH))
    there.record(12)
    there.store()
    assert [one.revision for one in closings] == [1, 2, 3, 4]
    rows = there.periods.adjustments("monthly").rows
    assert [(row.old_quantity, row.new_quantity, row.difference, row.offsets) for row in rows] == [
        (5, 9, 4, (1,)),
        (9, 9, 0, (2,)),
        (9, 11, 2, (3,)),
        (11, 12, 1, (4,)),
    ]
    times = [one.closed_at for one in closings]
    assert [(row.closed_at, row.revised_at) for row in rows] == list(zip(times, [*times[1:], None], strict=True))
    assert [row.difference for row in there.periods.adjustments("monthly", limit=2, offset=1).rows] == [0, 2]
    assert there.proven() == []
    assert there.periods.adjustments("monthly", org_id="other").total == 0


def test_windows_that_differ_are_listed_and_nothing_is_stored(there: There) -> None:
    for number in range(3):
        there.record(number + 1, f"s{number}")
    there.store()
    kept = windows_of(there.records)
    monthly = [one for one in kept if one.period_type == "monthly"]
    wrong = [monthly[0].changed(sum=Decimal("0.000000001") + monthly[0].sum)]
    wrong.append(monthly[1].changed(subject_id="nobody"))
    there.client.command("TRUNCATE TABLE usage_windows")
    insert(there.client, "usage_windows", windows_table([*wrong, monthly[2], *(set(kept) - set(monthly))]))
    with pytest.raises(WindowsDiffer) as caught:
        there.periods.close("monthly", MONTH)
    found = {(one.subject_id, one.finding, one.stored_count, one.recounted_count) for one in caught.value.differences}
    assert found == {
        ("s0", "different", 1, 1),
        ("s1", "window missing", 0, 1),
        ("nobody", "records missing", 1, 0),
    }
    assert caught.value.total == 3
    assert (there.count("period_closings"), there.count("closed_windows")) == (0, 0)
    # The others are closed all the same, and the run says which one was not.
    run = there.periods.close_due()
    assert {one.period_type for one in run.closings} == {"hourly", "daily"}
    assert [(one.period_type, one.code, one.total) for one in run.failures] == [("monthly", "WINDOWS_DIFFER", 3)]
    assert there.periods.close_due().failures == run.failures


def test_each_number_of_a_window_is_compared(there: There) -> None:
    changes: dict[str, Any] = {
        "record_count": 4,
        "sum": Decimal("6.000000001"),
        "min": Decimal(0),
        "max": Decimal(9),
        "last": Decimal(2),
        "last_timestamp": NOON + timedelta(microseconds=1),
        "last_offset": 10**6,
        "folded_through": 10**6,  # beyond the progress: its records are looked for, and are not there
    }
    for name in (*changes, "right"):
        for quantity in (1, 2, 3):
            there.record(quantity, name)
    there.store()
    there.client.command("TRUNCATE TABLE usage_windows")
    windows = [
        one.changed(**{one.subject_id: changes[one.subject_id]}) if one.subject_id in changes else one
        for one in windows_of(there.records)
    ]
    insert(there.client, "usage_windows", windows_table(windows))
    with pytest.raises(WindowsDiffer) as caught:
        there.periods.close("monthly", MONTH)
    assert {one.subject_id for one in caught.value.differences} == set(changes)


def test_a_flush_in_progress_is_neither_a_difference_nor_in_the_numbers(there: There) -> None:
    there.record(1)
    there.store()
    there.record(2)
    there.record(3, "new")
    there.store(progress=False)
    closing = there.periods.close("monthly", MONTH)
    assert (closing.window_count, closing.record_count) == (1, 1)
    there.store()
    assert {row.subject_id: row.new_count for row in there.periods.adjustments().rows} == {"ada": 2, "new": 1}


def test_a_run_that_dies_at_any_step_is_repeated(there: There) -> None:
    """Before each statement, and after a late event: the numbers are those of a run that was not interrupted."""
    there.define(dimensions=("model",))
    steps = 0
    for number in range(100):
        there.record(number, f"s{number % 3}", more={"metadata": json.dumps({"model": f"m{number % 2}"})})
        there.store()
        left = number
        died = False

        def dies(sql: str) -> None:
            nonlocal left, died
            if left == 0 and not died and not sql.startswith("DROP"):
                died = True
                raise Retryable(f"killed before {sql.split()[0]}")
            left -= 1

        there.interrupt = dies
        try:
            there.periods.close("monthly", MONTH)
        except Retryable:
            steps += 1
        there.interrupt = lambda sql: None
        if number % 2:  # what a run has left behind may be older than the next event
            continue
        closing = there.periods.close("monthly", MONTH)
        assert closing.record_count == number + 1
        windows = there.client.rows("SELECT * FROM usage_closed WHERE period_type = 'monthly'")
        assert recomputed(windows) == closing.checksum
        by_model = there.client.rows(
            "SELECT dimensions, toInt64(sum(d.record_count)) AS n FROM closed_dimensions AS d FINAL "
            "INNER JOIN usage_closed AS c ON c.subject_id = d.subject_id AND c.folded_through = d.folded_through "
            "GROUP BY dimensions ORDER BY dimensions"
        )
        assert [row["n"] for row in by_model] == [n for n in ((number + 2) // 2, (number + 1) // 2) if n]
        if not died:
            break
    assert steps >= 6
    stale = there.client.rows(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE 'closing%'"
    )
    assert stale == []


def test_two_runs_at_the_same_time_write_the_same(there: There) -> None:
    for number in range(50):
        there.record(number, f"s{number}", NOON + timedelta(hours=number % 3))
    there.store()
    barrier = threading.Barrier(3)
    waited = threading.local()

    def meet(sql: str) -> None:
        """The runs recount, and write their numbers and their closing, side by side."""
        if sql.lstrip().startswith("INSERT INTO period_closings") and not getattr(waited, "once", False):
            waited.once = True
            barrier.wait(60)

    there.interrupt = meet
    found: list[PeriodClosing] = []

    def close() -> None:
        found.append(there.another().close("monthly", MONTH))

    threads = [threading.Thread(target=close) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 3
    assert len({(one.checksum, one.next_offsets == found[0].next_offsets, one.revision) for one in found}) == 1
    # The earliest moment stays. One that answers before a run of the same moment has written says its own.
    (stored,) = there.periods.list().rows
    assert stored.closed_at == min(one.closed_at for one in found)
    assert (there.count("period_closings"), there.count("closed_windows")) == (1, 50)
    # One that has fallen behind does not put an older closing after a newer one.
    there.interrupt = lambda sql: None
    there.record(1, "s0")

    def overtake(sql: str) -> None:
        if "FROM usage_windows" in sql:
            there.interrupt = lambda sql: None
            there.store()
            there.another().close("monthly", MONTH)

    there.record(1, "late")
    there.interrupt = overtake
    late = there.another().close("monthly", MONTH)
    assert (late.revision, late.record_count, there.count("period_closings")) == (2, 52, 2)


def test_closed_rows_that_were_changed_are_noticed(there: There) -> None:
    there.record(1)
    there.store()
    there.periods.close("monthly", MONTH)
    ada = "(SELECT * FROM closed_windows FINAL WHERE subject_id = 'ada')"
    changed = f"INSERT INTO closed_windows SELECT * REPLACE ({{}}) FROM {ada}"
    there.client.command(changed.format("sum + 1 AS sum"))
    assert [(one.place, one.what) for one in there.proven()] == [("closed_windows", "numbers as closed")]
    # The next closing writes such a row again as the records say. One that should not be there is an error.
    there.record(2, "bob")
    there.store()
    assert there.periods.close("monthly", MONTH).revision == 2
    assert there.proven() == []
    there.client.command(changed.format("'nobody' AS subject_id"))
    there.record(2, "bob")
    there.store()
    with pytest.raises(Fatal, match="closed_windows holds 3 windows"):
        there.periods.close("monthly", MONTH)
    assert there.count("period_closings") == 2
    assert {(one.place, one.what) for one in there.proven()} == {("closed_windows", "numbers as closed")}


def test_lost_events_are_noticed(there: There) -> None:
    """ClickHouse was restored from a backup: windows and records agree, but events that were closed are gone."""
    there.record(1)
    there.record(2)
    there.store()
    there.periods.close("monthly", MONTH)
    there.records.pop()
    for table in ("usage_records", "usage_windows"):
        there.client.command(f"TRUNCATE TABLE {table}")
    there.store()
    with pytest.raises(Fatal, match="newest closing has 2 records"):
        there.periods.close("monthly", MONTH)
    (finding,) = there.proven()
    assert (finding.place, finding.what) == ("period_closings", "numbers of the records")
    assert "(1 window, 2 records)" in finding.expected
    assert "(1 window, 1 record)" in finding.found


def test_a_period_is_refused_before_its_end_and_after_its_records(there: There) -> None:
    with pytest.raises(PeriodNotEnded) as caught:
        there.periods.close("monthly", there.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    assert caught.value.closable_at.minute == 0
    there.now = END + GRACE - timedelta(microseconds=1)
    with pytest.raises(PeriodNotEnded):
        there.periods.close("monthly", MONTH)
    there.now = END + GRACE
    assert there.periods.close("monthly", MONTH).window_count == 0
    there.now = datetime.now(UTC)
    with pytest.raises(InvalidUsage, match="the sum of its days"):
        there.periods.close("weekly", MONTH)
    with pytest.raises(InvalidUsage, match="starts at"):
        there.periods.close("daily", MONTH + timedelta(hours=1))
    with pytest.raises(PeriodNotClosed, match="is not closed for other"):
        there.periods.get("monthly", MONTH, "other")
    with pytest.raises(PeriodNotClosed, match="has 1 closing, not 2"):
        there.periods.get("monthly", MONTH, revision=2)

    # Long ago: the records are gone, the windows stay.
    old = there.now - timedelta(days=105)
    start = old.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    there.now = old
    there.record(1, when=old)
    there.record(2, when=old)
    there.now = datetime.now(UTC)
    there.store(records=False)
    with pytest.raises(PeriodRecordsExpired, match="2 records of it have expired") as expired:
        there.periods.close("monthly", start)
    assert isinstance(expired.value, RecordsExpired)
    assert expired.value.missing == 2
    due = there.periods.due()
    assert (due.rows, due.expired) == ((), 3)


def test_sums_by_dimension_are_closed_with_a_day_and_a_month(there: There) -> None:
    there.define(dimensions=("model", "region"))
    there.define(org_id="other")  # its own definition has none
    for number, metadata in enumerate(
        (
            {"model": "a/b", "region": "eu", "request": "1"},
            {"region": "eu", "model": "a/b", "request": "2"},
            {"model": "a/b", "region": None},
            {"model": 12},
            None,
        )
    ):
        more = {"metadata": None if metadata is None else json.dumps(metadata)}
        there.record(10**number, when=NOON + timedelta(hours=number), more=more)
        there.record(1, "else", org_id="other", more=more)
    there.store()

    def sums() -> dict[str, tuple[str, int, Decimal]]:
        rows = there.client.rows(
            "SELECT toString(period_type) AS period_type, dimensions, record_count, sum, fields FROM closed_dimensions "
            "FINAL WHERE has(fields, 'region')"
        )
        return {(row["period_type"], row["dimensions"]): (row["record_count"], row["sum"]) for row in rows}

    for period, start in (("hourly", NOON), ("daily", LAST_DAY), ("monthly", MONTH)):
        there.periods.close(period, start)
    expected = {'{"model":"a/b","region":"eu"}': (2, 11), '{"model":"a/b"}': (1, 100), '{"model":"12"}': (1, 1000)}
    expected["{}"] = (1, 10000)
    assert sums() == {(kind, key): value for kind in ("daily", "monthly") for key, value in expected.items()}

    # Once the records have expired, the closed sums answer; other fields, and parts of a day, cannot be answered.
    def totals(now: datetime, period: str = "monthly", **more: Any) -> list[Any]:
        usage = Usage(Pool(there), lambda: now, 5.0)  # type: ignore[arg-type]
        span = {"start": MONTH, "end": END, "org_id": "acme", "limit": 1000}
        page = usage.get_summary(METRIC, period=period, **{**span, **more})
        return [
            (row.period_start, row.subject_id, row.group, row.total_quantity, row.record_count, row.last_quantity)
            for row in page.rows
        ]

    questions: tuple[dict[str, Any], ...] = (
        {"group_by": ["model", "subject"]},
        {"group_by": "region", "period": "daily"},
        {"group_by": "region", "period": "weekly"},
        {"group_by": "model", "period": "lifetime"},
        {"filter": {"model": ["a/b", 12]}},
        {"filter": {"region": None}, "period": "yearly"},
    )
    before = [totals(there.now, **one) for one in questions]
    assert [len(one) for one in before] == [3, 2, 2, 3, 1, 1]
    later = there.now + timedelta(days=101)
    kept = there.client.query("SELECT * FROM usage_records")
    there.client.command("TRUNCATE TABLE usage_records")
    assert [totals(later, **one) for one in questions] == before
    for one in ({"group_by": "request"}, {"group_by": "model", "period": "hourly"}):
        with pytest.raises(RecordsExpired):
            totals(later, **one)
    insert(there.client, "usage_records", kept)

    # A dimension that is added later is kept by closing again, which is no new closing.
    there.define(dimensions=("request",))
    assert not there.periods.close("monthly", MONTH).is_new
    rows = there.client.rows("SELECT dimensions, record_count FROM closed_dimensions FINAL WHERE fields = ['request']")
    assert {(row["dimensions"], row["record_count"]) for row in rows} == {
        ('{"request":"1"}', 1),
        ('{"request":"2"}', 1),
        ("{}", 3),
    }
    # Rows that do not add up are noticed.
    assert there.proven() == []
    there.client.command(
        'INSERT INTO closed_dimensions SELECT * REPLACE (\'{"request":"x"}\' AS dimensions) '
        "FROM closed_dimensions WHERE fields = ['request'] LIMIT 1"
    )
    with pytest.raises(Fatal, match="do not add up"):
        there.periods.close("monthly", MONTH)
    assert [(one.place, one.found) for one in there.proven()] == [("closed_dimensions", "1 window with other sums")]


def test_the_command_line_closes_periods_and_shows_what_moved(there: There, tmp_path: Path) -> None:
    installation = there.installation
    path = tmp_path / "settings" / "meterfold.toml"
    write_settings(path, installation.kafka, installation.clickhouse)
    env = {"METERFOLD_CONFIG": str(path)}
    month = f"{MONTH:%Y-%m}"
    there.define()
    there.record(5)
    there.store()
    assert {row["reason"] for row in answer("periods", "due", env=env)["rows"]} == {"not closed"}
    first = answer("periods", "close", "--period", "monthly", "--month", month, env=env)
    (closing,) = first["closings"]
    assert (closing["is_new"], closing["window_count"], closing["revision"]) == (True, 1, 1)
    shown = inside("periods", "close", "--month", month, env=env)
    assert (shown.returncode, closing["checksum"] in shown.stdout) == (0, True)
    assert "1 was closed with the same numbers before" in shown.stderr
    day = f"{LAST_DAY:%Y-%m-%d}"
    assert [one["period_type"] for one in answer("periods", "close", "--day", day, env=env)["closings"]] == ["daily"]
    days = answer("periods", "close", "--period", "daily", "--month", month, env=env)["closings"]
    assert [one["is_new"] for one in days] == [True] * (LAST_DAY.day - 1) + [False]

    there.record(Decimal("-0.5"))
    there.store()
    run = answer("periods", "close", "--due", "--period", "monthly", env=env)
    assert [one["revision"] for one in run["closings"]] == [2]
    assert "nothing is due" in inside("periods", "close", "--due", "--period", "monthly", env=env).stderr
    (row,) = answer("periods", "adjustments", "--period", "monthly", env=env)["rows"]
    assert (row["subject_id"], row["old_quantity"], row["difference"], row["offsets"]) == ("ada", "5", "-0.5", [1])
    assert answer("periods", "adjustments", "--subject", "user:bob", env=env)["total"] == 0
    assert "-0.5" in inside("periods", "adjustments", "--month", month, env=env).stdout
    assert [one["revision"] for one in answer("periods", "list", "--period", "monthly", env=env)["rows"]] == [2, 1]
    assert answer("periods", "list", "--period", "monthly", "--newest", env=env)["total"] == 1

    # A difference: code 1 again and again, and the other periods are closed.
    monthly = [one.changed(sum=Decimal(7), folded_through=2) for one in windows_of(there.records)][2:3]
    there.record(1, "other")
    there.record(1)
    there.store()
    insert(there.client, "usage_windows", windows_table([one.changed(folded_through=99) for one in monthly]))
    for _ in range(2):
        differs = inside("periods", "close", "--due", env=env)
        assert (differs.returncode, "WINDOWS_DIFFER" in differs.stderr) == (1, True)
    assert {row["period_type"] for row in answer("periods", "due", env=env)["rows"]} == {"monthly"}
    for wrong, code in (
        (["close"], 2),
        (["close", "--due", "--month", month], 2),
        (["close", "--day", "2026-13-01"], 2),
        (["close", "--month", month, "--period", "daily", "--period", "monthly"], 2),
        (["close", "--month", f"{there.now:%Y-%m}"], 1),
        (["close", "--period", "daily", "--from", f"{day}T01:00", "--to", f"{day}T02:00"], 2),
    ):
        refused = inside("periods", *wrong, env=env)
        assert (refused.returncode, "Traceback" in refused.stderr) == (code, False), refused.stderr


def test_the_page_about_closings_runs_from_top_to_bottom(there: There, tmp_path: Path) -> None:
    installation = there.installation
    path = tmp_path / "settings" / "meterfold.toml"
    write_settings(path, installation.kafka, installation.clickhouse)
    env = {"METERFOLD_CONFIG": str(path)}
    there.define(dimensions=("model",))
    there.record(5, metric_key="api.calls", more={"metadata": '{"model":"a"}'})
    there.store()
    text = (ROOT / "docs" / "closing.md").read_text(encoding="utf-8")
    for written, now in (
        ("2026, 10, 1", f"{MONTH.year}, {MONTH.month}, 1"),
        ("2026-10-01", f"{MONTH:%Y-%m-%d}"),
        ("2026-10", f"{MONTH:%Y-%m}"),
    ):
        text = text.replace(written, now)
    answers = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        match language:
            case "sql":
                answers.append(there.client.rows(block))
            case "python":
                with mock.patch.dict(os.environ, env):
                    exec(compile(block, "closing.md", "exec"), {})  # noqa: S102
            case "":
                for line in block.splitlines():
                    command, *arguments = shlex.split(line, comments=True)
                    done = inside(*arguments, env=env)
                    assert (command, done.returncode) == ("meterfold", 0), f"{line}\n{done.stderr}"
    closed, moved, by_model, checksum = answers
    assert [row["total_quantity"] for row in closed] == [5]
    assert (moved, by_model) == ([], [{"model": "a", "total": 5}])
    assert checksum[0]["checksum"] == there.periods.get("monthly", MONTH).checksum
