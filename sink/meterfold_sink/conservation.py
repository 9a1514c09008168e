"""Offsets that are stored nowhere, identities that were counted twice, duplicates of nothing; the rest of offsets is in
positions.py.

Every question takes the parts of the log that it is about: at most one span of each partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from meterfold_sink.client import Client
from meterfold_sink.positions import KINDS, Span, spans_condition, spans_parameters

__all__ = ["END", "gaps", "repeated_identities", "unfounded_duplicates"]

END: Final = 2**62
"""Beyond every offset."""


def gaps(client: Client, spans: Sequence[Span], *, limit: int = 1000) -> pa.Table:
    """Offsets of the spans that are stored nowhere, as (partition, first_offset, last_offset), in order, up to `limit`
    of each partition.

    A transaction marker has an offset and no message; so has a message that expired before or after it was folded.
    """
    stored = " UNION ALL ".join(
        f"SELECT partition, offset FROM {table} FINAL WHERE {spans_condition(spans)}"  # noqa: S608
        for table in KINDS.values()
    )
    # Each span is enclosed in the offsets before and behind it.
    edges = (
        "SELECT edge.1 AS partition, edge.2 AS offset FROM ("
        "SELECT arrayJoin(arrayZip({partitions:Array(Int32)}, {edges:Array(Int64)})) AS edge)"
    )
    return client.query(
        "SELECT partition, previous + 1 AS first_offset, offset - 1 AS last_offset FROM ("  # noqa: S608
        "SELECT partition, offset, lagInFrame(offset, 1) OVER each AS previous, row_number() OVER each AS place FROM ("
        f"SELECT DISTINCT partition, offset FROM ({stored} UNION ALL {edges})) "
        "WINDOW each AS (PARTITION BY partition ORDER BY offset ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        ") WHERE place > 1 AND offset - previous > 1 "
        "ORDER BY partition, first_offset LIMIT {limit:UInt64} BY partition",
        {
            **spans_parameters(spans),
            "partitions": [span.partition for span in spans for _ in range(2)],
            "edges": [edge for span in spans for edge in (span.first - 1, span.until)],
            "limit": limit,
        },
    )


def repeated_identities(
    client: Client, spans: Sequence[Span], lookback_seconds: int, *, limit: int = 1000
) -> list[dict[str, Any]]:
    """Records of the spans whose identity was counted before within the look-back: there must be none.

    {partition, org_id, metric_key, subject_type, subject_id, id, offset, earlier_offset}, in order, up to `limit` of
    each partition.
    """
    below = spans_condition(spans, "offset < {until}")
    first = "transform(partition, {partitions:Array(Int32)}, {firsts:Array(Int64)}, toInt64(0))"
    # Grouped by hash first: only the few repeated ones are compared by identity.
    return client.query(
        "SELECT partition, org_id, metric_key, subject_type, subject_id, id, offset, earlier_offset FROM ("  # noqa: S608
        # Stamps step back, so the latest of all earlier ones counts, not the one just before.
        "SELECT *, count() OVER earlier AS repeated, argMax(offset, received_at) OVER earlier AS earlier_offset, "
        "max(received_at) OVER earlier AS earlier_stamp FROM usage_records FINAL "
        f"WHERE ({below}) AND (partition, identity_hash) IN ("
        f"SELECT partition, identity_hash FROM usage_records FINAL WHERE {below} "
        f"GROUP BY partition, identity_hash HAVING count() > 1 AND max(offset) >= {first}) "
        "WINDOW earlier AS (PARTITION BY partition, org_id, metric_key, subject_type, subject_id, id ORDER BY offset "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        f") WHERE repeated > 0 AND offset >= {first} "
        "AND earlier_stamp >= received_at - toIntervalSecond({lookback:Int64}) "
        "ORDER BY partition, offset LIMIT {limit:UInt64} BY partition",
        {
            **spans_parameters(spans),
            "partitions": [span.partition for span in spans],
            "firsts": [span.first for span in spans],
            "lookback": lookback_seconds,
            "limit": limit,
        },
    ).to_pylist()


def unfounded_duplicates(
    client: Client, spans: Sequence[Span], lookback_seconds: int, *, kept_from: int = 0, limit: int = 1000
) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """Duplicates of the spans whose `counted_offset` is not an earlier record of their identity within the look-back.

    {partition, org_id, metric_key, subject_type, subject_id, id, offset, counted_offset, is_stored (whether any record
    is at that offset)}, in order, up to `limit` of each partition. And partition -> how many duplicates repeat what may
    have expired: no record is at that offset, and it may have been counted before `kept_from` (UTC microseconds).
    """
    slice_of = f"({spans_condition(spans)})"
    oldest = "d.received_at - toIntervalSecond({lookback:Int64})"
    unfounded = (
        "SELECT d.partition AS partition, d.org_id AS org_id, d.metric_key AS metric_key, "  # noqa: S608
        "d.subject_type AS subject_type, d.subject_id AS subject_id, d.id AS id, d.offset AS offset, "
        "d.counted_offset AS counted_offset, "
        "r.is_record AS is_stored, NOT r.is_record AND d.counted_offset < d.offset "
        f"AND {oldest} < fromUnixTimestamp64Micro({{kept_from:Int64}}, 'UTC') AS is_expired FROM ("
        f"SELECT * FROM usage_duplicates FINAL WHERE {slice_of}) AS d "
        "LEFT ANY JOIN ("
        "SELECT partition, org_id, metric_key, subject_type, subject_id, id, received_at, offset AS record_offset, "
        "true AS is_record FROM usage_records FINAL "
        "WHERE partition IN {partitions:Array(Int32)} AND (partition, offset) IN ("
        f"SELECT partition, counted_offset FROM usage_duplicates WHERE {slice_of})"
        ") AS r ON r.partition = d.partition AND r.record_offset = d.counted_offset "
        "WHERE NOT r.is_record OR d.counted_offset >= d.offset OR r.org_id != d.org_id "
        "OR r.metric_key != d.metric_key OR r.subject_type != d.subject_type OR r.subject_id != d.subject_id "
        f"OR r.id != d.id OR r.received_at < {oldest}"
    )
    # The expired ones come last, and each row has their number: one join answers both questions.
    rows = client.query(
        f"SELECT *, toInt64(countIf(is_expired) OVER (PARTITION BY partition)) AS expired FROM ({unfounded}) "  # noqa: S608
        "ORDER BY partition, is_expired, offset LIMIT {limit:UInt64} BY partition",
        {
            **spans_parameters(spans),
            "partitions": [span.partition for span in spans],
            "lookback": lookback_seconds,
            "kept_from": max(kept_from, 0),
            "limit": limit,
        },
        {"join_use_nulls": 0},
    ).to_pylist()
    expired = {row["partition"]: row.pop("expired") for row in rows}
    return [row for row in rows if not row.pop("is_expired")], expired
