"""What an installation with millions of windows has stored, for pages and query routes: made by ClickHouse itself.

Two in five windows are monthly, the others of a lifetime, a day or an hour: five for each subject. The offsets of
closed periods are below their closings, but for a thousand windows that have moved since. The records are fewer than
the windows have counted: nothing here is to be verified.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.client import Client, connect
from stored import METRICS, ORGS, PARTITIONS

__all__ = ["PER_SUBJECT", "fill", "subject_of"]

PER_SUBJECT = 5
_SLICE = 2_000_000
_CLOSED = 10**12
_MOVED = 1_000
_ALERTS = 100_000
_THRESHOLDS = 2_000
_RECORDS = 1_000_000
_REJECTED = 10_000
_DAY = 86_400_000_000


def subject_of(number: int) -> tuple[str, str, str]:
    """org_id, metric_key and subject_id of a subject of the type user."""
    return f"org-{number % ORGS:02d}", METRICS[number % len(METRICS)], f"user-{number:07d}"


_ORG = f"concat('org-', leftPad(toString(s % {ORGS}), 2, '0'))"
_METRIC = f"{list(METRICS)}[s % {len(METRICS)} + 1]"
_SUBJECT = "concat('user-', leftPad(toString(s), 7, '0'))"
_PARTITION = (
    f"toInt32(bitAnd(kafkaMurmurHash(concat('[\"', {_ORG}, '\",\"', {_METRIC}, '\",\"user\",\"', {_SUBJECT}, '\"]')), "
    f"0x7fffffff) % {PARTITIONS})"
)


def fill(settings: ClickHouseSettings, windows: int, tell: Callable[[str], None]) -> int:
    """Fill a migrated database, unless an earlier call has. The number of subjects."""
    subjects = windows // PER_SUBJECT
    with connect(settings, timeout_seconds=3600) as client:
        if not client.value("SELECT toInt64(count()) FROM fold_progress"):
            begun = time.monotonic()
            _windows(client, subjects, tell)
            tell("closings")
            _closings(client)
            tell("records, thresholds, alerts, deliveries")
            _records(client, subjects)
            _definitions(client, subjects)
            _alerts(client, subjects)
            _deliveries(client)
            client.command(
                "INSERT INTO fold_progress (partition, next_offset, log_start, counted, duplicates, rejected, "
                f"last_stamp) SELECT number, {2 * _CLOSED}, 0, 1000000, 0, 0, now64(6) FROM numbers({PARTITIONS})"
            )
            tell(f"filled in {time.monotonic() - begun:.0f} s")
    return subjects


def _windows(client: Client, subjects: int, tell: Callable[[str], None]) -> None:
    """Each subject was active at one time of the last sixty days, and in this month and the last."""
    now = micros(datetime.now(UTC))
    at = f"fromUnixTimestamp64Micro(toInt64({now} - cityHash64(s) % {60 * _DAY}), 'UTC')"
    month = "toStartOfMonth(now('UTC'))"
    kinds = {
        "lifetime": ("toDateTime64(0, 6, 'UTC')", 1),
        "monthly": (f"toDateTime64({month} - toIntervalMonth(intDiv(number, {subjects})), 6, 'UTC')", 2),
        "daily": (f"toDateTime64(toStartOfDay({at}), 6, 'UTC')", 1),
        "hourly": (f"toDateTime64(toStartOfHour({at}), 6, 'UTC')", 1),
    }
    for kind, (start, each) in kinds.items():
        for first in range(0, subjects * each, _SLICE):
            tell(f"{kind} windows, {first:,} of {subjects * each:,}")
            client.command(
                f"""
INSERT INTO usage_windows (org_id, metric_key, subject_type, subject_id, period_type, period_start, partition,
    record_count, sum, min, max, last, last_timestamp, last_offset, folded_through)
WITH number % {subjects} AS s, {at} AS used
SELECT {_ORG}, {_METRIC}, 'user', {_SUBJECT}, '{kind}', {start}, {_PARTITION}, 1 + s % 9, s % 1000, 1, 9, 3, used,
    number, number + if('{kind}' = 'daily' AND s < {_MOVED}, {_CLOSED}, 0)
FROM numbers({first}, {min(_SLICE, subjects * each - first)})
""",
                settings={"max_partitions_per_insert_block": 0},
            )


def _closings(client: Client) -> None:
    """Of every hour, day and month that has ended, but the last day, which is due."""
    for kind, step, count in (("hourly", "Hour", 60 * 24), ("daily", "Day", 60), ("monthly", "Month", 2)):
        client.command(
            f"""
INSERT INTO period_closings (period_type, period_start, metric_key, checksum, window_count, record_count, next_offsets,
    closed_at)
WITH toDateTime64(toStartOf{step}(now('UTC') - toInterval{step}(number + 1)), 6, 'UTC') AS start
SELECT '{kind}', start, '', lower(hex(SHA256(toString(number)))), 1000, 9000,
    mapFromArrays(arrayMap(p -> toInt32(p), range({PARTITIONS})),
        arrayMap(p -> toInt64({_CLOSED}), range({PARTITIONS}))), start
FROM numbers({count})
WHERE start < toStartOfDay(now('UTC') - INTERVAL 1 DAY)
"""
        )
    client.command(
        """
INSERT INTO closed_windows (period_type, period_start, metric_key, org_id, subject_type, subject_id, partition,
    record_count, sum, min, max, last, last_timestamp, last_offset, folded_through)
SELECT toString(period_type), period_start, metric_key, org_id, subject_type, subject_id, partition, record_count, sum,
    min, max, last, last_timestamp, last_offset, last_offset
FROM usage_windows AS w
WHERE w.period_type != 'lifetime' AND w.period_start < toStartOfMonth(now('UTC'))
""",
        settings={"max_partitions_per_insert_block": 0},
    )


def _records(client: Client, subjects: int) -> None:
    now = micros(datetime.now(UTC))
    count = min(_RECORDS, subjects)
    client.command(
        f"""
INSERT INTO usage_records (org_id, metric_key, subject_type, subject_id, id, quantity, source, metadata, timestamp,
    received_at, partition, offset, identity_hash)
WITH number % {subjects} AS s, fromUnixTimestamp64Micro(toInt64({now} - cityHash64(s) % {60 * _DAY}), 'UTC') AS used
SELECT {_ORG}, {_METRIC}, 'user', {_SUBJECT}, toString(number), 3, 'api',
    concat('{{"model":"m', toString(number % 10), '"}}'), used, used, {_PARTITION}, number, cityHash64(number)
FROM numbers({count})
"""
    )
    client.command(
        f"""
INSERT INTO usage_rejected (partition, offset, received_at, reason, detail, key, value, org_id, metric_key,
    subject_type, subject_id)
WITH number AS s
SELECT {_PARTITION}, {_CLOSED} + number, now64(6) - toIntervalSecond(number), ['too_old', 'invalid'][number % 2 + 1],
    'bench', 'key', 'value', {_ORG}, {_METRIC}, 'user', {_SUBJECT}
FROM numbers({_REJECTED})
"""
    )


def _definitions(client: Client, subjects: int) -> None:
    """Four metrics of every organization; a threshold on each, on twenty subjects of every organization, and on two
    thousand subjects."""
    client.command(
        f"""
INSERT INTO metric_definitions (id, key, name, unit, aggregation_type, reset_period, precision, org_id, display_order,
    is_active, created_at, updated_at, version, deleted, dimensions)
SELECT {list(METRICS)}[number + 1] AS name_of, name_of, name_of, 'calls', ['sum', 'max', 'sum', 'avg'][number + 1],
    'monthly', 2, '', 0, true, now64(6), now64(6), 0, 0, if(name_of = 'tokens', ['model'], [])
FROM numbers({len(METRICS)})
"""
    )
    client.command(
        f"""
INSERT INTO thresholds (id, org_id, metric_key, subject_type, subject_id, name, threshold, warn_threshold, period_type,
    action, notify_emails, is_active, created_at, updated_at, version, deleted)
WITH toInt64(number) AS s
SELECT concat('t-', toString(s)), if(s < 24, NULL, {_ORG}), {_METRIC}, if(s < 4, NULL, 'user'),
    if(s < 4, NULL, {_SUBJECT}), concat('quota ', toString(s)), 900, 720, 'monthly', 'alert', [], true, now64(6),
    now64(6), 0, 0
FROM numbers({min(_THRESHOLDS, subjects)})
"""
    )


def _alerts(client: Client, subjects: int) -> None:
    """Both levels of subjects that have reached the thresholds on every subject this month; one in ten is cleared."""
    month = "toDateTime64(toStartOfMonth(now('UTC')), 6, 'UTC')"
    kinds = (
        ("approaching", "approaching", ""),
        ("exceeded", "exceeded", ""),
        ("cleared", "exceeded", "AND s % 10 = 0"),
    )
    for event, level, condition in kinds:
        client.command(
            f"""
INSERT INTO threshold_events (event_id, event_type, occurred_at, alert_id, threshold_id, org_id, metric_key,
    subject_type, subject_id, period_type, period_start, period_end, level, crossing, threshold, warn_threshold,
    actual_value, percentage_used, action)
WITH toInt64(number) AS s
SELECT concat('{event}-{level}-', toString(s)), 'threshold.{event}', now64(6) - toIntervalSecond(s),
    concat('{level}-', toString(s)), concat('t-', toString(s % 4)), {_ORG}, {_METRIC}, 'user', {_SUBJECT}, 'monthly',
    {month}, {month} + INTERVAL 1 MONTH, '{level}', 1, 900, 720, 950, 105, 'alert'
FROM numbers({min(_ALERTS, subjects)})
WHERE 1 {condition}
"""
        )
    client.command(
        "INSERT INTO alert_actions (alert_id, action, by, at) SELECT concat('exceeded-', toString(number)), "
        "'acknowledge', 'bench', now64(6) FROM numbers(10000)"
    )


def _deliveries(client: Client) -> None:
    for attempt, state in ((0, "pending"), (1, "delivered")):
        client.command(
            f"""
INSERT INTO notification_tries (occurred_at, event_id, channel, target, round, attempt, stage, state, due_at,
    give_up_at, event_type, topic, partition, org_id, threshold_id, alert_id, payload, started_at, ended_at)
WITH now64(6) - toIntervalSecond(number) AS at
SELECT at, concat('exceeded-exceeded-', toString(number)), 'webhook', 'https://hooks.example.com', 0, {attempt}, 0,
    '{state}', at, at + INTERVAL 1 DAY, 'threshold.exceeded', 't', 0, 'org-00', 't-0',
    concat('exceeded-', toString(number)), '{{}}', at, at
FROM numbers({_ALERTS})
"""
        )


def first_day(now: datetime) -> datetime:
    """Of the usage that is asked for."""
    return (now - timedelta(days=30)).replace(hour=0, minute=0, second=0, microsecond=0)
