"""The checksum of a closing: one number for the identity and the numbers of every window in it.

A window is hashed as text, so that nothing depends on a server's settings or storage: decimals with all nine places,
times in microseconds, fields separated by NUL, which no field can hold. Positions in Kafka are left out: the same usage
in another installation has the same checksum. The hashes of windows are sorted before they are hashed again, so parts,
partitions and threads do not matter; they are sorted in 65,536 groups by their first four digits, so that a server
never holds all of them in one array. Unlike a sum of hashes, no set of other windows with this checksum can be
constructed. Hashes are hexadecimal text: ClickHouse cuts zero bytes off the end of a binary one that becomes part of a
string.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

__all__ = ["BOUNDED", "EMPTY_CHECKSUM", "IN_ORDER", "checksum_sql", "window_digest"]

BOUNDED: Final[dict[str, Any]] = {
    "max_bytes_before_external_group_by": 256 << 20,
    "max_bytes_ratio_before_external_group_by": 0,
    "max_bytes_before_external_sort": 256 << 20,
    "max_bytes_ratio_before_external_sort": 0,
    "do_not_merge_across_partitions_select_final": 1,
}
"""Settings of statements over all windows of a period: what does not fit goes to the server's disk."""
IN_ORDER: Final[dict[str, Any]] = {**BOUNDED, "optimize_aggregation_in_order": 1}
"""The same where rows are grouped by columns of the sort key: one group after the other, with little in memory."""

EMPTY_CHECKSUM: Final = hashlib.sha256(b"").hexdigest()
"""Of a period without usage."""

_DIGEST: Final = "lower(hex(SHA256(arrayStringConcat(arraySort(groupArray({}))))))"


def window_digest(*, period_type: str, least: str = "min", greatest: str = "max", last: str = "last") -> str:
    """The hash of one window. The arguments are expressions; the other columns are those of closed_windows."""
    fields = (
        f"toString({period_type})",
        "toString(toUnixTimestamp64Micro(period_start))",
        "toString(org_id)",
        "toString(metric_key)",
        "toString(subject_type)",
        "subject_id",
        "toString(record_count)",
        "toDecimalString(sum, 9)",
        f"toDecimalString({least}, 9)",
        f"toDecimalString({greatest}, 9)",
        f"toDecimalString({last}, 9)",
        "toString(toUnixTimestamp64Micro(last_timestamp))",
    )
    return f"lower(hex(SHA256(arrayStringConcat([{', '.join(fields)}], '\\0'))))"


def checksum_sql(windows: str) -> str:
    """(period_start, checksum, window_count, record_count) of each period in `windows`, a query of the columns
    period_start, digest and record_count."""
    return f"""
SELECT period_start, {_DIGEST.format("group_digest")} AS checksum, toInt64(sum(windows)) AS window_count,
    toInt64(sum(records)) AS record_count
FROM
(
    SELECT period_start, {_DIGEST.format("digest")} AS group_digest, count() AS windows, sum(record_count) AS records
    FROM ({windows})
    GROUP BY period_start, substring(digest, 1, 4)
)
GROUP BY period_start"""  # noqa: S608
