"""Inserts, what the tables make of repeated and late ones, and what the fold and the checker read back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from meterfold_local.stack import LocalStack
from meterfold_schemas.errors import Fatal
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import KEPT, STORED_NUMBER, Period, micros
from meterfold_sink import conservation, fold_state, positions, reads, schema_decisions
from meterfold_sink.client import Client
from meterfold_sink.positions import Positions, Span
from meterfold_sink.rejections import recent_rejections
from meterfold_sink.usage_groups import Grouping
from meterfold_sink.usage_records import RecordPage, usage_records
from meterfold_sink.usage_states import Of, Piece
from meterfold_sink.usage_sums import usage_sums
from meterfold_sink.windows_by_key import iter_windows_by_key
from support.sink.database import RULES, database, empty, insert, rows, store
from support.sink.rows import NOW, Record, Window, progress_table, records_table, table, window, windows_table
from support.statements import statements

HOSTILE = [
    "",
    "'; DROP TABLE usage_windows; --",
    'back\\slash "quotes" `ticks`',
    "tab\tline\nreturn\rnothing",
    "{partition:Int32} %(x)s {}",
    "\\N",
    "ünïcødé 漢字 🧮",
    "[1,2]",
]
HOUR = NOW.replace(minute=0, second=0)


@pytest.fixture(scope="module")
def shared(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        yield client


@pytest.fixture
def client(shared: Client) -> Client:
    return empty(shared)


def states() -> list[Window]:
    first = window(Period.HOURLY, HOUR, 1, folded_through=3)
    return [first, first.changed(sum=Decimal(5), folded_through=8), first.changed(sum=Decimal(9), folded_through=12)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_highest_folded_through_wins_whatever_the_order(client: Client, order: tuple[int, ...]) -> None:
    for number in order:
        insert(client, "usage_windows", windows_table([states()[number]]))
    (found,) = reads.load_windows(client, 0, "hourly", [micros(HOUR)]).to_pylist()
    assert (found["sum"], found["folded_through"]) == (9, 12)
    insert(client, "usage_windows", windows_table([states()[0]]))  # a zombie, after a merge
    client.command("OPTIMIZE TABLE usage_windows FINAL")
    assert rows(client, "SELECT sum FROM usage_windows") == [{"sum": Decimal(9)}]


def test_history_38_one_row_per_key_is_left_after_a_merge(client: Client) -> None:
    """Versions of one row, written in different months of the fold's life, still meet in one partition."""
    lifetime = window(Period.LIFETIME, datetime.fromtimestamp(0, UTC), 1)
    record = Record(0, HOUR)
    for through in range(4):
        later = HOUR + timedelta(days=40 * through)
        changed = lifetime.changed(folded_through=through, last_offset=through, last_timestamp=later)
        insert(client, "usage_windows", windows_table([changed]))
        insert(client, "usage_records", records_table([record]))
        insert(client, "fold_progress", progress_table(0, through, later))
    for name in ("usage_windows", "usage_records", "fold_progress"):
        client.command(f"OPTIMIZE TABLE {name} FINAL")
        assert client.value(f"SELECT toInt64(count()) FROM {name}") == 1, name
    assert client.value("SELECT folded_through FROM usage_windows") == 3


def test_a_repeated_insert_changes_nothing(client: Client) -> None:
    records = records_table([Record(offset, HOUR) for offset in range(3)])
    for _ in range(3):
        insert(client, "usage_records", records)
    insert(client, "usage_records", records.slice(1, 1))
    assert client.value("SELECT toInt64(count()) FROM usage_records FINAL") == 3


def test_progress_of_an_older_flush_loses(client: Client) -> None:
    assert fold_state.read_progress(client) == {}
    insert(client, "fold_progress", progress_table(2, 10, HOUR, log_start=4, counted=5, duplicates=1, rejected=0))
    insert(client, "fold_progress", progress_table(2, 7, HOUR - timedelta(hours=1), log_start=4))
    insert(client, "fold_progress", progress_table(5, 0))
    found = fold_state.read_progress(client)
    assert set(found) == {2, 5}
    progress = found[2]
    assert (progress.next_offset, progress.log_start, progress.counted) == (10, 4, 5)
    assert (progress.duplicates, progress.rejected, progress.last_stamp) == (1, 0, micros(HOUR))
    assert found[5].last_stamp == 0
    assert set(fold_state.read_progress(client, [2, 3])) == {2}
    assert fold_state.read_progress(client, []) == {}


def test_every_type_goes_in_and_comes_back(client: Client) -> None:
    largest = Decimal("99999999999999999999999999999.999999999")
    subject = {"org_id": "", "subject_id": HOSTILE[2], "metric_key": "m"}
    stored = window(Period.MONTHLY, datetime(2026, 2, 1, tzinfo=UTC), largest, **subject).changed(
        min=largest.copy_negate(),
        last_timestamp=datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC),
        last_offset=2**62,
    )
    insert(client, "usage_windows", windows_table([stored]))
    found = reads.load_windows(client, 0, "monthly", [micros(stored.period_start)])
    assert tuple(found.column_names) == reads.WINDOW_COLUMNS
    assert found.to_pylist() == [stored.row()]
    # What is read back can be written again as it is.
    insert(client, "usage_windows", found)
    record = Record(
        3, HOUR, "-0.000000001", more={"metadata": '{"a":"\\n"}', "source": "", "resource_type": HOSTILE[6]}
    )
    insert(client, "usage_records", records_table([record]))
    assert rows(client, "SELECT * FROM usage_records") == [record.row()]


def test_rejected_bytes_stay_as_they_came(client: Client) -> None:
    value = bytes(range(256)) * 3
    row = {"partition": 1, "offset": 4, "received_at": HOUR, "reason": "undecodable", "detail": HOSTILE[1]}
    types = table([row]).schema.append(pa.field("key", pa.binary())).append(pa.field("value", pa.large_binary()))
    insert(client, "usage_rejected", pa.Table.from_pylist([{**row, "key": b"\xff\x00", "value": value}], schema=types))
    found = rows(client, "SELECT hex(value) AS value, hex(key) AS key, detail FROM usage_rejected FINAL")
    assert found == [{"value": value.hex().upper(), "key": "FF00", "detail": HOSTILE[1]}]


def test_a_column_that_the_table_does_not_have_is_fatal(client: Client) -> None:
    rows_ = progress_table(0, 1)
    with pytest.raises(Fatal, match="meterfold migrate"):
        insert(client, "fold_progress", rows_.append_column("nonsense", pa.array([1])))
    with pytest.raises(Fatal, match="meterfold migrate"):
        insert(client, "no_such_table", rows_)
    assert fold_state.read_progress(client) == {}


def test_an_insert_over_many_months_is_taken(client: Client) -> None:
    months = [datetime(2000 + i // 12, i % 12 + 1, 1, tzinfo=UTC) for i in range(130)]
    insert(client, "usage_windows", windows_table([window(Period.MONTHLY, month, 1) for month in months]))
    assert reads.load_windows(client, 0, "monthly", [micros(month) for month in months]).num_rows == 130


def test_buckets_are_whole_and_exact(client: Client) -> None:
    stored = [
        window(period, start, 1, subject_id=subject, partition=partition)
        for period, starts in (("hourly", (HOUR, HOUR - timedelta(hours=1))), ("daily", (HOUR.replace(hour=0),)))
        for start in starts
        for subject in ("a", "b")
        for partition in (0, 1)
        for period in [Period(period)]
    ]
    insert(client, "usage_windows", windows_table(stored))
    found = reads.load_windows(client, 1, Period.HOURLY, [micros(HOUR), micros(HOUR) + 1, 0])
    assert {(row["subject_id"], row["period_start"], row["partition"]) for row in found.to_pylist()} == {
        ("a", HOUR, 1),
        ("b", HOUR, 1),
    }
    assert reads.load_windows(client, 1, Period.HOURLY, []).num_rows == 0
    assert reads.load_windows(client, 9, Period.HOURLY, [micros(HOUR)]).num_rows == 0


def test_records_are_found_by_hash(client: Client) -> None:
    records = [Record(offset, HOUR + timedelta(seconds=offset), partition=offset % 2) for offset in range(6)]
    insert(client, "usage_records", records_table(records))
    hashes = [record.row()["identity_hash"] for record in records]

    def offsets(*args: Any, **more: Any) -> set[int]:
        return set(reads.find_records(client, *args, **more)["offset"].to_pylist())

    assert offsets(0, hashes) == {0, 2, 4}
    assert offsets(1, hashes[:4]) == {1, 3}
    assert offsets(0, hashes, before_offset=4) == {0, 2}
    assert offsets(0, hashes, since=micros(records[2].timestamp) + 1_000_000) == {2, 4}
    assert offsets(0, [2**64 - 1, 0]) == set()
    assert offsets(0, []) == set()
    many = np.arange(1, 200_001, dtype=np.uint64).tolist()
    assert offsets(0, [*many, hashes[2]]) == {2}
    (row,) = reads.find_records(client, 0, hashes[:1]).to_pylist()
    identity = {"org_id": "acme", "metric_key": "calls", "subject_type": "user", "subject_id": "s1", "id": "id-0-0"}
    stamp = HOUR + timedelta(seconds=1)
    assert row == {**identity, "offset": 0, "received_at": stamp, "identity_hash": hashes[0]}


def test_identities_are_loaded_by_stamp(client: Client) -> None:
    records = [Record(offset, HOUR + timedelta(minutes=offset)) for offset in range(5)]
    insert(client, "usage_records", records_table(records))
    since = micros(HOUR) + 120_000_000

    def loaded(*args: int) -> list[int]:
        found = reads.load_identities(client, 0, *args)
        pieces = list(reads.iter_identities(client, 0, *args))
        assert sum(piece.num_rows for piece in pieces) == found.num_rows
        assert found.schema.field("identity_hash").type == pa.uint64()
        return sorted((value - 2**63) // 7 for value in found["identity_hash"].to_pylist())

    assert loaded(-(2**62)) == [0, 1, 2, 3, 4]
    assert loaded(since) == [2, 3, 4]
    assert loaded(since, since + 120_000_000) == [2, 3]


def test_windows_by_key_from_any_key_on(client: Client) -> None:
    ends = {
        Period.HOURLY: datetime(2026, 3, 10, 13, tzinfo=UTC),
        Period.DAILY: datetime(2026, 3, 11, tzinfo=UTC),
        Period.MONTHLY: datetime(2026, 4, 1, tzinfo=UTC),
    }
    starts = {
        Period.HOURLY: datetime(2026, 3, 10, 12, tzinfo=UTC),
        Period.DAILY: datetime(2026, 3, 10, tzinfo=UTC),
        Period.MONTHLY: datetime(2026, 3, 1, tzinfo=UTC),
        Period.LIFETIME: datetime.fromtimestamp(0, UTC),
    }
    stored = [window(period, start, 1, subject_id=s) for period, start in starts.items() for s in HOSTILE[1:3]]
    insert(client, "usage_windows", windows_table(stored))

    def found(**filters: Any) -> list[dict[str, Any]]:
        wanted = {"ends_after": 0, "period_types": KEPT, **filters}
        batches = list(iter_windows_by_key(client, 0, **wanted))
        return [row for batch in batches for row in batch.to_pylist()]

    def periods(**filters: Any) -> set[int]:
        return {row["period_type"] for row in found(**filters)}

    def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
        subject = (row[name] for name in ("org_id", "metric_key", "subject_type", "subject_id"))
        return row["period_type"], micros(row["period_start"]), *subject

    everything = found()
    keys = [key_of(row) for row in everything]
    assert len(keys) == 8
    assert keys == sorted(keys)
    for period, end in ends.items():
        assert STORED_NUMBER[period] in periods(ends_after=micros(end) - 1), period
        assert STORED_NUMBER[period] not in periods(ends_after=micros(end)), period
    assert periods(ends_after=2**52) == {4}  # it never ends
    assert periods(period_types=[Period.DAILY, Period.LIFETIME]) == {2, 4}
    assert periods(start=micros(starts[Period.DAILY])) == {2}
    assert len(found(org_ids={"acme", "other"}, metric_keys={"calls"}, period_types=[Period.HOURLY])) == 2
    assert found(org_ids={"other"}) == found(metric_keys={"'"}) == []
    for at, key in enumerate(keys):  # from any key on, of hostile texts too
        assert found(after=key) == everything[at + 1 :]
    newer = window(Period.DAILY, starts[Period.DAILY], 9, subject_id=HOSTILE[1], folded_through=99)
    insert(client, "usage_windows", windows_table([newer]))
    assert [key_of(row) for row in found()] == keys
    assert max(row["folded_through"] for row in found(period_types=[Period.DAILY])) == 99


@pytest.mark.parametrize("text", HOSTILE)
def test_parameters_are_values_and_nothing_else(client: Client, text: str) -> None:
    assert client.value("SELECT {text:String}", {"text": text}) == text
    assert client.rows("SELECT {texts:Array(String)} AS texts", {"texts": [text, "x"]}) == [{"texts": [text, "x"]}]
    store(client, [Record(0, HOUR, 3, subject_id=text, org_id=text), Record(1, HOUR, 5)])
    of = Of("calls", text, ("user", text))
    piece = Piece(0, "hourly", micros(HOUR), micros(HOUR) + 1)
    (row,), total = usage_sums(
        client, RULES, Of("calls", text), [piece], grouping=Grouping(by_subject=True), top=None, limit=10, offset=0
    )
    assert (row.org_id, row.subject_id, row.sum, total) == (text, text, 3, 1)
    rows, total = usage_sums(
        client, RULES, of, [piece], grouping=Grouping(by_subject=True), top=None, limit=10, offset=0
    )
    expected = partition_of(subject_key(text, "calls", "user", text), RULES.partition_count) == 0
    assert (len(rows), total) == (int(expected), int(expected))  # the test's records are all on partition 0


def test_usage_is_paged_with_its_total(client: Client) -> None:
    partition = partition_of(subject_key("acme", "calls", "user", "s1"), RULES.partition_count)
    more: dict[str, Any] = {"partition": partition, "received_at": HOUR + timedelta(hours=2)}
    records = [Record(i, HOUR + timedelta(minutes=30 - i), i + 1, **more) for i in range(5)]
    insert(client, "usage_records", records_table(records))
    insert(client, "usage_records", records_table(records))

    def usage(first: int = 0, until: int = 60, subject_id: str = "s1", **options: Any) -> RecordPage:
        of = Of("calls", "acme", ("user", subject_id))
        span = (micros(HOUR + timedelta(minutes=first)), micros(HOUR + timedelta(minutes=until)))
        return usage_records(client, RULES, of, *span, **options)

    page = usage(limit=2, after=(micros(records[4].timestamp), 4))
    assert [row["offset"] for row in page.rows] == [3, 2]
    assert (page.total, page.total_quantity) == (5, None)  # the metric is not defined
    half_open = usage(26, 28)
    assert [row["offset"] for row in half_open.rows] == [4, 3]
    nothing = usage(subject_id="nobody")
    assert (nothing.rows, nothing.total, nothing.total_quantity) == ([], 0, None)
    client.command(
        "INSERT INTO metric_definitions (org_id, key, aggregation_type, version) VALUES ('', 'calls', 'sum', 1)"
    )
    page = usage(limit=2)
    assert (page.total, page.total_quantity) == (5, 15)
    client.command(
        "INSERT INTO metric_definitions (org_id, key, aggregation_type, version) VALUES ('', 'calls', 'avg', 2)"
    )
    assert usage().total_quantity == 3


def test_offsets_that_are_stored_nowhere_are_listed(client: Client) -> None:
    insert(client, "usage_records", records_table([Record(offset, HOUR) for offset in (2, 3, 5, 9, 12)]))
    record = Record(6, HOUR).row()
    identity = ("org_id", "metric_key", "subject_type", "subject_id", "id", "quantity", "timestamp")
    position = {name: record[name] for name in ("partition", "offset", "received_at")}
    insert(
        client,
        "usage_duplicates",
        table([{**{name: record[name] for name in identity}, **position, "counted_offset": 2}]),
    )
    rejected = {**position, "offset": 7, "reason": "invalid", "detail": "", "key": "", "value": ""}
    insert(client, "usage_rejected", table([rejected]))

    def gaps(partition: int, first: int, until: int) -> list[tuple[int, int]]:
        found = conservation.gaps(client, [Span(partition, first, until)]).to_pylist()
        return [(gap["first_offset"], gap["last_offset"]) for gap in found]

    assert gaps(0, 0, 12) == [(0, 1), (4, 4), (8, 8), (10, 11)]
    assert gaps(0, 2, 4) == []
    assert gaps(0, 4, 13) == [(4, 4), (8, 8), (10, 11)]
    assert gaps(7, 3, 5) == [(3, 4)]
    both = conservation.gaps(client, [Span(7, 3, 5), Span(0, 0, 12)], limit=2).to_pylist()
    assert [tuple(gap.values()) for gap in both] == [(0, 0, 1), (0, 4, 4), (7, 3, 4)]
    stored = positions.positions(client, [Span(7, 3, 5), Span(0, 3, 8)])
    assert stored == {0: Positions(records=2, duplicates=1, rejected=1, distinct=4)}
    outside = positions.positions_outside(client, [Span(7, 3, 5), Span(0, 3, 8)], 9)
    assert [tuple(row.values()) for row in outside] == [(0, "records", 2), (0, "records", 9), (0, "records", 12)]


def test_an_identity_counted_twice_within_the_look_back_is_found(client: Client) -> None:
    def counted(offset: int, days: int, name: str) -> Record:
        return Record(offset, HOUR + timedelta(days=days), id=name, more={"identity_hash": hash_of[name]})

    hash_of = {"x": 1, "y": 1, "z": 3}  # x and y only share their hash
    insert(client, "usage_records", records_table([counted(0, 0, "x"), counted(1, 0, "y"), counted(2, 9, "x")]))
    everything = [Span(0, 0, conservation.END), Span(1, 0, conservation.END)]
    assert conservation.repeated_identities(client, everything, 9 * 86_400 - 1) == []
    (found,) = conservation.repeated_identities(client, everything, 9 * 86_400)
    assert (found["id"], found["earlier_offset"], found["offset"]) == ("x", 0, 2)
    # Stamps step back: the one just before is too old, an earlier one is not.
    client.command("TRUNCATE TABLE usage_records")
    insert(client, "usage_records", records_table([counted(0, 5, "z"), counted(1, 0, "z"), counted(2, 6, "z")]))
    found = conservation.repeated_identities(client, everything, 86_400)
    assert [(row["earlier_offset"], row["offset"]) for row in found] == [(0, 1), (0, 2)]
    found = conservation.repeated_identities(client, [Span(0, 2, 9)], 86_400)
    assert [(row["earlier_offset"], row["offset"]) for row in found] == [(0, 2)]
    # The same identity in another partition is another event: a subject is on one partition only.
    client.command("INSERT INTO usage_records SELECT * REPLACE (1 AS partition) FROM usage_records WHERE offset = 1")
    client.command("DELETE FROM usage_records WHERE partition = 0 AND offset > 0")
    assert conservation.repeated_identities(client, everything, 9 * 86_400) == []


def test_duplicates_of_nothing_are_found(client: Client) -> None:
    insert(client, "usage_records", records_table([Record(0, HOUR, id="x"), Record(2, HOUR, id="y")]))

    def duplicate(offset: int, of: int, name: str, days: int = 0) -> dict[str, object]:
        row = Record(offset, HOUR + timedelta(days=days), id=name).row()
        names = ("org_id", "metric_key", "subject_type", "subject_id", "id", "quantity", "timestamp", "received_at")
        return {**{name: row[name] for name in names}, "partition": 0, "offset": offset, "counted_offset": of}

    rows = [
        duplicate(3, 0, "x"),
        duplicate(4, 0, "y"),  # another identity stands there
        duplicate(5, 1, "x"),  # nothing stands there
        duplicate(6, 0, "x", days=3),  # too long ago
        duplicate(7, 8, "x"),  # nothing stands there, and it would be later
    ]
    insert(client, "usage_duplicates", table(rows))

    def unfounded(first: int, until: int) -> list[tuple[int, bool]]:
        spans = [Span(0, first, until), Span(1, 0, 1)]
        found, expired = conservation.unfounded_duplicates(client, spans, 2 * 86_400)
        assert not any(expired.values())
        return [(row["offset"], row["is_stored"]) for row in found]

    assert unfounded(0, 9) == [(4, True), (5, False), (6, True), (7, False)]
    assert unfounded(5, 6) == [(5, False)]
    assert conservation.unfounded_duplicates(client, [Span(0, 6, 7)], 3 * 86_400) == ([], {})
    # What may have expired is counted apart.
    kept_from = micros(HOUR)
    found, expired = conservation.unfounded_duplicates(
        client, [Span(0, 0, 9)], 2 * 86_400, kept_from=kept_from, limit=9
    )
    assert ([row["offset"] for row in found], expired) == ([4, 6, 7], {0: 1})


def test_where_the_rows_of_a_time_begin(client: Client) -> None:
    """Offsets without a row go with what follows them, and stamps may step back."""
    stamps = {2: 0, 4: 10, 5: 8, 8: 20}
    counted = [Record(offset, HOUR, received_at=HOUR + timedelta(minutes=m)) for offset, m in stamps.items()]
    insert(client, "usage_records", records_table(counted))

    def since(minutes: int) -> int:
        stamp = micros(HOUR + timedelta(minutes=minutes))
        return positions.first_offset_since(client, 0, stamp, 1, 9)

    assert [since(minutes) for minutes in (-1, 0, 1, 9, 10, 11, 20, 21)] == [1, 1, 3, 4, 4, 6, 6, 9]
    assert positions.stamps_at(client, {0: 4, 1: 4}) == {0: micros(HOUR + timedelta(minutes=10))}
    assert positions.stamps_at(client, {0: 3}) == {}


def test_some_offsets_of_a_large_partition_are_read_without_the_rest(client: Client) -> None:
    """The sort key has the offset behind the stamp, so it cannot help: the index of positions must."""
    for half in (0, 1):  # two parts, which FINAL merges
        client.command(
            "INSERT INTO usage_records (org_id, metric_key, subject_type, subject_id, id, quantity, timestamp, "
            f"received_at, partition, offset) SELECT 'o', 'm', 'user', 'u', toString(number), 1, stamp, stamp, "
            f"intDiv(number, 300000), number % 300000 * 2 + {half} FROM (SELECT number, "
            "toDateTime64('2026-10-01 00:00:00', 6, 'UTC') + toIntervalMillisecond(number % 300000) AS stamp "
            "FROM numbers(900000))"
        )
    spans = [Span(0, 1_000, 1_100), Span(2, 150_000, 150_100)]
    at_most = 16 * 8_192  # of 1,800,000: a granule of each part per span, one at each border of partitions
    assert positions.stored_rows(client, "usage_records", ["offset"], spans).num_rows == 200
    with statements() as told:
        assert {p: found.distinct for p, found in positions.positions(client, spans).items()} == {0: 100, 2: 100}
        assert positions.stamps_at(client, {0: 1_000, 1: 199_999}).keys() == {0, 1}
    assert len(told) == 2
    assert max(statement.rows for statement in told) <= at_most, told


def test_poison_of_earlier_versions_is_a_decision(client: Client) -> None:
    assert schema_decisions.read_schema_facts(client) == {}
    client.command("INSERT INTO fold_settings (name, value) VALUES ('poison_fingerprint:00112233445566ff', 'why')")
    facts = schema_decisions.read_schema_facts(client)[bytes.fromhex("00112233445566ff")]
    assert (facts.decision, facts.decision_why) == (schema_decisions.POISON, "why")
    assert facts.decision_age > 10**8
    assert fold_state.read_rules(client) == RULES
    client.command("INSERT INTO fold_settings (name, value) VALUES ('poison_fingerprint:0011', 'short')")
    with pytest.raises(Fatal, match="16 hexadecimal digits"):
        schema_decisions.read_schema_facts(client)
    client.command("DELETE FROM fold_settings WHERE name LIKE 'poison%'")


def test_the_first_decision_about_a_schema_wins_and_what_was_seen_stays(client: Client) -> None:
    one, other = bytes(range(8)), bytes(8)
    schema_decisions.write_fact(client, one, "seen", "", "partition 1, offset 2")
    schema_decisions.write_fact(client, one, "decision", "usage_recorded.v1", "first")
    schema_decisions.write_fact(client, one, "decision", schema_decisions.POISON, "second")
    schema_decisions.write_fact(client, one, "seen", "", "partition 3, offset 4")
    schema_decisions.write_fact(client, other, "wait")
    client.command("OPTIMIZE TABLE schema_decisions FINAL")
    found = schema_decisions.read_schema_facts(client)
    assert (found[one].decision, found[one].decision_why) == ("usage_recorded.v1", "first")
    assert found[one].seen_where == "partition 1, offset 2"
    assert 0 <= found[one].decision_age <= found[one].seen_age < 3600
    assert (found[other].waits, found[other].decision) == (True, None)


def test_the_hold_time_of_unknown_schemas_may_be_changed(client: Client) -> None:
    assert schema_decisions.unknown_schema_hold(client) == 3600
    for seconds in (60, 0, 7200):
        schema_decisions.write_unknown_schema_hold(client, seconds)
        assert schema_decisions.unknown_schema_hold(client) == seconds
    assert fold_state.read_rules(client) == RULES
    client.command("DELETE FROM fold_settings WHERE name = 'unknown_schema_hold_seconds'")


def test_recent_rejections_are_by_reason_and_organization(client: Client) -> None:
    now = datetime.now(UTC)

    def row(offset: int, org_id: str, reason: str, minutes: float) -> dict[str, Any]:
        return {
            "partition": offset % 2,
            "offset": offset,
            "received_at": now - timedelta(minutes=minutes),
            "org_id": org_id,
            "reason": reason,
            "detail": f"detail {offset}",
            "key": "",
            "value": "",
        }

    rejected = [
        row(1, "acme", "misrouted", 5),
        row(2, "acme", "misrouted", 1),
        row(3, "acme", "misrouted", 9),
        row(4, "", "undecodable", 2),
        row(5, "acme", "too_old", 61),
    ]
    insert(client, "usage_rejected", table(rejected))
    insert(client, "usage_rejected", table(rejected[:1]))  # a repeated insert counts once
    found = recent_rejections(client, 3600)
    assert [(r.reason, r.org_id, r.count, r.last_partition, r.last_offset, r.last_detail) for r in found] == [
        ("misrouted", "acme", 3, 0, 2, "detail 2"),
        ("undecodable", "", 1, 0, 4, "detail 4"),
    ]
    assert abs((found[0].last_at - now).total_seconds() + 60) < 1
    assert len(recent_rejections(client, 2 * 3600)) == 3
    assert len(recent_rejections(client, 3600, limit=1)) == 1


def test_every_request_asks_for_a_quorum_and_for_consistent_reads(client: Client) -> None:
    """No replicas here: what is seen is that the settings arrive."""
    names = ("async_insert", "insert_quorum", "insert_quorum_parallel", "select_sequential_consistency")
    (found,) = client.rows("SELECT " + ", ".join(f"toString(getSetting('{name}')) AS {name}" for name in names))
    assert found == {
        "async_insert": "false",
        "insert_quorum": "auto",
        "insert_quorum_parallel": "false",
        "select_sequential_consistency": "1",
    }
