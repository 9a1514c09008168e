"""Whether an identity was counted twice. Where each offset stands is asked in positions.py."""

from __future__ import annotations

import pyarrow as pa

from meterfold_sink.client import Client

__all__ = ["repeated_identities"]


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
