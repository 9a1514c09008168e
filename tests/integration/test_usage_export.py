"""usage.export on real ClickHouse: the same rows in every format, files that are whole, and the command."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_schemas.errors import InvalidUsage
from meterfold_service import RecordsExpired
from meterfold_service.exports.results import Days, Exported
from meterfold_service.usage.operations import Usage
from meterfold_sink.client import Client
from support.cli import answer, inside
from support.sink.database import database, empty, insert
from support.sink.rows import Record, progress_table, records_table, windows_of, windows_table

NOW = datetime(2026, 11, 29, 10, 30, tzinfo=UTC)
DAY = datetime(2026, 11, 1, tzinfo=UTC)
FORMATS = ("csv", "jsonl", "parquet", "arrow")
DECIMAL = pa.decimal128(38, 9)
TIME = pa.timestamp("us", "UTC")


@pytest.fixture(scope="module")
def _database(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        yield client


@pytest.fixture
def client(_database: Client) -> Client:
    return empty(_database)


class OneClient:
    """A pool of the test's own connection."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @contextmanager
    def client(self) -> Iterator[Client]:
        yield self._client


def usage(client: Client, now: datetime = NOW) -> Usage:
    return Usage(OneClient(client), lambda: now, 5.0)  # type: ignore[arg-type]


def records() -> list[Record]:
    """Two partitions; texts and numbers that formats get wrong."""
    texts = ("a,b", 'quo"te', "line\nbreak", "", None, "=1+1", "'", "ünï\u2028", "\\N", "NULL")
    quantities = ("0.000000001", "-0.5", "0", "100", "99999999999999999999.999999999", "-12.30")
    return [
        Record(
            offset,
            DAY + timedelta(hours=6 * offset, microseconds=offset),
            quantities[offset % len(quantities)],
            partition=partition,
            subject_id=f"s{offset % 3}",
            org_id=("", "acme")[offset % 2],
            metric_key=("calls", "bytes")[partition],
            more={
                "source": texts[offset % len(texts)],
                "metadata": None if offset % 4 else f'{{"n":{offset},"t":"a\\"b"}}',
            },
        )
        for partition in (0, 1)
        for offset in range(20)
    ]


def store(client: Client, kept: list[Record], beyond: int = 0) -> None:
    """`beyond`: the last records of each partition are stored, but the progress has not passed them."""
    insert(client, "usage_records", records_table(kept))
    insert(client, "usage_windows", windows_table(windows_of(kept)))
    for partition in {record.partition for record in kept}:
        end = max(record.offset for record in kept if record.partition == partition) + 1 - beyond
        insert(client, "fold_progress", progress_table(partition, end))


def read(path: Path) -> list[dict[str, Any]]:
    """Rows with values as text, None where there is none."""
    match path.suffix:
        case ".csv":
            # Python's csv module cannot tell an empty text from a missing one.
            names = path.read_text(encoding="utf-8").split("\n")[0].split(",")
            options = pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            )
            parsing = pacsv.ParseOptions(newlines_in_values=True)
            return pacsv.read_csv(path, convert_options=options, parse_options=parsing).to_pylist()
        case ".jsonl":
            return [
                {name: None if value is None else str(value) for name, value in json.loads(line).items()}
                for line in path.read_text(encoding="utf-8").split("\n")[:-1]
            ]
        case ".parquet":
            return as_text(pq.read_table(path))
        case _:
            with pa.ipc.open_file(path) as reader:
                return as_text(reader.read_all())


def as_text(table: pa.Table) -> list[dict[str, Any]]:
    return [{name: text_of(value) for name, value in row.items()} for row in table.to_pylist()]


def text_of(value: Any) -> str | None:
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return None if value is None else str(value)


def expected(kept: list[Record]) -> list[dict[str, Any]]:
    rows = []
    for record in sorted(kept, key=lambda one: (one.partition, one.received_at or one.timestamp, one.offset)):
        row = {name: text_of(value) for name, value in record.row().items() if name != "identity_hash"}
        rows.append(row)
    return rows


@pytest.mark.parametrize("kind", FORMATS)
def test_records_are_the_same_rows_in_every_format(client: Client, tmp_path: Path, kind: str) -> None:
    kept = records()
    store(client, kept, beyond=2)
    below = [record for record in kept if record.offset < 18]
    path = tmp_path / f"all.{kind}"
    done = usage(client).export("records", to=path)
    assert (done.rows, done.size, done.path) == (36, path.stat().st_size, path)
    assert done.positions == {0: 18, 1: 18}
    assert read(path) == expected(below)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]

    narrow = [
        record
        for record in below
        if record.org_id == "acme"
        and record.metric_key == "calls"
        and record.subject_id == "s1"
        and DAY + timedelta(days=1) <= record.timestamp < DAY + timedelta(days=3)
    ]
    assert narrow
    usage(client).export(
        "records",
        to=path,
        overwrite=True,
        org_id="acme",
        metric_key="calls",
        subject=("user", "s1"),
        start=DAY + timedelta(days=1),
        end=DAY + timedelta(days=3),
    )
    assert read(path) == expected(narrow)


def test_types_and_streams(client: Client, tmp_path: Path) -> None:
    store(client, records())
    path = tmp_path / "all.parquet"
    usage(client).export("records", to=path)
    schema = pq.read_schema(path)
    assert (schema.field("quantity").type, schema.field("timestamp").type) == (DECIMAL, TIME)
    out = io.BytesIO()
    usage(client).export("records", to=out, format="arrow")
    table = pa.ipc.open_stream(out.getvalue()).read_all()
    assert (table.schema, table.num_rows) == (schema.remove_metadata(), 40)
    with usage(client).stream("records") as batches:
        assert (batches.expected, batches.positions) == (40, {0: 20, 1: 20})
        assert pa.Table.from_batches(batches, batches.schema).equals(table)
    with usage(client).stream("records", metric_key="none") as nothing:
        assert list(nothing) == []
        assert nothing.schema == table.schema


def test_a_file_is_whole_or_not_there(client: Client, tmp_path: Path) -> None:
    store(client, records())
    path = tmp_path / "all.csv"

    def fail(rows: int, total: int, size: int) -> None:
        assert (rows, total) == (40, 40)
        assert size > 0
        assert [one.name for one in tmp_path.iterdir()] == [".all.csv.partial"]
        with pytest.raises(InvalidUsage, match="another export is writing"):
            usage(client).export("records", to=path)
        raise KeyboardInterrupt

    (tmp_path / ".all.csv.partial").write_text("what a killed process left behind")
    with pytest.raises(KeyboardInterrupt):
        usage(client).export("records", to=path, on_progress=fail)
    assert list(tmp_path.iterdir()) == []
    done: Exported = usage(client).export("records", to=path)
    assert path.stat().st_size == done.size
    with pytest.raises(InvalidUsage, match=r"all\.csv exists"):
        usage(client).export("records", to=path)


def test_the_command(client: Client, stack: LocalStack, tmp_path: Path) -> None:
    store(client, records())
    settings = tmp_path / "meterfold.toml"
    write_settings(settings, stack.kafka_settings("none."), stack.clickhouse_settings(client.database))
    env = {"METERFOLD_CONFIG": str(settings)}
    path = tmp_path / "calls.jsonl"
    done = answer(
        *("usage", "export", "records", "--metric", "calls", "--from", "2026-11-02", "--to", "2026-11-03"),
        *("--output", path),
        env=env,
    )
    assert {name: done[name] for name in ("what", "format", "path", "rows", "size", "start")} == {
        "what": "records",
        "format": "jsonl",
        "path": str(path),
        "rows": 4,
        "size": path.stat().st_size,
        "start": "2026-11-02T00:00:00Z",
    }
    assert len(read(path)) == 4
    again = inside("usage", "export", "records", "-o", path, env=env)
    assert (again.returncode, again.stdout) == (2, "")
    assert "exists" in again.stderr
    said = inside("usage", "export", "records", "-o", path, "--overwrite", env=env)
    assert said.stderr.splitlines()[-1] == f"exported 40 rows, 0.0 MB in {path}"


def test_the_other_kinds(client: Client, tmp_path: Path) -> None:
    kept = records()
    store(client, kept)
    client.command(
        "INSERT INTO usage_duplicates (org_id, metric_key, subject_type, subject_id, id, quantity, timestamp, "
        "received_at, partition, offset, counted_offset) VALUES "
        "('', 'calls', 'user', 's1', '=id', 1.5, '2026-11-02', '2026-11-02', 0, 7, 3), "
        "('', 'calls', 'user', 's1', 'b', 1, '2026-11-02', '2026-11-02', 0, 20, 3)"
    )
    client.command(
        "INSERT INTO usage_rejected (partition, offset, received_at, reason, detail, key, value, subject_id) VALUES "
        r"(1, 4, '2026-11-03', 'undecodable', '+x', '\xff\0', '', '\xff')"
    )
    for kind in FORMATS:
        path = tmp_path / f"duplicates.{kind}"
        assert usage(client).export("duplicates", to=path).rows == 1  # the other one is beyond the progress
        (row,) = read(path)
        assert (row["id"], row["quantity"], row["offset"], row["counted_offset"]) == ("=id", "1.5", "7", "3")
        path = tmp_path / f"rejected.{kind}"
        usage(client).export("rejected", to=path, start=DAY + timedelta(days=2))
        (row,) = read(path)
        key, value = ("/wA=", "") if kind in ("csv", "jsonl") else ("b'\\xff\\x00'", "b''")
        assert (row["reason"], row["key"], row["value"], row["subject_id"]) == ("undecodable", key, value, "\ufffd")
        path = tmp_path / f"summaries.{kind}"
        done = usage(client).export("summaries", to=path, metric_key="calls", period="monthly")
        rows = read(path)
        assert (
            done.rows == len(rows) == len({(one.org_id, one.subject_id) for one in kept if one.metric_key == "calls"})
        )
        assert rows == sorted(rows, key=lambda row: (row["period_start"], row["org_id"], row["subject_id"]))
        path = tmp_path / f"adjustments.{kind}"
        assert usage(client).export("adjustments", to=path).rows == len(read(path)) == 0

    safe = tmp_path / "safe.csv"
    usage(client).export("duplicates", to=safe, safe_for_spreadsheets=True)
    assert read(safe)[0]["id"] == "'=id"
    usage(client).export("records", to=safe, safe_for_spreadsheets=True, overwrite=True)
    quoted = [row["source"] if row["source"] != "=1+1" else "'=1+1" for row in expected(kept)]
    found = read(safe)
    assert [row["source"] for row in found] == quoted
    assert [row["quantity"] for row in found] == [row["quantity"] for row in expected(kept)]  # -0.5 is a number


def test_records_that_have_expired_are_named_or_left_out(client: Client, stack: LocalStack, tmp_path: Path) -> None:
    """The windows know how many there were, in whole hours; another selection that is complete is exported."""
    made = records()
    lost = [record for record in made if record.partition == 0 and record.offset < 3]
    store(client, [record for record in made if record not in lost])
    client.command("TRUNCATE TABLE usage_windows")
    insert(client, "usage_windows", windows_table(windows_of(made)))
    later = DAY + timedelta(days=200)
    service = usage(client, now=later)
    with pytest.raises(RecordsExpired, match=r"^3 records have expired, the first in the hour from 2026-11-01 00"):
        service.export("records", to=tmp_path / "all.csv")
    with pytest.raises(RecordsExpired, match="2 records for calls have expired") as expired:
        service.stream("records", metric_key="calls", start=lost[1].timestamp, end=DAY + timedelta(days=2))
    assert expired.value.code == "RECORDS_EXPIRED"
    assert expired.value.hour == lost[1].timestamp.replace(minute=0, second=0, microsecond=0)
    assert list(tmp_path.iterdir()) == []
    done = service.export("records", to=tmp_path / "rest.csv", partial=True)
    assert (done.rows, done.expired) == (len(made) - 3, 3)
    for whole in (
        {"metric_key": "bytes"},
        {"start": lost[-1].timestamp + timedelta(hours=1)},
        {"subject": ("user", "s0"), "metric_key": "calls", "start": DAY + timedelta(hours=1)},
    ):
        assert service.export("records", to=tmp_path / "whole.csv", overwrite=True, **whole).expired == 0
    # Within the retention the fold may be at work, which is no loss.
    assert usage(client).export("records", to=tmp_path / "now.csv").expired == 0
    assert service.export("summaries", to=tmp_path / "summaries.csv").rows > 0
    path = tmp_path / "meterfold.toml"
    write_settings(path, stack.kafka_settings("none."), stack.clickhouse_settings(client.database))
    env = {"METERFOLD_CONFIG": str(path)}
    client.command(
        "INSERT INTO usage_windows SELECT * REPLACE (toDateTime64('2026-01-01', 6, 'UTC') AS period_start) "
        "FROM usage_windows FINAL WHERE period_type = 'hourly' LIMIT 1"
    )
    refused = inside("usage", "export", "records", "-o", tmp_path / "cli.csv", env=env)
    assert (refused.returncode, "1 record has expired" in refused.stderr) == (1, True), refused.stderr
    left = inside("usage", "export", "records", "-o", tmp_path / "cli.csv", "--partial", env=env)
    assert (left.returncode, "; 1 record of these hours expired before" in left.stderr) == (0, True), left.stderr


def test_one_file_for_each_complete_day(client: Client, tmp_path: Path) -> None:
    store(client, records())
    moment = DAY + timedelta(days=4, hours=1, minutes=30)  # the grace is an hour

    def run(now: datetime, mark: datetime, **options: Any) -> Days:
        client.command("TRUNCATE TABLE fold_progress")
        for partition in range(6):
            insert(client, "fold_progress", progress_table(partition, 20, mark))
        return usage(client, now).export_days("records", to=tmp_path, start=DAY, format="csv", **options)

    def names() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    first = run(moment, DAY + timedelta(days=2, hours=2))
    days = [date(2026, 11, number) for number in range(1, 6)]
    assert [done.path and done.path.name for done in first.written] == [f"records-2026-11-0{n}.csv" for n in (1, 2)]
    assert (first.present, first.behind, first.open) == ((), (days[2], days[3]), (days[4],))
    assert [done.rows for done in first.written] == [8, 8]

    again = run(moment, moment, incomplete=True)
    assert (again.present, again.behind, again.open) == ((days[0], days[1]), (), (days[4],))
    assert names() == [
        *(f"records-2026-11-0{n}.csv" for n in (1, 2, 3, 4)),
        "records-2026-11-05.incomplete.csv",
    ]
    until = DAY + timedelta(days=5)
    later = moment + timedelta(hours=23)
    assert [done.rows for done in run(later, later, end=until, incomplete=True).written] == [8]
    last = run(moment + timedelta(days=1), moment + timedelta(days=1), end=until)
    assert (len(last.written), len(last.present), last.open) == (1, 4, ())
    assert names() == [f"records-2026-11-0{n}.csv" for n in (1, 2, 3, 4, 5)]
    assert [row for name in names() for row in sorted(read(tmp_path / name), key=by_position)] == sorted(
        expected(records()), key=lambda row: (row["timestamp"][:10], *by_position(row))
    )


def by_position(row: dict[str, Any]) -> tuple[int, int]:
    return int(row["partition"]), int(row["offset"])
