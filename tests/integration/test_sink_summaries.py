"""The views of usage, read as any client would read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from meterfold_local.stack import LocalStack
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.periods import Period, micros
from meterfold_sink.client import Client
from meterfold_sink.rules import FoldRules
from meterfold_sink.usage_groups import Grouping
from meterfold_sink.usage_states import Of, Piece, states
from support.sink.database import database, empty, insert, rows, store
from support.sink.rows import Record, progress_table, window, windows_table


@pytest.fixture(scope="module")
def shared(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        yield client


@pytest.fixture
def client(shared: Client) -> Client:
    return empty(shared)


def day(year: int, month: int, of_month: int) -> datetime:
    return datetime(year, month, of_month, tzinfo=UTC)


def define(
    client: Client, key: str, aggregation_type: str, org_id: str = "", version: int = 1, deleted: int = 0
) -> None:
    client.command(
        "INSERT INTO metric_definitions (id, key, name, unit, aggregation_type, reset_period, org_id, is_active, "
        "version, deleted) SELECT 'id', {key:String}, 'n', 'u', {type:String}, 'monthly', {org:String}, true, "
        "{version:Int64}, {deleted:UInt8}",
        {"key": key, "type": aggregation_type, "org": org_id, "version": version, "deleted": deleted},
    )


def summaries(client: Client, period: str, settings: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return client.rows(
        "SELECT * FROM usage_summaries WHERE period_type = {period:String} ORDER BY period_start, org_id, metric_key",
        {"period": period},
        settings,
    )


def totals(client: Client, period: str) -> dict[str, Decimal | None]:
    return {row["org_id"] + "/" + row["metric_key"]: row["total_quantity"] for row in summaries(client, period)}


AT = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly", "lifetime")
FIVE = [Decimal(text) for text in ("3", "-1.5", "8.000000001", "2", "2.5")]


@pytest.mark.parametrize(
    ("aggregation_type", "expected"),
    [
        ("count", "5"),
        ("sum", "14.000000001"),
        ("avg", "2.800000000"),
        ("min", "-1.5"),
        ("max", "8.000000001"),
        ("last", "2.5"),
    ],
)
def test_the_total_is_by_the_metrics_own_type(client: Client, aggregation_type: str, expected: str) -> None:
    define(client, "calls", aggregation_type)
    store(client, [Record(i, AT, quantity) for i, quantity in enumerate(FIVE)])
    for period in PERIODS:
        (row,) = summaries(client, period)
        assert row["total_quantity"] == Decimal(expected), period
        assert (row["record_count"], row["sum"]) == (5, Decimal("14.000000001"))
        assert (row["min_quantity"], row["max_quantity"]) == (Decimal("-1.5"), Decimal("8.000000001"))
        assert (row["avg_quantity"], row["last_quantity"]) == (Decimal("2.8"), Decimal("2.5"))


def test_an_own_definition_hides_the_global_one_until_it_is_deleted(client: Client) -> None:
    define(client, "calls", "count")
    define(client, "calls", "max", org_id="acme")
    for offset, (org, metric) in enumerate([("acme", "calls"), ("other", "calls"), ("", "calls"), ("acme", "unknown")]):
        store(client, [Record(2 * offset + i, AT, 7 + i, org_id=org, metric_key=metric) for i in range(2)])
    expected = {"acme/calls": 8, "other/calls": 2, "/calls": 2, "acme/unknown": None}
    assert totals(client, "daily") == expected
    define(client, "calls", "max", org_id="acme", version=2, deleted=1)
    assert totals(client, "daily") == {**expected, "acme/calls": 2}
    define(client, "calls", "min", org_id="acme", version=1)  # an older version that comes late
    assert totals(client, "daily") == {**expected, "acme/calls": 2}


def test_a_metric_without_a_definition_has_no_total_rather_than_another_one(client: Client) -> None:
    store(client, [Record(0, AT, "10.5"), Record(1, AT, "8.25")])
    define(client, "calls", "max")
    for period in PERIODS:
        assert totals(client, period) == {"acme/calls": Decimal("10.5")}, period
    define(client, "calls", "max", version=2, deleted=1)
    for period in PERIODS:
        (row,) = summaries(client, period)
        assert row["total_quantity"] is None, period
        assert (row["record_count"], row["sum"], row["max_quantity"]) == (2, Decimal("18.75"), Decimal("10.5"))


@pytest.mark.parametrize("period", PERIODS)
def test_the_view_of_a_period_has_its_rows_and_no_other(client: Client, period: str) -> None:
    define(client, "calls", "sum")
    store(client, [Record(i, AT + timedelta(days=40 * i), 10**i) for i in range(3)])
    found = client.rows(f"SELECT * FROM usage_{period} ORDER BY period_start")
    assert [{**row, "period_type": period} for row in found] == summaries(client, period)
    (count, total) = client.rows(f"SELECT sum(record_count) AS n, sum(total_quantity) AS t FROM usage_{period}")[
        0
    ].values()
    assert (count, total) == (3, 111)


@pytest.mark.parametrize("period", PERIODS)
def test_decimals_have_38_digits_which_polars_reads(client: Client, period: str) -> None:
    define(client, "calls", "avg")
    store(client, [Record(0, AT, "1.000000001"), Record(1, AT, "2", metric_key="undefined")])
    decimals = ["total_quantity", "sum", "min_quantity", "max_quantity", "avg_quantity", "last_quantity"]
    for source in (f"usage_{period}", f"usage_summaries WHERE period_type = '{period}'"):
        table = client.query(f"SELECT {', '.join(decimals)} FROM {source}")
        assert {table.schema.field(name).type for name in decimals} == {pa.decimal128(38, 9)}
        frame = pl.DataFrame(table)
        assert dict(frame.schema) == dict.fromkeys(decimals, pl.Decimal(38, 9))
        assert sorted(frame["total_quantity"].to_list(), key=str) == [Decimal("1.000000001"), None]


def test_the_readers_own_settings_change_nothing(client: Client) -> None:
    define(client, "defined", "last", org_id="acme")
    store(client, [Record(0, AT, 7), Record(1, AT, 3, metric_key="defined"), Record(2, AT, 5, metric_key="defined")])
    plain = summaries(client, "monthly")
    assert [row["total_quantity"] for row in plain] == [None, 5]
    assert plain == summaries(client, "monthly", {"join_use_nulls": 1, "transform_null_in": 1})


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [
        ("1", 3, "0.333333333"),
        ("2", 3, "0.666666667"),
        ("-1", 3, "-0.333333333"),
        ("-2", 3, "-0.666666667"),
        ("0.000000001", 2, "0.000000001"),  # half a unit: away from zero
        ("-0.000000001", 2, "-0.000000001"),
        ("0.000000001", 3, "0"),
        ("-0.000000001", 3, "0"),
        ("0.000000005", 10, "0.000000001"),
        ("0", 4, "0"),
        ("99999999999999999999999999999.999999999", 1, "99999999999999999999999999999.999999999"),
    ],
)
def test_averages_round_half_away_from_zero(client: Client, total: str, count: int, expected: str) -> None:
    define(client, "calls", "avg")
    insert(client, "usage_windows", windows_table([window(Period.MONTHLY, day(2026, 3, 1), total, record_count=count)]))
    (row,) = summaries(client, "monthly")
    assert row["avg_quantity"] == row["total_quantity"] == Decimal(expected)


LARGEST = Decimal("99999999999999999999999999999.999999999")
SMALLEST_STEP = Decimal("0.000000001")


@pytest.mark.parametrize(
    "months",
    [
        [LARGEST] * 12,  # beyond 2^127
        [LARGEST, SMALLEST_STEP],  # 39 digits that 128 bits can hold
        [LARGEST.copy_negate(), SMALLEST_STEP.copy_negate()],
    ],
    ids=["beyond 128 bits", "39 digits", "39 digits below zero"],
)
def test_history_37_a_sum_of_sums_that_does_not_fit_is_an_error_and_never_another_number(
    client: Client, months: list[Decimal]
) -> None:
    define(client, "calls", "sum")
    rows_ = [window(Period.MONTHLY, day(2026, i + 1, 1), total, last_offset=i) for i, total in enumerate(months)]
    insert(client, "usage_windows", windows_table(rows_))
    for columns in ("*", "total_quantity", "sum", "total_quantity * 0"):
        with pytest.raises(MeterfoldError, match=r"does not fit into Decimal\(38, 9\): read a shorter period"):
            client.query(f"SELECT {columns} FROM usage_yearly")
    # What fits can be read beside it.
    (year,) = client.rows("SELECT avg_quantity, max_quantity, record_count FROM usage_yearly")
    assert (year["max_quantity"], year["record_count"]) == (max(months), len(months))
    define(client, "calls", "max", version=2)
    assert client.value("SELECT total_quantity FROM usage_yearly") == max(months)


def test_history_37_the_largest_sums_and_averages_do_not_wrap(client: Client) -> None:
    define(client, "calls", "sum")
    halves = [Decimal("99999999999999999999999999998.999999999"), Decimal(1)]
    rows_ = [window(Period.MONTHLY, day(2026, i + 1, 1), total, last_offset=i) for i, total in enumerate(halves)]
    insert(client, "usage_windows", windows_table(rows_))
    (year,) = summaries(client, "yearly")
    assert year["sum"] == year["total_quantity"] == LARGEST
    many = [window(Period.MONTHLY, day(2027, month, 1), LARGEST, last_offset=month) for month in range(1, 13)]
    insert(client, "usage_windows", windows_table(many))
    assert client.value("SELECT avg_quantity FROM usage_yearly WHERE period_start = '2027-01-01'") == LARGEST
    tenth = window(Period.LIFETIME, day(1970, 1, 1), Decimal(10) ** 26, record_count=3, metric_key="tenth")
    insert(client, "usage_windows", windows_table([tenth]))
    define(client, "tenth", "avg")
    (lifetime,) = summaries(client, "lifetime")
    assert lifetime["total_quantity"] == Decimal("33333333333333333333333333.333333333")


@pytest.mark.parametrize("period", PERIODS)
def test_conditions_of_a_reader_reach_the_sort_key_of_one_branch(client: Client, period: str) -> None:
    define(client, "calls", "sum")
    store(client, [Record(i, AT + timedelta(days=i), 1, subject_id=f"s{i}") for i in range(3)])
    start = {"yearly": "2026-01-01", "monthly": "2026-03-01", "weekly": "2026-03-09", "lifetime": "1970-01-01"}
    conditions = (
        "org_id = 'acme' AND metric_key = 'calls' AND subject_type = 'user' AND subject_id = 's1' "
        f"AND period_start = '{start.get(period, '2026-03-10')}'"
    )
    for source in (f"usage_{period} WHERE", f"usage_summaries WHERE period_type = '{period}' AND"):
        plan = [
            row["explain"]
            for row in client.rows(f"EXPLAIN indexes = 1 SELECT total_quantity FROM {source} {conditions}")
        ]
        text = "\n".join(plan)
        assert text.count("ReadFromMergeTree") - text.count(".metric_definitions)") - text.count(".fold_progress)") == 6
        # A branch whose condition is never true reads nothing, so the plan lists no index for it.
        keys = re.findall(r"Condition: (and\(.*period_type in .*)", text)
        assert len(keys) == 1, text
        for column in ("org_id", "metric_key", "subject_type", "subject_id", "period_start"):
            assert column in keys[0], column


def test_weeks_begin_on_monday_and_go_over_new_year(client: Client) -> None:
    days = [day(2026, 12, 27), day(2026, 12, 28), day(2026, 12, 31), day(2027, 1, 1), day(2027, 1, 3), day(2027, 1, 4)]
    store(client, [Record(i, at + timedelta(hours=23), 10**i) for i, at in enumerate(days)])
    weeks = summaries(client, "weekly")
    assert [(row["period_start"], row["period_end"], row["sum"]) for row in weeks] == [
        (day(2026, 12, 21), day(2026, 12, 28), 1),  # the 27th is a Sunday
        (day(2026, 12, 28), day(2027, 1, 4), 11110),
        (day(2027, 1, 4), day(2027, 1, 11), 100000),
    ]
    years = summaries(client, "yearly")
    assert [(row["period_start"], row["period_end"], row["sum"], row["record_count"]) for row in years] == [
        (day(2026, 1, 1), day(2027, 1, 1), 111, 3),
        (day(2027, 1, 1), day(2028, 1, 1), 111000, 3),
    ]


def test_leap_days_belong_to_their_month_and_week(client: Client) -> None:
    store(client, [Record(0, datetime(2028, 2, 29, 23, 59, 59, 999999, tzinfo=UTC), 5), Record(1, day(2028, 3, 1), 7)])
    months = summaries(client, "monthly")
    assert [(row["period_start"], row["period_end"], row["sum"]) for row in months] == [
        (day(2028, 2, 1), day(2028, 3, 1), 5),
        (day(2028, 3, 1), day(2028, 4, 1), 7),
    ]
    (week,) = summaries(client, "weekly")
    assert (week["period_start"], week["period_end"], week["sum"]) == (day(2028, 2, 28), day(2028, 3, 6), 12)
    (year,) = summaries(client, "yearly")
    assert (year["period_end"], year["sum"]) == (day(2029, 1, 1), 12)


def test_the_last_quantity_is_the_latest_by_timestamp_then_offset(client: Client) -> None:
    define(client, "calls", "last")
    monday, tuesday = day(2026, 3, 9), day(2026, 3, 10)
    # The later day was folded first, and two records share its last timestamp.
    store(client, [Record(0, tuesday, 1), Record(1, tuesday, 2), Record(2, monday, 3)])
    for period in ("weekly", "monthly", "yearly", "lifetime"):
        (row,) = summaries(client, period)
        assert row["total_quantity"] == row["last_quantity"] == 2, period


def test_a_window_is_final_when_end_and_grace_have_passed_by_its_partitions_stamps(client: Client) -> None:
    hour = datetime(2026, 3, 10, 12, tzinfo=UTC)
    store(client, [Record(0, hour, 1), Record(0, hour, 1, partition=1, subject_id="s2")])

    def final() -> list[bool]:
        found = client.rows("SELECT is_final FROM usage_summaries WHERE period_type = 'hourly' ORDER BY subject_id")
        return [row["is_final"] for row in found]

    def stamp(partition: int, next_offset: int, at: datetime) -> None:
        insert(client, "fold_progress", progress_table(partition, next_offset, at))

    assert final() == [False, False]
    end = hour + timedelta(hours=1) + timedelta(seconds=3600)  # the default grace
    stamp(0, 2, end - timedelta(microseconds=1))
    assert final() == [False, False]
    stamp(0, 3, end)
    assert final() == [True, False]
    stamp(1, 3, end)
    assert final() == [True, True]
    (row, _) = summaries(client, "hourly")
    assert row["updated_at"] == end
    (lifetime, _) = summaries(client, "lifetime")
    assert (lifetime["period_end"], lifetime["is_final"]) == (None, False)


def test_a_stamp_in_the_future_makes_no_open_window_final(client: Client) -> None:
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    insert(client, "usage_windows", windows_table([window(Period.HOURLY, start, 1)]))
    insert(client, "fold_progress", progress_table(0, 1, start + timedelta(days=30)))
    (row,) = summaries(client, "hourly")
    assert row["is_final"] is False


def test_before_any_progress_nothing_is_final_and_nothing_is_updated(client: Client) -> None:
    insert(client, "usage_windows", windows_table([window(Period.DAILY, day(2020, 1, 1), 1)]))
    (row,) = summaries(client, "daily")
    assert (row["is_final"], row["updated_at"]) == (False, None)


def test_every_period_is_there_once(client: Client) -> None:
    store(client, [Record(i, AT + timedelta(days=i), 1) for i in range(3)])
    found = rows(client, "SELECT period_type, count() AS n FROM usage_summaries GROUP BY period_type")
    counts = {row["period_type"]: row["n"] for row in found}
    assert counts == {"hourly": 3, "daily": 3, "weekly": 1, "monthly": 1, "yearly": 1, "lifetime": 1}


def test_one_subject_and_month_reads_one_granule_of_many(client: Client) -> None:
    """The conditions of get_summary and of a reader of the view reach the sort key: a look-up does not grow with the
    table."""
    define(client, "calls", "sum")
    client.command(
        "INSERT INTO usage_windows SELECT 'acme', 'calls', 'user', concat('u', toString(number)), 'monthly', "
        "'2026-03-01', 0, 1, 1, 1, 1, 1, '2026-03-02', number, number FROM numbers(100000)"
    )
    client.command("OPTIMIZE TABLE usage_windows FINAL")
    month = micros(day(2026, 3, 1)), micros(day(2026, 4, 1))
    of = Of("calls", "acme", ("user", "u77777"))
    rules = FoldRules(cluster_id="c", topic_id="t", partition_count=1)
    statement = states(rules, of, [Piece(0, "monthly", *month)], Grouping(by_subject=True))
    view = (
        "SELECT * FROM usage_monthly WHERE period_start = '2026-03-01' AND org_id = {org_id:String} "
        "AND metric_key = {metric_key:String} AND subject_type = {subject_type:String} "
        "AND subject_id = {subject_id:String}"
    )
    for sql in (statement, view):
        assert len(client.rows(sql, of.parameters(rules))) == 1
        plan = client.rows(f"EXPLAIN indexes = 1 {sql}", of.parameters(rules))
        text = "\n".join(row["explain"] for row in plan)
        granules = [(int(a), int(b)) for a, b in re.findall(r"Granules: (\d+)/(\d+)", text) if int(b) > 10]
        # Of the whole table, and then of what the key leaves.
        assert granules, text
        assert granules[0][1] >= 12, text
        assert min(chosen for chosen, _ in granules) <= 2, text
