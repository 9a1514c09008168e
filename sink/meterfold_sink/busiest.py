"""Which subjects record the most events at present."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from meterfold_schemas.periods import micros

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = ["BusySubject", "busiest_subjects"]

_SQL: Final = """
SELECT
    toString(org_id) AS org_id,
    toString(metric_key) AS metric_key,
    toString(subject_type) AS subject_type,
    subject_id,
    toInt64(sum(record_count)) AS records,
    sum(toDecimal256(w.sum, 9)) AS quantity
FROM usage_windows AS w FINAL
WHERE period_type = 'hourly' AND period_start >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')
GROUP BY org_id, metric_key, subject_type, subject_id
ORDER BY records DESC, org_id, metric_key, subject_type, subject_id
LIMIT {limit:UInt32}
"""
_FINAL: Final = {"do_not_merge_across_partitions_select_final": 1}


@dataclass(frozen=True, slots=True)
class BusySubject:
    """A subject of one metric: its counted events, and the sum of their quantities."""

    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    records: int
    quantity: Decimal


def busiest_subjects(client: Client, since: datetime, *, limit: int) -> list[BusySubject]:
    """By their events in hourly windows that begin at `since` or later. Reads the windows of these hours. Raises
    Retryable or Fatal."""
    return [BusySubject(**row) for row in client.rows(_SQL, {"since": micros(since), "limit": limit}, _FINAL)]
