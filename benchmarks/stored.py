"""A database with millions of stored windows and the records that they are made of, written by ClickHouse itself.

One record in two and a half windows: a million subjects use a metric about four times in two months, nearly always in
an hour of its own. Everything that verify recounts is consistent: offsets are dense, stamps rise, windows are grouped
from the records, in slices that bound the memory of the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink import reads
from meterfold_sink.client import Client, connect
from meterfold_sink.migrate import migrate
from meterfold_sink.rules import FoldRules

__all__ = ["METRICS", "ORGS", "PARTITIONS", "fill", "first_month", "subject_of"]

PARTITIONS = 4
_NUMBERS = range(PARTITIONS)
ORGS = 50
METRICS = ("api.calls", "storage.gb", "tokens", "seats")
WINDOWS_PER_RECORD = 2.65
RECORDS_PER_SUBJECT = 4
_SLICE = 1_000_000
_GROUPS = 16
_SPAN_DAYS = 60
_BOUNDED = {
    "max_bytes_before_external_group_by": 256 << 20,
    "max_bytes_ratio_before_external_group_by": 0,
    "max_partitions_per_insert_block": 0,
}
_COLUMNS = (
    "org_id, metric_key, subject_type, subject_id, period_type, period_start, partition, record_count, sum, min, max, "
    "last, last_timestamp, last_offset, folded_through"
)
_ORDER = "bitShiftLeft(toInt128(toUnixTimestamp64Micro({p}timestamp)), 63) + {p}offset"
_START = {
    "hourly": "toDateTime64(toStartOfHour(r.timestamp), 6, 'UTC')",
    "daily": "toDateTime64(toStartOfDay(r.timestamp), 6, 'UTC')",
    "monthly": "toDateTime64(toStartOfMonth(r.timestamp), 6, 'UTC')",
    "lifetime": "toDateTime64(0, 6, 'UTC')",
}


def subject_of(number: int) -> tuple[str, str, str, str]:
    """org_id, metric_key, subject_type and subject_id of a subject."""
    return f"org-{number % ORGS:02d}", METRICS[number % len(METRICS)], "user", f"user-{number:07d}"


def first_month(now: datetime) -> datetime:
    """The usage begins with the month before the last one, so that two whole months are over."""
    this = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last = (this - timedelta(days=1)).replace(day=1)
    return (last - timedelta(days=1)).replace(day=1)


def fill(settings: ClickHouseSettings, windows: int, tell: Callable[[str], None]) -> tuple[int, int]:
    """A migrated database with about this many windows: the exact number, and that of subjects. Keeps what an earlier
    call has made."""
    records = int(windows / WINDOWS_PER_RECORD)
    subjects = records // RECORDS_PER_SUBJECT
    rules = FoldRules(cluster_id="bench", topic_id="bench", partition_count=PARTITIONS)
    with connect(settings, create_database=True, timeout_seconds=3600) as client:
        migrate(client, rules)
        reads.write_settings_once(client, rules)
        if not client.value("SELECT toInt64(count()) FROM fold_progress"):
            begun = time.monotonic()
            _define(client)
            _records(client, records, subjects, tell)
            _windows(client, tell)
            _progress(client)
            tell(f"filled in {time.monotonic() - begun:.0f} s")
        return client.value("SELECT toInt64(count()) FROM usage_windows FINAL"), subjects


def _define(client: Client) -> None:
    types = ("sum", "max", "sum", "avg")
    for key, kind in zip(METRICS, types, strict=True):
        client.command(
            "INSERT INTO metric_definitions (id, key, name, unit, aggregation_type, reset_period, precision, org_id, "
            "display_order, is_active, created_at, updated_at, version, deleted, dimensions) "
            "SELECT {key:String}, {key:String}, {key:String}, 'calls', {kind:String}, 'monthly', 2, '', 0, true, "
            "now64(6), now64(6), 0, 0, if({key:String} = 'tokens', ['model'], [])",
            {"key": key, "kind": kind},
        )


def _records(client: Client, records: int, subjects: int, tell: Callable[[str], None]) -> None:
    start = micros(first_month(datetime.now(UTC)))
    step = _SPAN_DAYS * 86_400_000_000 // records
    # Offsets go on where the slice before has ended.
    counts = (f"(SELECT toInt64(count()) FROM usage_records WHERE partition = {n}) * (p = {n})" for n in _NUMBERS)
    before = " + ".join(counts)
    for first in range(0, records, _SLICE):
        tell(f"records {first:,} of {records:,}")
        client.command(
            f"""
INSERT INTO usage_records (org_id, metric_key, subject_type, subject_id, id, quantity, source, metadata, timestamp,
    received_at, partition, offset, identity_hash)
WITH
    cityHash64(number, 1) % {{subjects:UInt64}} AS s,
    concat('org-', leftPad(toString(s % {ORGS}), 2, '0')) AS org,
    {list(METRICS)}[s % {len(METRICS)} + 1] AS metric,
    concat('user-', leftPad(toString(s), 7, '0')) AS subject,
    toInt32(bitAnd(kafkaMurmurHash(concat('["', org, '","', metric, '","user","', subject, '"]')), 0x7fffffff)
        % {PARTITIONS}) AS p,
    fromUnixTimestamp64Micro(toInt64({start} + number * {step} + 900000000), 'UTC') AS arrival
SELECT org, metric, 'user', subject, concat(lower(hex(cityHash64(number, 2))), '-', toString(number)),
    toDecimal128(cityHash64(number, 3) % 100000, 9) / 1000, 'api',
    if(number % 2 = 0, concat('{{\\"model\\":\\"m', toString(number % 10), '\\"}}'), NULL),
    arrival - toIntervalMicrosecond(cityHash64(number, 4) % 900000000), arrival, p,
    toInt64(row_number() OVER (PARTITION BY p ORDER BY number)) - 1 + {before},
    cityHash64(number)
FROM numbers({first}, {min(_SLICE, records - first)})
""",
            {"subjects": subjects},
        )


def _windows(client: Client, tell: Callable[[str], None]) -> None:
    for period, start in _START.items():
        for group in range(_GROUPS):
            tell(f"{period} windows, {group + 1} of {_GROUPS}")
            client.command(
                f"""
INSERT INTO usage_windows ({_COLUMNS})
SELECT r.org_id, r.metric_key, r.subject_type, r.subject_id, '{period}', {start} AS begins, r.partition,
    toInt64(count()), CAST(sum(toDecimal256(r.quantity, 9)) AS Decimal(38, 9)), min(r.quantity), max(r.quantity),
    argMax(r.quantity, {_ORDER.format(p="r.")}), max(r.timestamp), argMax(r.offset, {_ORDER.format(p="r.")}),
    max(r.offset)
FROM usage_records AS r
WHERE cityHash64(r.subject_id) % {_GROUPS} = {group}
GROUP BY r.partition, r.org_id, r.metric_key, r.subject_type, r.subject_id, begins
""",
                settings=_BOUNDED,
            )


def _progress(client: Client) -> None:
    client.command(
        "INSERT INTO fold_progress (partition, next_offset, log_start, counted, duplicates, rejected, last_stamp) "
        "SELECT partition, max(offset) + 1, 0, count(), 0, 0, max(received_at) FROM usage_records GROUP BY partition"
    )
