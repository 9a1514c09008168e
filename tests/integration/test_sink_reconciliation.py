"""The view usage_reconciliation and the proof on a running system: empty unless something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from meterfold_local.stack import LocalStack
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.periods import Period, micros
from meterfold_schemas.quantities import MAX_STORED, to_decimal
from meterfold_sink.client import Client
from meterfold_sink.proof import PartitionProof, prove_partitions
from support.sink.database import database, empty, insert, rows, store
from support.sink.rows import NOW, Record, Window, progress_table, records_table, window, windows_of, windows_table


@pytest.fixture(scope="module")
def shared(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        yield client


@pytest.fixture
def client(shared: Client) -> Client:
    return empty(shared)


def history() -> list[Record]:
    """Some records of two subjects over three hours and two days: ties, credits, late ones."""
    base = NOW.replace(hour=0, minute=0, second=0) - timedelta(days=3)
    return [
        Record(0, base, "1.5"),
        Record(1, base, "-2"),
        Record(2, base + timedelta(hours=1), "3", subject_id="s2"),
        Record(4, base + timedelta(days=1), "99999999999999999999.999999999"),
        Record(5, base - timedelta(hours=5), "0.000000001"),
        Record(7, base, "7"),
        Record(9, base + timedelta(minutes=59), "1", subject_id="s2", metric_key="Ä'\\{x:String}\n"),
    ]


EPOCH = datetime.fromtimestamp(0, UTC)

View = Callable[[Client], list[dict[str, Any]]]


def by_view(client: Client) -> list[dict[str, Any]]:
    return rows(client, "SELECT * FROM usage_reconciliation ORDER BY ALL")


def prove_partition(client: Client, partition: int, **more: Any) -> PartitionProof:
    (proof,) = prove_partitions(client, [partition], **more)
    return proof


def by_proof(client: Client) -> list[dict[str, Any]]:
    return prove_partition(client, 0).differences


@pytest.fixture(params=[by_view, by_proof])
def differences(request: pytest.FixtureRequest) -> View:
    view: View = request.param
    return view


def findings(found: list[dict[str, Any]]) -> dict[str, set[str]]:
    """finding -> the periods it was found in."""
    result: dict[str, set[str]] = {}
    for row in found:
        result.setdefault(row["finding"], set()).add(row["period_type"])
    return result


KEPT_BUT_LIFETIME = {"hourly", "daily", "monthly"}


def test_a_right_fold_is_proven(client: Client, differences: View) -> None:
    store(client, history())
    assert differences(client) == []
    # Repeated inserts show twice in the tables until they are merged, and still count once.
    insert(client, "usage_records", records_table(history()))
    insert(client, "usage_windows", windows_table(windows_of(history()[:4])))
    assert differences(client) == []


def test_nothing_at_all_is_proven(client: Client, differences: View) -> None:
    assert differences(client) == []


def test_a_removed_record_is_found(client: Client, differences: View) -> None:
    store(client, history())
    client.command("ALTER TABLE usage_records DELETE WHERE offset = 1 SETTINGS mutations_sync = 1")
    found = differences(client)
    assert findings(found) == {"different": KEPT_BUT_LIFETIME}
    hour = next(row for row in found if row["period_type"] == "hourly")
    assert (hour["stored_count"], hour["recounted_count"]) == (3, 2)
    assert (hour["stored_sum"], hour["recounted_sum"]) == (Decimal("6.5"), Decimal("8.5"))
    assert (hour["stored_min"], hour["recounted_min"]) == (-2, Decimal("1.5"))


def test_sums_have_38_digits_and_a_recount_that_needs_more_is_an_error(client: Client) -> None:
    types = {row["name"]: row["type"] for row in rows(client, "DESCRIBE TABLE usage_reconciliation")}
    assert (types["stored_sum"], types["recounted_sum"]) == ("Decimal(38, 9)", "Decimal(38, 9)")
    largest, half = to_decimal(MAX_STORED), to_decimal(MAX_STORED // 2)
    base = NOW.replace(day=1, hour=0, minute=0, second=0)
    months = [base, (base - timedelta(days=1)).replace(day=1)]
    # Two months of half the range each: with one billionth more their lifetime leaves it, where 128 bits would not.
    windows = [window(Period.MONTHLY, month, half) for month in months]
    insert(client, "usage_windows", windows_table([*windows, window(Period.LIFETIME, EPOCH, 0)]))
    (lifetime,) = rows(client, "SELECT * FROM usage_reconciliation WHERE period_type = 'lifetime'")
    assert (lifetime["stored_sum"], lifetime["recounted_sum"]) == (0, to_decimal(MAX_STORED - 1))
    insert(client, "usage_windows", windows_table([windows[0].changed(sum=largest, folded_through=9)]))
    with pytest.raises(MeterfoldError, match=r"recounted_sum does not fit into Decimal\(38, 9\)"):
        rows(client, "SELECT * FROM usage_reconciliation WHERE period_type = 'lifetime'")


def test_the_last_record_of_a_window_removed_is_found(client: Client, differences: View) -> None:
    store(client, history())
    client.command("ALTER TABLE usage_records DELETE WHERE offset IN (4, 7) SETTINGS mutations_sync = 1")
    found = findings(differences(client))
    assert {"hourly", "daily"} <= found["records missing"]
    assert {"hourly", "daily"} <= found["different"]


def test_a_doubled_record_is_found(client: Client, differences: View) -> None:
    store(client, history())
    first = history()[0]
    insert(client, "usage_records", records_table([Record(3, first.timestamp, first.quantity, id="id-0-0")]))
    assert findings(differences(client)) == {"different": KEPT_BUT_LIFETIME}


@pytest.mark.parametrize("change", ["quantity", "timestamp", "subject"])
def test_an_altered_record_is_found(client: Client, differences: View, change: str) -> None:
    store(client, history())
    altered = {
        "quantity": "quantity = quantity + toDecimal128('0.000000001', 9)",
        "timestamp": "timestamp = timestamp + INTERVAL 1 MICROSECOND",
        "subject": "subject_id = 's3'",
    }[change]
    client.command(f"ALTER TABLE usage_records UPDATE {altered} WHERE offset = 7 SETTINGS mutations_sync = 1")
    # The month's last record is another one, so it does not show when this one was moved within its hour.
    expected = {"hourly", "daily"} if change == "timestamp" else KEPT_BUT_LIFETIME
    assert {row["period_type"] for row in differences(client)} == expected


@pytest.mark.parametrize(
    "column", ["record_count", "sum", "min", "max", "last", "last_timestamp", "last_offset", "folded_through"]
)
@pytest.mark.parametrize("period", ["hourly", "lifetime"])
def test_each_altered_column_of_a_window_is_found(client: Client, period: str, column: str) -> None:
    records = history()[:2]
    insert(client, "usage_records", records_table(records))
    insert(client, "fold_progress", progress_table(0, 2))

    def altered(window: Window) -> Window:
        value = getattr(window, column)
        step = (
            timedelta(microseconds=1)
            if column == "last_timestamp"
            else Decimal("1e-9")
            if column in ("sum", "min", "max", "last")
            else 1
        )
        return window.changed(**{column: value + step}) if window.period_type == period else window

    insert(client, "usage_windows", windows_table([altered(window) for window in windows_of(records)]))
    found = by_view(client)
    assert period in {row["period_type"] for row in found}
    # A changed month also is no longer what its lifetime says; nothing else is wrong.
    assert {row["period_type"] for row in found} <= {period, "lifetime"}


@pytest.mark.parametrize("period", ["hourly", "daily", "monthly", "lifetime"])
def test_a_missing_window_is_found(client: Client, differences: View, period: str) -> None:
    records = history()
    insert(client, "usage_records", records_table(records))
    insert(client, "fold_progress", progress_table(0, 10))
    kept = [w for w in windows_of(records) if not (w.period_type == period and w.subject_id == "s1")]
    insert(client, "usage_windows", windows_table(kept))
    found = findings(differences(client))
    assert period in found["window missing"]


def test_a_window_without_any_record_is_found(client: Client, differences: View) -> None:
    store(client, history())
    invented = [w.changed(subject_id="s9") for w in windows_of(history()[:1])]
    insert(client, "usage_windows", windows_table(invented))
    assert findings(differences(client)) == {"records missing": KEPT_BUT_LIFETIME}


def test_a_window_that_fell_back_to_an_older_state_is_found(client: Client, differences: View) -> None:
    """Its own folded_through explains what it holds; the progress says that there must be more."""
    insert(client, "usage_records", records_table(history()))
    insert(client, "fold_progress", progress_table(0, 10))
    insert(client, "usage_windows", windows_table(windows_of(history()[:4])))
    assert "different" in findings(differences(client))


def test_history_14_a_missing_window_has_folded_nothing_not_offset_0(client: Client, differences: View) -> None:
    """Offset 0 is stored and its windows are not, before the first progress: the fold has not got there yet."""
    insert(client, "usage_records", records_table(history()[:1]))
    assert differences(client) == []
    insert(client, "fold_progress", progress_table(0, 0))
    assert differences(client) == []
    insert(client, "fold_progress", progress_table(0, 1))
    assert findings(differences(client)) == {"window missing": KEPT_BUT_LIFETIME}


def test_records_that_are_not_folded_yet_are_no_difference(client: Client, differences: View) -> None:
    records = history()
    store(client, records[:4])
    insert(client, "usage_records", records_table(records[4:]))
    assert differences(client) == []


def test_a_flush_that_wrote_only_some_windows_is_no_difference(client: Client, differences: View) -> None:
    """Windows are newer than the progress: each is compared up to its own offset."""
    records = history()
    store(client, records[:4])
    insert(client, "usage_records", records_table(records[4:]))
    newer = [window for window in windows_of(records) if window.period_type == Period.HOURLY]
    insert(client, "usage_windows", windows_table(newer))
    assert differences(client) == []


@pytest.mark.parametrize("moment", ["before the comparison", "after the copy"])
def test_history_35_windows_that_move_while_they_are_proven_are_no_difference(client: Client, moment: str) -> None:
    """The fold goes on between the progress, the windows and the recount, as the real one does."""
    records = history()
    store(client, records[:3])
    if moment == "after the copy":
        # Only windows that are newer than the progress are copied.
        insert(client, "usage_records", records_table(records[:4]))
        insert(client, "usage_windows", windows_table(windows_of(records[:4])))
    moved = 0

    class Moving(Client):
        """Folds the rest once the progress was read, or once windows are copied."""

        def __init__(self) -> None:
            super().__init__(client._connection, client.database)

        def command(self, sql: str, *args: Any, **more: Any) -> None:
            nonlocal moved
            if moment == "before the comparison" and "_suspects (" in sql and "INSERT" in sql:
                store(client, records)
                moved += 1
            super().command(sql, *args, **more)
            if moment == "after the copy" and "SELECT org_id" in sql and "verify_" in sql:
                store(client, records)
                moved += 1

    moving = Moving()
    proof = prove_partition(moving, 0)
    assert moved
    assert proof.proven
    assert proof.progress is not None
    assert proof.progress.next_offset == 3 or moment == "before the comparison"
    assert prove_partition(client, 0).proven
    assert (
        rows(client, "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE 'verify_%'") == []
    )


def test_a_lifetime_seen_before_its_month_is_looked_at_again(client: Client) -> None:
    records = history()[:2]
    store(client, records[:1])
    insert(client, "usage_records", records_table(records))
    lifetime = [window for window in windows_of(records) if window.period_type == Period.LIFETIME]
    insert(client, "usage_windows", windows_table(lifetime))
    assert not prove_partition(client, 0, attempts=1).proven  # nobody finishes this flush
    looks = 0

    class Finishing(Client):
        """Finishes the flush after the first look."""

        def __init__(self) -> None:
            super().__init__(client._connection, client.database)

        def command(self, sql: str, *args: Any, **more: Any) -> None:
            nonlocal looks
            super().command(sql, *args, **more)
            if "SELECT org_id" in sql and "verify_" in sql:
                looks += 1
                if looks == 1:
                    store(client, records)

    assert prove_partition(Finishing(), 0).proven
    assert looks == 2


def test_windows_whose_records_may_have_expired_are_told_apart(client: Client) -> None:
    old = Record(0, NOW - timedelta(days=100), 5)  # the retention of the stored rules
    windows = windows_of([old, Record(1, NOW - timedelta(days=50), 7)])
    insert(client, "usage_records", records_table([Record(1, NOW - timedelta(days=50), 7)]))
    insert(client, "usage_windows", windows_table(windows))
    insert(client, "fold_progress", progress_table(0, 2))
    assert by_view(client) == []
    unprovable = rows(client, "SELECT period_type FROM usage_unprovable_windows ORDER BY period_type")
    assert [row["period_type"] for row in unprovable] == ["daily", "hourly", "monthly"]
    proof = prove_partition(client, 0)
    assert (proof.proven, proof.windows, proof.unprovable, proof.records) == (True, 7, 3, 1)
    # Its month still has to add up to the lifetime.
    wrong = [w.changed(sum=Decimal(6)) for w in windows if w.period_type == Period.MONTHLY and w.last_offset == 0]
    client.command("TRUNCATE TABLE usage_windows")
    kept = [w for w in windows if not (w.period_type == Period.MONTHLY and w.last_offset == 0)]
    insert(client, "usage_windows", windows_table(kept + wrong))
    assert findings(by_view(client)) == {"different": {"lifetime"}}


def test_a_range_of_time_is_proven_by_itself(client: Client) -> None:
    """Windows that lie in it as a whole, from records that arrived when such ones can."""
    records = history()
    store(client, records)
    start = records[0].timestamp
    day = (micros(start), micros(start + timedelta(days=1)))
    proof = prove_partition(client, 0, within=day)
    # Of the first day: two hours of s1 and s2, the hour of the odd metric, and three days; no month, no lifetime.
    assert (proof.proven, proof.windows, proof.records) == (True, 3 + 3, 5)
    client.command(
        "INSERT INTO usage_windows SELECT * REPLACE (sum + 1 AS sum) FROM usage_windows FINAL "
        "WHERE period_type IN ('monthly', 'lifetime') OR subject_id = 's2'"
    )
    found = {(row["period_type"], row["subject_id"]) for row in prove_partition(client, 0, within=day).differences}
    assert found == {("hourly", "s2"), ("daily", "s2")}
    # An hour later the range cuts the first hour and the day.
    cut = (day[0] + 3_600_000_000, day[1])
    (row,) = prove_partition(client, 0, within=cut).differences
    assert (row["period_type"], row["subject_id"], row["metric_key"]) == ("hourly", "s2", "calls")


def test_the_proof_is_of_the_partitions_that_were_asked_for(client: Client) -> None:
    store(client, history())
    broken = [Record(0, NOW, 1, partition=3)]
    store(client, broken)
    client.command("TRUNCATE TABLE usage_records")
    insert(client, "usage_records", records_table(history()))
    assert prove_partition(client, 0).proven
    assert not prove_partition(client, 3).proven
    first, third = prove_partitions(client, [0, 3], limit=2)
    assert first == prove_partition(client, 0)
    assert (third.partition, third.proven, third.windows, third.records) == (3, False, 4, 0)
    assert third.progress is not None
    assert third.progress.next_offset == 1
    assert [row["partition"] for row in third.differences] == [3, 3]
    (nothing,) = prove_partitions(client, [5])
    assert (nothing.progress, nothing.windows, nothing.records, nothing.proven) == (None, 0, 0, True)
    assert {row["partition"] for row in by_view(client)} == {3}
