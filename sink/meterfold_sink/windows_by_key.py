"""Stored windows of a partition in the order of their key, from any key on.

ClickHouse reads them in this order, part by part, and sends them as they are asked for, so its memory does not depend
on how many there are. Only rows behind the key are read: each of the nested conditions is a range of the primary index
(a comparison of tuples would use its first three columns).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.keys import SUBJECT
from meterfold_schemas.periods import KEPT, STORED_NUMBER, Period
from meterfold_schemas.totals import AMOUNTS
from meterfold_sink.client import Client
from meterfold_sink.reads import END_OF_WINDOW

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["iter_windows_by_key"]

_KEY: Final = ("period_type", "period_start", *SUBJECT)
_COLUMNS: Final = ", ".join((*SUBJECT, "period_type", "period_start", "record_count", *AMOUNTS, "folded_through"))
_SETTINGS: Final = {
    # The partition key is a function of the sort key, so no row has versions in two partitions.
    "do_not_merge_across_partitions_select_final": 1,
    "optimize_read_in_order": 1,
    "max_threads": 1,
    "max_block_size": 16_384,
}
_TYPES: Final = {
    "period_type": "Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3, 'lifetime' = 4)",
    "period_start": "Int64",
}


def iter_windows_by_key(
    client: Client,
    partition: int,
    *,
    ends_after: int,
    period_types: Collection[Period],
    start: int | None = None,
    org_ids: Collection[str] | None = None,
    metric_keys: Collection[str] | None = None,
    after: tuple[int, int, str, str, str, str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Newest version only, of the windows that end after `ends_after` (a lifetime never ends); times in UTC
    microseconds. `start`, `org_ids`, `metric_keys`: None for any. `after`: the number of the stored period type, the
    start, and the subject of the last window that is not wanted any more.

    Columns: the subject, period_type, period_start, record_count, the amounts and folded_through. The connection is
    busy until the last piece was taken, or the iterator is closed.
    """
    conditions = ["partition = {partition:Int32}"]
    kinds = [kept for kept in KEPT if kept in period_types]
    parameters: dict[str, Any] = {"partition": partition}
    conditions.append("period_type IN (" + ", ".join(f"'{Period(kind).value}'" for kind in kinds) + ")")
    if ends_after > 0:
        # The second condition is implied by the first (no kept window is longer than 31 days); it can use the index.
        conditions.append(
            "(period_type = 'lifetime' OR "
            f"({END_OF_WINDOW} > fromUnixTimestamp64Micro({{ends_after:Int64}}, 'UTC') "
            "AND period_start > fromUnixTimestamp64Micro({ends_after:Int64}, 'UTC') - INTERVAL 32 DAY))"
        )
        parameters["ends_after"] = ends_after
    if start is not None:
        conditions.append("period_start = fromUnixTimestamp64Micro({start:Int64}, 'UTC')")
        parameters["start"] = start
    for column, values in (("org_id", org_ids), ("metric_key", metric_keys)):
        if values is not None:
            conditions.append(f"{column} IN {{{column}s:Array(String)}}")
            parameters[f"{column}s"] = sorted(values)
    if after is not None:
        condition, bound = _behind(after)
        conditions.append(condition)
        parameters |= bound
    sql = (
        f"SELECT {_COLUMNS} FROM usage_windows FINAL WHERE {' AND '.join(conditions)} "  # noqa: S608
        f"ORDER BY partition, {', '.join(_KEY)}"
    )
    return client.batches(sql, parameters, _SETTINGS)


def _behind(after: tuple[int, int, str, str, str, str]) -> tuple[str, dict[str, Any]]:
    code, start, *subject = after
    period = next(period for period, number in STORED_NUMBER.items() if number == code)
    values: dict[str, Any] = {
        "period_type": Period(period).value,
        "period_start": start,
        **dict(zip(SUBJECT, subject, strict=True)),
    }
    condition = ""
    for name in reversed(_KEY):
        bound = f"{{after_{name}:{_TYPES.get(name, 'String')}}}"
        if name == "period_start":
            bound = f"fromUnixTimestamp64Micro({bound}, 'UTC')"
        further = f" OR ({name} = {bound} AND {condition})" if condition else ""
        condition = f"({name} > {bound}{further})"
    return condition, {f"after_{name}": value for name, value in values.items()}
