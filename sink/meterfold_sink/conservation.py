"""Offsets that are stored nowhere, identities that were counted twice, duplicates of nothing; the rest of offsets is in
positions.py.

Every question takes the part of the log that it is about: offsets [first, until).
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from meterfold_sink.client import Client

__all__ = ["gaps", "repeated_identities", "unfounded_duplicates"]

END: Final = 2**62
"""Beyond every offset."""

_STORED: Final = """
SELECT offset FROM usage_records FINAL WHERE partition = {partition:Int32}
UNION ALL
SELECT offset FROM usage_duplicates FINAL WHERE partition = {partition:Int32}
UNION ALL
SELECT offset FROM usage_rejected FINAL WHERE partition = {partition:Int32}
"""


def gaps(client: Client, partition: int, first: int, until: int, *, limit: int = 1000) -> pa.Table:
    """Offsets in [first, until) that are stored nowhere, as (first_offset, last_offset), in order.

    A transaction marker has an offset and no message; so has a message that expired before or after it was folded.
    """
    return client.query(
        "SELECT previous + 1 AS first_offset, offset - 1 AS last_offset FROM ("  # noqa: S608
        "SELECT offset, lagInFrame(offset, 1, {first:Int64} - 1) OVER (ORDER BY offset ROWS BETWEEN 1 PRECEDING AND "
        f"CURRENT ROW) AS previous FROM (SELECT DISTINCT offset FROM ({_STORED}) "
        "WHERE offset >= {first:Int64} AND offset < {until:Int64} UNION ALL SELECT {until:Int64} AS offset)"
        ") WHERE offset - previous > 1 ORDER BY first_offset LIMIT {limit:UInt64}",
        {"partition": partition, "first": first, "until": until, "limit": limit},
    )


def repeated_identities(
    client: Client, partition: int, lookback_seconds: int, *, first: int = 0, until: int = END, limit: int = 1000
) -> pa.Table:
    """Records of [first, until) whose identity was counted before within the look-back: there must be none.

    Columns: org_id, metric_key, subject_type, subject_id, id, offset, earlier_offset.
    """
    # Grouped by hash first: only the few repeated ones are compared by identity.
    return client.query(
        "SELECT org_id, metric_key, subject_type, subject_id, id, offset, earlier_offset FROM ("
        # Stamps step back, so the latest of all earlier ones counts, not the one just before.
        "SELECT *, count() OVER earlier AS repeated, argMax(offset, received_at) OVER earlier AS earlier_offset, "
        "max(received_at) OVER earlier AS earlier_stamp FROM usage_records FINAL "
        "WHERE partition = {partition:Int32} AND offset < {until:Int64} AND identity_hash IN ("
        "SELECT identity_hash FROM usage_records FINAL WHERE partition = {partition:Int32} AND offset < {until:Int64} "
        "GROUP BY identity_hash HAVING count() > 1 AND max(offset) >= {first:Int64}) "
        "WINDOW earlier AS (PARTITION BY org_id, metric_key, subject_type, subject_id, id ORDER BY offset "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        ") WHERE repeated > 0 AND offset >= {first:Int64} "
        "AND earlier_stamp >= received_at - toIntervalSecond({lookback:Int64}) "
        "ORDER BY offset LIMIT {limit:UInt64}",
        {"partition": partition, "lookback": lookback_seconds, "first": first, "until": until, "limit": limit},
    )


def unfounded_duplicates(
    client: Client,
    partition: int,
    lookback_seconds: int,
    *,
    first: int,
    until: int,
    kept_from: int = 0,
    limit: int = 1000,
) -> tuple[pa.Table, int]:
    """Duplicates of [first, until) whose `counted_offset` is no earlier record of their identity within the look-back.

    Columns: org_id, metric_key, subject_type, subject_id, id, offset, counted_offset, is_stored (whether any record
    stands there). Beside them, how many duplicates repeat what may have expired: nothing stands there, and it may have
    been counted before `kept_from` (UTC microseconds).
    """
    slice_of = "partition = {partition:Int32} AND offset >= {first:Int64} AND offset < {until:Int64}"
    oldest = "d.received_at - toIntervalSecond({lookback:Int64})"
    unfounded = (
        "SELECT d.org_id AS org_id, d.metric_key AS metric_key, d.subject_type AS subject_type, "  # noqa: S608
        "d.subject_id AS subject_id, d.id AS id, d.offset AS offset, d.counted_offset AS counted_offset, "
        "r.is_record AS is_stored, NOT r.is_record AND d.counted_offset < d.offset "
        f"AND {oldest} < fromUnixTimestamp64Micro({{kept_from:Int64}}, 'UTC') AS is_expired FROM ("
        f"SELECT * FROM usage_duplicates FINAL WHERE {slice_of}) AS d "
        "LEFT ANY JOIN ("
        "SELECT org_id, metric_key, subject_type, subject_id, id, received_at, offset AS record_offset, "
        "true AS is_record FROM usage_records FINAL WHERE partition = {partition:Int32} AND offset IN ("
        f"SELECT counted_offset FROM usage_duplicates WHERE {slice_of})"
        ") AS r ON r.record_offset = d.counted_offset "
        "WHERE NOT r.is_record OR d.counted_offset >= d.offset OR r.org_id != d.org_id "
        "OR r.metric_key != d.metric_key OR r.subject_type != d.subject_type OR r.subject_id != d.subject_id "
        f"OR r.id != d.id OR r.received_at < {oldest}"
    )
    parameters = {
        "partition": partition,
        "lookback": lookback_seconds,
        "first": first,
        "until": until,
        "kept_from": max(kept_from, 0),
        "limit": limit,
    }
    # The expired ones come last, and each row has their number: one join answers both questions.
    rows = client.query(
        f"SELECT *, toInt64(countIf(is_expired) OVER ()) AS expired FROM ({unfounded}) "  # noqa: S608
        "ORDER BY is_expired, offset LIMIT {limit:UInt64}",
        parameters,
        {"join_use_nulls": 0},
    )
    expired = int(rows.column("expired")[0].as_py()) if rows.num_rows else 0
    kept = pa.array([not is_expired for is_expired in rows.column("is_expired").to_pylist()], pa.bool_())
    return rows.filter(kept).drop_columns(["is_expired", "expired"]), expired
