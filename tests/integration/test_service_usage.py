"""usage.get and usage.getSummary on real ClickHouse, against a recount of the same records in plain Python."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from meterfold_local.stack import LocalStack
from meterfold_schemas.errors import InvalidUsage
from meterfold_service import MetricNotFound, RecordsExpired
from meterfold_service.usage.operations import Usage
from meterfold_service.usage.results import UsageSummary
from meterfold_sink.client import Client
from support.sink.database import RULES, database, empty, insert, store
from support.sink.rows import Record, progress_table, records_table, windows_of, windows_table
from support.usage_recount import calls as record
from support.usage_recount import define_metric as define
from support.usage_recount import first_day, numbers, recounted, usage_at

NOW = datetime(2026, 11, 29, 10, 30, tzinfo=UTC)
AGGREGATIONS = ("count", "sum", "avg", "max", "min", "last")
SUBJECTS = tuple(
    (org, kind, name) for org in ("", "acme") for kind, name in (("user", "ada"), ("user", "bob"), ("team", "x"))
)


@pytest.fixture(scope="module")
def _database(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        yield client


@pytest.fixture
def client(_database: Client) -> Client:
    return empty(_database)


def usage(client: Client, now: datetime = NOW) -> Usage:
    return usage_at(client, now)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def some_records(count: int, start: datetime, end: datetime, seed: int = 7) -> list[Record]:
    """Many on the same quarter of an hour, and some on the edges of days."""
    chance = random.Random(seed)
    quarters = int((end - start) / timedelta(minutes=15))
    found = []
    for number in range(count):
        when = start + timedelta(minutes=15 * chance.randrange(quarters))
        when += timedelta(microseconds=chance.choice((0, 0, 1, 899_999_999)))
        quantity = Decimal(chance.randrange(-(10**12), 10**13)).scaleb(-chance.randrange(10))
        found.append(record(number, when, quantity, *chance.choice(SUBJECTS)))
    return found


START, END = at(2026, 9, 20), at(2026, 11, 29)


@pytest.mark.parametrize(
    ("period", "tz", "anchor"),
    [
        ("daily", "Europe/Berlin", None),  # with a day of 25 hours
        ("daily", "Asia/Kathmandu", None),
        ("weekly", "Asia/Kolkata", None),
        ("monthly", "America/New_York", None),
        ("monthly", "Australia/Lord_Howe", None),
        ("yearly", "Pacific/Chatham", None),
        ("billing", "Europe/Berlin", 31),
        ("billing", "America/St_Johns", 30),
        ("billing", None, 1),
    ],
)
def test_every_period_equals_a_plain_recount(client: Client, period: str, tz: str | None, anchor: int | None) -> None:
    records = some_records(600, START, END)
    store(client, records)
    # A repeated insert changes nothing, before a merge either.
    insert(client, "usage_records", records_table(records))
    insert(client, "usage_windows", windows_table(windows_of(records)))
    zone = ZoneInfo(tz or "UTC")
    for kind in AGGREGATIONS if period == "billing" else ("sum",):
        define(client, kind)
        expected: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
        for one in records:
            day = first_day(period, one.timestamp.astimezone(zone).date(), anchor or 1)
            expected[day, one.org_id, one.subject_type, one.subject_id].append(one)
            expected[day, one.org_id, None, None].append(one)
        asked = {"period": period, "tz": tz, "anchor": anchor, "start": START, "end": END, "org_id": None}
        rows: list[UsageSummary] = []
        for by_subject in (False, True):
            page = usage(client).get_summary("calls", **asked, by_subject=by_subject, limit=1000)
            assert page.total == len(page.rows)
            rows += page.rows
        found = {
            (row.period_start.astimezone(zone).date(), row.org_id, row.subject_type, row.subject_id): numbers(row)
            for row in rows
        }
        assert len(found) == len(rows)
        assert found == {key: recounted(those, kind) for key, those in expected.items()}
        # One subject alone is the same as in the list of all.
        (org, subject_type, subject_id) = SUBJECTS[4]
        alone = usage(client).get_summary(
            "calls", **{**asked, "org_id": org}, subject=(subject_type, subject_id), limit=1000
        )
        mine = [row for row in rows if (row.org_id, row.subject_type, row.subject_id) == SUBJECTS[4]]
        assert list(alone.rows) == mine


def test_local_hours_are_made_of_records_where_the_zone_is_half_an_hour_off(client: Client) -> None:
    define(client)
    records = some_records(300, at(2026, 11, 1), at(2026, 11, 3))
    store(client, records)
    page = usage(client).get_summary(
        "calls", period="hourly", tz="Asia/Kathmandu", start=at(2026, 11, 1), end=at(2026, 11, 3), limit=1000
    )
    zone = ZoneInfo("Asia/Kathmandu")
    expected: dict[datetime, list[Record]] = defaultdict(list)
    for one in records:
        if one.org_id == "":
            expected[one.timestamp.astimezone(zone).replace(minute=0, second=0, microsecond=0)].append(one)
    assert {row.period_start: numbers(row) for row in page.rows} == {
        hour: recounted(those, "sum") for hour, those in expected.items()
    }


def test_utc_periods_are_those_of_the_view(client: Client) -> None:
    define(client, "max", org_id="acme")
    store(client, some_records(120, at(2026, 11, 1), at(2026, 11, 20), seed=3))
    for partition in range(RULES.partition_count):
        insert(client, "fold_progress", progress_table(partition, 1000, at(2026, 11, 15, partition)))
    for period in ("hourly", "daily", "weekly", "monthly", "yearly", "lifetime"):
        for kind in AGGREGATIONS:
            define(client, kind)
            page = usage(client).get_summary(
                "calls", period=period, start=at(2026, 1, 1), end=NOW, org_id=None, by_subject=True, limit=1000
            )
            view = client.rows(
                "SELECT * FROM usage_summaries WHERE period_type = {period:String} "
                "ORDER BY period_start, org_id, subject_type, subject_id",
                {"period": period},
            )
            assert view
            names = list(view[0])
            assert [{name: getattr(row, name) for name in names} for row in page.rows] == view, (period, kind)


def test_rows_are_paged_and_the_largest_come_first_with_top(client: Client) -> None:
    define(client)
    store(client, [record(i, at(2026, 11, 1 + i % 2), i, name=f"s{i}") for i in range(10)])
    asked: dict[str, Any] = {"period": "daily", "start": at(2026, 11, 1), "end": at(2026, 11, 3), "by_subject": True}
    every = usage(client).get_summary("calls", **asked)
    assert (every.total, len(every.rows)) == (10, 10)
    pages = [usage(client).get_summary("calls", **asked, limit=4, offset=offset) for offset in (0, 4, 8, 12)]
    assert [page.total for page in pages] == [10] * 4
    assert [row for page in pages for row in page.rows] == list(every.rows)
    top = usage(client).get_summary("calls", **asked, top=2)
    assert ([(row.period_start.day, row.subject_id) for row in top.rows], top.total) == (
        [(1, "s8"), (1, "s6"), (2, "s9"), (2, "s7")],
        4,
    )


def test_nothing_recorded_is_not_zero(client: Client) -> None:
    define(client)
    store(client, [record(0, at(2026, 11, 2), 5), record(1, at(2026, 11, 2), -5), record(2, at(2026, 11, 4), 7)])
    asked: dict[str, Any] = {"period": "daily", "start": at(2026, 11, 1), "end": at(2026, 11, 5)}
    sparse = usage(client).get_summary("calls", **asked)
    assert [(row.period_start.day, row.total_quantity, row.record_count) for row in sparse.rows] == [
        (2, 0, 2),
        (4, 7, 1),
    ]
    dense = usage(client).get_summary("calls", **asked, empty=True, subject=("user", "ada"))
    assert [(row.period_start.day, row.total_quantity, row.record_count) for row in dense.rows] == [
        (1, None, 0),
        (2, 0, 2),
        (3, None, 0),
        (4, 7, 1),
    ]
    second = usage(client).get_summary("calls", **asked, empty=True, limit=2, offset=1)
    assert ([row.period_start.day for row in second.rows], second.total) == ([2, 3], 4)


def test_a_metric_without_a_definition_is_an_error_and_in_one_organization_it_has_no_total(client: Client) -> None:
    store(client, [record(0, at(2026, 11, 2), 5), record(1, at(2026, 11, 2), 6, "acme")])
    asked: dict[str, Any] = {"start": at(2026, 11, 1)}
    for org_id in ("", "acme", None):
        with pytest.raises(MetricNotFound):
            usage(client).get_summary("calls", **asked, org_id=org_id)
    define(client, org_id="acme")
    with pytest.raises(MetricNotFound) as missing:
        usage(client).get_summary("calls", **asked)
    assert missing.value.defined_for == ("acme",)
    rows = usage(client).get_summary("calls", **asked, org_id=None).rows
    assert [(row.org_id, row.total_quantity, row.sum) for row in rows] == [("", None, 5), ("acme", 6, 6)]


@pytest.fixture
def _kept(client: Client) -> Iterator[None]:
    """Records stay until the test removes them, however old they are."""
    client.command("SYSTEM STOP TTL MERGES usage_records")
    yield
    client.command("SYSTEM START TTL MERGES usage_records")


@pytest.mark.usefixtures("_kept")
def test_an_expired_record_is_an_error_and_never_an_approximation(client: Client) -> None:
    define(client)
    edge = at(2026, 7, 31, 18, 15)  # midnight in Kathmandu
    records = [
        record(0, edge - timedelta(minutes=1), 1),
        record(1, edge + timedelta(minutes=1), 2),
        record(2, at(2026, 8, 10), 4),
        record(3, at(2026, 11, 10), 8),
    ]
    insert(client, "usage_windows", windows_table(windows_of(records)))
    insert(client, "usage_records", records_table(records[1:]))
    asked: dict[str, Any] = {"start": at(2026, 8, 5), "end": at(2026, 8, 6)}
    with pytest.raises(RecordsExpired) as expired:
        usage(client).get_summary("calls", **asked, tz="Asia/Kathmandu")
    assert (expired.value.hour, expired.value.missing) == (at(2026, 7, 31, 18), 1)
    # Whole hours are kept as windows.
    (row,) = usage(client).get_summary("calls", **asked, tz="Europe/Berlin").rows
    assert row.total_quantity == 4
    # Another subject and a later time have lost nothing.
    assert usage(client).get_summary("calls", **asked, tz="Asia/Kathmandu", subject=("user", "bob")).rows == ()
    (row,) = usage(client).get_summary("calls", start=at(2026, 11, 5), end=NOW, tz="Asia/Kathmandu").rows
    assert row.total_quantity == 8
    ada = ("user", "ada")
    with pytest.raises(RecordsExpired):
        usage(client).get("calls", ada, start=at(2026, 7, 1))
    assert usage(client).get("calls", ada, start=at(2026, 8, 1)).total == 2
    # The hour is complete as long as its records are there, however old it is.
    insert(client, "usage_records", records_table(records[:1]))
    (row,) = usage(client).get_summary("calls", **asked, tz="Asia/Kathmandu").rows
    assert (row.total_quantity, row.record_count) == (6, 2)
    # In a new hour a record without its window is one that the fold is about to add, and no loss.
    insert(client, "usage_windows", windows_table(windows_of([record(9, NOW - timedelta(minutes=20), 1)])))
    usage(client).get_summary("calls", period="hourly", tz="Asia/Kathmandu", start=NOW)


def test_many_ranges_of_hours_are_read_as_one(client: Client) -> None:
    """Two years of days in a zone touch the hours at both ends of each day."""
    define(client)
    store(client, [record(i, at(2025, 1, 1) + timedelta(hours=37 * i), 1) for i in range(400)])
    page = usage(client).get_summary("calls", period="daily", tz="Europe/Berlin", start=at(2025, 1, 1), limit=1000)
    assert sum(row.record_count for row in page.rows) == 400


def test_what_is_wrong_is_said_before_anything_is_read(client: Client) -> None:
    ask = usage(client).get_summary
    for arguments, words in (
        ({"period": "century"}, "period 'century' does not exist"),
        ({"top": 3}, "with by_subject or group_by"),
        ({"by_subject": True, "empty": True}, "empty periods are shown of one subject"),
        ({"limit": 0}, "limit must be from 1 to 10,000, not 0"),
        ({"offset": -1}, "offset must be 0 or more, not -1"),
        ({"end": at(2020, 1, 1)}, "is before start"),
        ({"period": "hourly", "start": at(2020, 1, 1)}, "more than 10,000 hourly periods"),
        ({"start": at(1500, 1, 1)}, "start and end must be in the years 1901 to 2298"),
        ({"subject": "user:ada"}, "must be a pair of strings"),
        ({"start": datetime(2026, 1, 1)}, "timezone"),  # noqa: DTZ001
    ):
        with pytest.raises(InvalidUsage) as caught:
            ask("calls", **{"start": at(2026, 11, 1), **arguments})
        assert words in str(caught.value), arguments
