"""Usage grouped and filtered by metadata on real ClickHouse, against a recount of the same records in plain Python."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterfold_local.stack import LocalStack
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import micros
from meterfold_service import RecordsExpired
from meterfold_service.usage.results import UsageSummary
from meterfold_sink.client import Client
from meterfold_sink.usage_groups import FieldFilter, Grouping
from meterfold_sink.usage_states import Of, Piece, states
from support.sink.database import RULES, database, insert, store
from support.sink.rows import Record, records_table, windows_of, windows_table
from support.usage_recount import (
    begins,
    calls,
    define_metric,
    field_text,
    numbers,
    recounted,
    usage_at,
    value_text,
)

NOW = datetime(2026, 11, 29, 10, 30, tzinfo=UTC)
START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC)
AGGREGATIONS = ("count", "sum", "avg", "max", "min", "last")
SUBJECTS = tuple(
    (org, kind, name) for org in ("", "acme") for kind, name in (("user", "ada"), ("user", "bob"), ("team", "x"))
)
FIELDS = ("model", "region", "Größe", 'it\'s {x:String} \\ "q"', "1", "a.b")
PLAIN = ("", "eu", "us", "12", 12, 12.0, "true", True, False, None, "EU")
NASTY = (
    *("'", "\\", "a\tb\nc", "ünï\u2028🙂", "null", "[1,2]", "{x:String}", " "),
    *(-0.0, 1.5, 1e5, 1e20, 1e21, 1e22, 1e-6, 1e-7, 5e-324, 0.1 + 0.2, 2**63, -(2**63) - 1, 10**30, -7),
    *([1, 2], ["é", None, {"k": [True]}], {"a": {"b": 1.0}}, [], {}),
)
TEXTS = (
    '{"model": "first", "model": "second"}',
    '{ "\\u006dodel" : "\\u0065u" , "region":\t12 }',
    '{"Model":"eu"}',
    '{"model":{"region":"eu"}}',
    "{}",
)


def metadata_of(chance: random.Random) -> str | None:
    if chance.random() < 0.1:
        return chance.choice((None, *TEXTS))
    fields = [field for field in FIELDS if chance.random() < 0.7]
    pool = PLAIN if chance.random() < 0.6 else NASTY
    return json.dumps({field: chance.choice(pool) for field in fields}, ensure_ascii=chance.random() < 0.5)


def population() -> list[Record]:
    """Many of the same quarter of an hour, some on the edges of hours and days, over the end of summer time."""
    chance = random.Random(11)
    quarters = int((END - START) / timedelta(minutes=15))
    found = []
    for number in range(300):
        when = START + timedelta(minutes=15 * chance.randrange(quarters))
        when += timedelta(microseconds=chance.choice((0, 0, 1, 899_999_999)))
        quantity = Decimal(chance.randrange(-(10**12), 10**13)).scaleb(-chance.randrange(10))
        if number % 5 == 0:
            quantity = -Decimal(found[-1].quantity) if found else Decimal(0)  # sums of 0, which are not nothing
        found.append(calls(number, when, quantity, *chance.choice(SUBJECTS), metadata=metadata_of(chance)))
    return found


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        client.command("SYSTEM STOP TTL MERGES usage_records")
        yield client


@pytest.fixture(scope="module")
def records(client: Client) -> list[Record]:
    found = population()
    define_metric(client)
    store(client, found)
    insert(client, "usage_records", records_table(found))  # a repeated insert changes nothing
    return found


def recount(records: list[Record], asked: dict[str, Any], kind: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """(begin, org, type, id, fields) -> numbers and the unique count."""
    zone = ZoneInfo(asked["tz"] or "UTC")
    period, anchor = asked["period"], asked["anchor"] or 1
    first = begins(period, asked["start"], zone, anchor)
    fields = [name for name in asked["group_by"] if name != "subject"]
    apart = "subject" in asked["group_by"] or asked["subject"] is not None
    found: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for one in records:
        begin = begins(period, one.timestamp, zone, anchor)
        if begin < first or (begin > first and begin >= asked["end"]):
            continue
        if asked["org_id"] not in (None, one.org_id):
            continue
        if asked["subject"] not in (None, (one.subject_type, one.subject_id)):
            continue
        accepted = {name: {value_text(value) for value in values} for name, values in asked["filter"].items()}
        if not all(field_text(one, name) in texts for name, texts in accepted.items()):
            continue
        subject = (one.subject_type, one.subject_id) if apart else (None, None)
        found[(begin, one.org_id, *subject, *(field_text(one, name) for name in fields))].append(one)
    return {
        key: (*recounted(those, kind), unique(those, asked["unique_count"]) if asked["unique_count"] else None)
        for key, those in found.items()
    }


def aggregation(client: Client) -> str:
    kind = client.value("SELECT any(toString(aggregation_type)) FROM metric_definitions FINAL WHERE org_id = ''")
    return str(kind)


def unique(records: list[Record], field: str) -> int:
    if field == "subject":
        return len({(one.subject_type, one.subject_id) for one in records})
    return len({field_text(one, field) for one in records} - {None})


def key_of(row: UsageSummary) -> tuple[Any, ...]:
    return (row.period_start, row.org_id, row.subject_type, row.subject_id, *row.group.values())


FIELD = st.sampled_from(FIELDS)
VALUE = st.sampled_from((*PLAIN, *(value for value in NASTY if not isinstance(value, list | dict)), "[1,2]", "no such"))
QUESTIONS = st.fixed_dictionaries(
    {
        "period": st.sampled_from(("hourly", "daily", "weekly", "monthly", "yearly", "billing", "lifetime")),
        "tz": st.sampled_from((None, "Europe/Berlin", "Asia/Kathmandu", "America/New_York")),
        "anchor": st.integers(1, 31),
        "start": st.datetimes(START.replace(tzinfo=None), END.replace(tzinfo=None), timezones=st.just(UTC)),
        "days": st.integers(0, 40),
        "subject": st.none() | st.sampled_from([subject[1:] for subject in SUBJECTS]),
        "org_id": st.sampled_from(("", "acme", None)),
        "group_by": st.lists(FIELD | st.just("subject"), max_size=3, unique=True),
        "filter": st.dictionaries(FIELD, st.lists(VALUE, min_size=1, max_size=3), max_size=2),
        "unique_count": st.none() | FIELD | st.just("subject"),
    }
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(question=QUESTIONS, kind=st.sampled_from(AGGREGATIONS), top=st.integers(1, 4))
def test_every_answer_equals_a_plain_recount(
    client: Client, records: list[Record], question: dict[str, Any], kind: str, top: int
) -> None:
    asked = {**question, "end": question["start"] + timedelta(days=question["days"])}
    del asked["days"]
    if asked["period"] != "billing":
        asked["anchor"] = None
    if aggregation(client) != kind:
        define_metric(client, kind)
    expected = recount(records, asked, kind)
    ask = usage_at(client, NOW).get_summary
    page = ask("calls", **asked, limit=10_000)
    assert {key_of(row): (*numbers(row), row.unique_count) for row in page.rows} == expected
    assert page.total == len(page.rows) == len(expected)
    # By pages the same rows in the same order.
    half = max(1, (len(expected) + 1) // 2)
    pages = [ask("calls", **asked, limit=half, offset=offset) for offset in range(0, len(expected), half)]
    assert [row for one in pages for row in one.rows] == list(page.rows)
    if asked["group_by"] not in ([], ["subject"]):
        largest = ask("calls", **asked, top=top, limit=10_000)
        found: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
        every: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
        for row in largest.rows:
            assert (*numbers(row), row.unique_count) == expected[key_of(row)]
            found[key_of(row)[:2]].append(row.total_quantity)
        for key, (total, *_) in expected.items():
            every[key[:2]].append(total)
        assert found == {key: sorted(totals, reverse=True)[:top] for key, totals in every.items()}
        assert largest.total == len(largest.rows)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    subject=st.sampled_from(SUBJECTS),
    where=st.dictionaries(FIELD, VALUE | st.lists(VALUE, min_size=1, max_size=4), max_size=2),
    limit=st.integers(10, 60),
)
def test_the_records_of_a_subject_are_those_that_pass_the_filter(
    client: Client, records: list[Record], subject: tuple[str, str, str], where: dict[str, Any], limit: int
) -> None:
    org_id, *name = subject
    accepted = {
        field: {value_text(value) for value in (values if isinstance(values, list) else [values])}
        for field, values in where.items()
    }
    expected = sorted(
        (
            one
            for one in records
            if (one.org_id, one.subject_type, one.subject_id) == subject
            and all(field_text(one, field) in texts for field, texts in accepted.items())
        ),
        key=lambda one: (one.timestamp, one.offset),
    )
    get = usage_at(client, NOW).get
    asked: dict[str, Any] = {"start": START, "end": END, "org_id": org_id, "filter": where, "limit": limit}
    page = get("calls", tuple(name), **asked)
    kind = aggregation(client)
    assert (page.total, page.total_quantity) == (len(expected), recounted(expected, kind)[0] if expected else None)
    found = list(page.records)
    while page.cursor:
        page = get("calls", tuple(name), **asked, cursor=page.cursor)
        found += page.records
    assert [(one.timestamp, one.offset, one.metadata) for one in found] == [
        (one.timestamp, one.offset, one.more["metadata"]) for one in expected
    ]


def ask(client: Client, **asked: Any) -> list[UsageSummary]:
    return list(usage_at(client, NOW).get_summary("calls", **{"start": START, "end": END, **asked}).rows)


@pytest.fixture
def few(client: Client) -> Iterator[Client]:
    """Another organization, with a few records of its own."""
    define_metric(client, org_id="few")
    yield client
    client.command("ALTER TABLE usage_records DELETE WHERE org_id = 'few'")
    client.command("ALTER TABLE usage_windows DELETE WHERE org_id = 'few'")


def test_a_missing_field_differs_from_an_empty_one_and_nothing_from_zero(few: Client) -> None:
    when = datetime(2026, 11, 3, 12, tzinfo=UTC)
    given = (None, "{}", '{"model":null}', '{"model":""}', '{"model":"a"}', '{"model":"a"}')
    quantities = (1, 2, 4, 8, 5, -5)
    store(
        few,
        [
            calls(number, when, quantity, "few", metadata=metadata)
            for number, (quantity, metadata) in enumerate(zip(quantities, given, strict=True))
        ],
    )
    of: dict[str, Any] = {"org_id": "few", "period": "monthly"}
    rows = ask(few, **of, group_by="model")
    assert {row.group["model"]: (row.total_quantity, row.record_count) for row in rows} == {
        None: (7, 3),
        "": (8, 1),
        "a": (0, 2),
    }
    (row,) = ask(few, **of, filter={"model": [None, ""]}, unique_count="model")
    assert (row.total_quantity, row.unique_count, row.group) == (15, 1, {})
    assert ask(few, **of, filter={"model": "b"}) == []
    october, november = ask(few, **of, filter={"model": "a"}, unique_count="region", empty=True)
    assert (october.total_quantity, october.record_count, october.unique_count) == (None, 0, 0)
    assert (november.total_quantity, november.record_count, november.unique_count) == (0, 2, 0)


def test_expired_records_are_an_error_that_names_the_fields_and_windows_answer_without_them(few: Client) -> None:
    old, new = datetime(2026, 8, 3, 12, 10, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
    records = [calls(0, old, 5, "few", metadata='{"model":"a"}'), calls(1, new, 7, "few", metadata='{"model":"a"}')]
    store(few, records[1:])
    insert(few, "usage_windows", windows_table(windows_of(records)))
    of: dict[str, Any] = {"org_id": "few", "start": datetime(2026, 8, 1, tzinfo=UTC), "end": NOW}
    for asked in ({"group_by": "model"}, {"filter": {"model": "a"}}, {"unique_count": "model"}, {"period": "lifetime"}):
        with pytest.raises(RecordsExpired) as expired:
            ask(few, **{**of, "filter": {"model": "a"}, **asked})
        error = expired.value
        assert (error.fields, error.missing, error.hour) == (("model",), 1, old.replace(minute=0))
        assert error.kept_from == datetime(2026, 8, 21, 11, tzinfo=UTC)
        assert str(error) == (
            "1 record of calls in the hour from 2026-08-03 12:00 UTC has expired, and with it the metadata field "
            "'model'. Choose periods that begin at 2026-08-21 11:00 UTC or later, or leave the field out. To keep sums "
            "by a field, make it a dimension of the metric and close each period before its records expire"
        )
    # Subjects are in the windows, which stay.
    rows = ask(few, **of, by_subject=True, unique_count="subject")
    assert [(row.period_start.month, row.total_quantity, row.unique_count) for row in rows] == [(8, 5, 1), (11, 7, 1)]
    (row,) = ask(few, **{**of, "start": datetime(2026, 9, 1, tzinfo=UTC)}, group_by="model")
    assert row.total_quantity == 7


def test_the_largest_filter_is_bound_and_nothing_of_it_is_sql(client: Client, records: list[Record]) -> None:
    values = [f"{number:02}'{{x:String}}\\ü".ljust(260, "\n") for number in range(15)]
    rows = ask(client, org_id=None, filter={"region": [*values, "eu"]}, period="lifetime")
    found = {
        org: sum(one.org_id == org and field_text(one, "region") == "eu" for one in records) for org in ("", "acme")
    }
    assert {row.org_id: row.record_count for row in rows} == found
    assert all(found.values())
    assert ask(client, filter={"' OR 1 OR '": "x"}) == []
    with pytest.raises(InvalidUsage, match="bytes as JSON; at most 8,192 are allowed"):
        ask(client, filter={"region": values * 2})


def test_a_summary_reads_what_it_needs_by_the_primary_key_and_the_month(client: Client, records: list[Record]) -> None:
    month = (micros(datetime(2026, 10, 1, tzinfo=UTC)), micros(datetime(2026, 10, 20, tzinfo=UTC)))

    def plan(of: Of, kind: str, grouping: Grouping) -> str:
        sql = states(RULES, of, [Piece(0, kind, *month)], grouping)
        rows = client.rows(f"EXPLAIN indexes = 1, actions = 1 {sql}", {**of.parameters(RULES), **grouping.parameters()})
        return "\n".join(row["explain"] for row in rows)

    one = Of("calls", "", ("user", "ada"))
    windows = plan(one, "monthly", Grouping(by_subject=True))
    (keys,) = re.findall(r"PrimaryKey\n(?:.*\n)*?.*Condition: (.*)", windows)
    for column in ("partition", "period_type", "period_start", "org_id", "metric_key", "subject_type", "subject_id"):
        assert column in keys, column
    whole = plan(Of("calls", ""), "records", Grouping(fields=("model",)))
    alone = plan(one, "records", Grouping(fields=("model",), filters=(FieldFilter("region", ('{"value":"eu"}',)),)))
    for text in (whole, alone):
        assert "toYYYYMM(received_at) in [202609, +Inf)" in text
        # Metadata is read of the records that pass everything else.
        (prewhere,) = re.findall(r"Prewhere filter column: (.*)", text)
        assert "metric_key = 'calls'" in prewhere
        assert "JSONExtract" not in prewhere
    assert re.search(r"PrimaryKey\n(?:.*\n)*?.*partition\n.*received_at\n", alone)
