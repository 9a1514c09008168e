"""Recently rejected messages, by reason and organization."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from meterfold_sink.client import Client

__all__ = ["RecentRejections", "recent_rejections"]

_RECENT: Final = """
SELECT
    reason,
    org_id,
    toInt64(count()) AS count,
    argMax(partition, (received_at, offset)) AS last_partition,
    argMax(offset, (received_at, offset)) AS last_offset,
    argMax(detail, (received_at, offset)) AS last_detail,
    max(received_at) AS last_at
FROM usage_rejected FINAL
WHERE received_at >= now64(6, 'UTC') - toIntervalMillisecond({milliseconds:Int64})
    AND (partition, received_at, offset) NOT IN (
        SELECT partition, received_at, offset FROM rejected_redrives
        WHERE fact = 'sent' AND received_at >= now64(6, 'UTC') - toIntervalMillisecond({milliseconds:Int64})
    )
GROUP BY reason, org_id
ORDER BY count DESC, reason, org_id
LIMIT {limit:UInt32}
"""


@dataclass(frozen=True, slots=True)
class RecentRejections:
    """`count` messages of one organization (empty: none is known) with one reason. Position, detail and the broker's
    stamp `last_at` are those of the latest one."""

    reason: str
    org_id: str
    count: int
    last_partition: int
    last_offset: int
    last_detail: str
    last_at: datetime


def recent_rejections(client: Client, within_seconds: float, limit: int = 20) -> list[RecentRejections]:
    """Messages that arrived within this many seconds, by the broker's timestamp, were rejected, and were not sent again
    since; the most frequent ones first. Raises Retryable or Fatal."""
    rows = client.rows(_RECENT, {"milliseconds": round(within_seconds * 1000), "limit": limit})
    return [RecentRejections(**row) for row in rows]
