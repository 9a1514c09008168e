"""Offsets that are stored nowhere, and identities that were counted twice. positions.py asks the rest of offsets."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from meterfold_sink.client import Client

__all__ = ["gaps", "repeated_identities"]

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


def repeated_identities(client: Client, partition: int, lookback_seconds: int, *, limit: int = 1000) -> pa.Table:
    """Identities that were counted twice within the look-back: there must be none.

    Columns: org_id, metric_key, subject_type, subject_id, id, offset, earlier_offset.
    """
    # Grouped by hash first: only the few repeated ones are compared by identity.
    return client.query(
        "SELECT org_id, metric_key, subject_type, subject_id, id, offset, earlier_offset FROM ("
        # Stamps step back, so the latest of all earlier ones counts, not the one just before.
        "SELECT *, count() OVER earlier AS repeated, argMax(offset, received_at) OVER earlier AS earlier_offset, "
        "max(received_at) OVER earlier AS earlier_stamp FROM usage_records FINAL "
        "WHERE partition = {partition:Int32} AND identity_hash IN (SELECT identity_hash FROM usage_records FINAL "
        "WHERE partition = {partition:Int32} GROUP BY identity_hash HAVING count() > 1) "
        "WINDOW earlier AS (PARTITION BY org_id, metric_key, subject_type, subject_id, id ORDER BY offset "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        ") WHERE repeated > 0 AND earlier_stamp >= received_at - toIntervalSecond({lookback:Int64}) "
        "ORDER BY offset LIMIT {limit:UInt64}",
        {"partition": partition, "lookback": lookback_seconds, "limit": limit},
    )
