"""Stored windows of a few partitions: those from a time on, those that are open, those that no recount reaches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from meterfold_sink.client import Client
from meterfold_sink.reads import END_OF_WINDOW, FINAL, WINDOW_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["has_windows", "open_windows", "stored_windows", "unprovable_windows"]

#: The windows of more metrics than this are read with those of every metric.
_MOST_METRICS: Final = 8


def has_windows(client: Client, partition: int) -> bool:
    """Whether a partition has any window. Reads one row."""
    sql = "SELECT count() FROM (SELECT 1 FROM usage_windows WHERE partition = {partition:Int32} LIMIT 1)"
    return bool(client.value(sql, {"partition": partition}))


def stored_windows(
    client: Client, partitions: Sequence[int], period_types: Iterable[str], start: int
) -> Iterator[pa.RecordBatch]:
    """The windows of partitions that begin at `start` (UTC microseconds) or later, each once: name, partition, values
    and folded_through, `period_start` in UTC microseconds."""
    return client.batches(
        "SELECT partition, org_id, metric_key, subject_type, subject_id, toString(w.period_type) AS period_type, "
        "toUnixTimestamp64Micro(w.period_start) AS period_start, record_count, sum, min, max, last, folded_through "
        "FROM usage_windows AS w FINAL WHERE partition IN {partitions:Array(Int32)} "
        "AND has({period_types:Array(String)}, toString(w.period_type)) "
        "AND w.period_start >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')",
        {"partitions": list(partitions), "period_types": sorted(period_types), "start": start},
    )


def open_windows(
    client: Client,
    ends_after: Mapping[int, int],
    period_types: Iterable[str],
    metrics: Collection[tuple[str | None, str]],
) -> dict[int, Iterable[pa.Table]]:
    """partition -> its windows that end after `ends_after[partition]` (UTC microseconds; a lifetime never ends), of
    some period types and of the metrics (org_id, or None for any; key). Each window once, and perhaps some of other
    metrics; no entry where there is none.

    Those of one partition are streamed; those of several are in memory at once.
    """
    kinds = sorted(period_types)
    if not kinds or not ends_after:
        return {}
    batches = client.batches(*_open_windows(ends_after, kinds, metrics), FINAL)
    if len(ends_after) == 1:
        return {partition: map(_table, batches) for partition in ends_after}
    found: dict[int, list[pa.Table]] = {}
    for batch in batches:
        table = _table(batch)
        numbers = table.column("partition").to_numpy()
        for partition in sorted({*numbers.tolist()}):
            found.setdefault(partition, []).append(table.filter(numbers == partition))
    return dict(found)


def _open_windows(
    ends_after: Mapping[int, int], period_types: list[str], metrics: Collection[tuple[str | None, str]]
) -> tuple[str, dict[str, Any]]:
    named = sorted(metrics, key=str) if len(metrics) <= _MOST_METRICS else []
    some = " OR ".join(
        f"(metric_key = {{key{n}:String}}{'' if org_id is None else f' AND org_id = {{org{n}:String}}'})"
        for n, (org_id, _) in enumerate(named)
    )
    after = (
        "fromUnixTimestamp64Micro(transform(partition, {partitions:Array(Int32)}, {ends:Array(Int64)}, toInt64(0)), "
        "'UTC')"
    )
    sql = (
        f"SELECT {', '.join(WINDOW_COLUMNS)} FROM usage_windows FINAL "  # noqa: S608
        "WHERE partition IN {partitions:Array(Int32)} AND has({period_types:Array(String)}, toString(period_type)) "
        f"AND (period_type = 'lifetime' OR ({END_OF_WINDOW} > {after} "
        # Implied by the condition before it, since no stored window is longer than 31 days; it can use the index.
        "AND period_start > fromUnixTimestamp64Micro({earliest:Int64}, 'UTC') - INTERVAL 32 DAY))"
        f"{f' AND ({some})' if some else ''}"
    )
    return sql, {
        "partitions": list(ends_after),
        "ends": list(ends_after.values()),
        "earliest": min(ends_after.values()),
        "period_types": period_types,
        **{f"key{n}": key for n, (_, key) in enumerate(named)},
        **{f"org{n}": org_id for n, (org_id, _) in enumerate(named) if org_id is not None},
    }


def _table(batch: pa.RecordBatch) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_batches([batch])


def unprovable_windows(client: Client, partitions: Sequence[int], start: int, end: int) -> list[dict[str, Any]]:
    """Windows in [start, end) (UTC microseconds) whose records may have expired, for each partition and period type:
    {partition, period_type, earliest, latest, windows, records}."""
    return client.rows(
        "SELECT partition, period_type, min(period_start) AS earliest, max(period_start) AS latest, "  # noqa: S608
        "toInt64(count()) AS windows, toInt64(sum(record_count)) AS records FROM usage_unprovable_windows "
        "WHERE partition IN {partitions:Array(Int32)} "
        "AND period_start >= fromUnixTimestamp64Micro({start:Int64}, 'UTC') "
        f"AND {END_OF_WINDOW} <= fromUnixTimestamp64Micro({{end:Int64}}, 'UTC') "
        "GROUP BY partition, period_type ORDER BY partition, period_type",
        {"partitions": list(partitions), "start": start, "end": end},
    )
