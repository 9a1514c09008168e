"""Every row of one kind, in a stated order: what usage.export writes.

Records, duplicates and rejected messages are read up to positions that are captured first. The fold writes its progress
after the rows, so all rows below a captured position are stored, and rows that are folded meanwhile are left out: the
same positions give the same rows. Summaries change in place; one statement reads them as of one moment, which is not
before the captured positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas import usage_fields
from meterfold_schemas.keys import SUBJECT
from meterfold_schemas.periods import HOUR, from_micros
from meterfold_sink.rules import FoldRules
from meterfold_sink.usage_sums import MissingRecords, first_kept_hour

if TYPE_CHECKING:
    from meterfold_sink.arrow_reader import ArrowReader
    from meterfold_sink.client import Client
    from meterfold_sink.small import Parameter

__all__ = ["ExportFilter", "binary_columns", "count_rows", "expired_records", "read_rows"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a kind is read from. `time`: the column that start and end limit. `by_arrival`: rows are bounded by
    position, and their arrival follows from their time within the rules. `binary`: columns of any bytes."""

    table: str
    columns: tuple[str, ...]
    time: str
    order: tuple[str, ...]
    bounded: bool = True
    by_arrival: bool = False
    binary: tuple[str, ...] = ()


_POSITION: Final = ("received_at", "partition", "offset")
_LOG_ORDER: Final = ("partition", "received_at", "offset")
_SUMMARY: Final = (
    *SUBJECT,
    *("period_type", "period_start", "period_end", "total_quantity", "record_count", "sum", "min_quantity"),
    *("max_quantity", "avg_quantity", "last_quantity", "is_final", "updated_at"),
)
_ADJUSTMENT: Final = (
    *SUBJECT,
    *("period_type", "period_start", "period_end", "closed_at", "revised_at", "old_quantity", "new_quantity"),
    *("difference", "old_count", "new_count", "old_sum", "new_sum", "partition", "offsets"),
)

_KINDS: Final[Mapping[str, _Kind]] = MappingProxyType(
    {
        "records": _Kind("usage_records", (*usage_fields.NAMES, *_POSITION), "timestamp", _LOG_ORDER, by_arrival=True),
        "summaries": _Kind(
            "usage_summaries", _SUMMARY, "period_start", ("period_start", *SUBJECT, "period_type"), bounded=False
        ),
        "duplicates": _Kind(
            "usage_duplicates",
            (*usage_fields.IDENTITY, "quantity", "timestamp", *_POSITION, "counted_offset"),
            "timestamp",
            _LOG_ORDER,
            by_arrival=True,
        ),
        "rejected": _Kind(
            "usage_rejected",
            (*_POSITION, "reason", "detail", "key", "value", *SUBJECT),
            "received_at",
            _LOG_ORDER,
            binary=("key", "value"),
        ),
        "adjustments": _Kind(
            "usage_adjustments",
            _ADJUSTMENT,
            "period_start",
            ("period_start", *SUBJECT, "period_type", "closed_at", "partition"),
            bounded=False,
        ),
    }
)
_HOURS: Final = _Kind("usage_windows", (), "period_start", (), bounded=False)
_SETTINGS: Final[Mapping[str, Any]] = {
    # The partition key is a function of the sort key, so no row has versions in two partitions.
    "do_not_merge_across_partitions_select_final": 1,
    # The rows come in the order of the sort key, and summaries are sorted with the help of the disk.
    "optimize_read_in_order": 1,
    "max_bytes_before_external_sort": 256 << 20,
    "max_bytes_ratio_before_external_sort": 0,
    "max_bytes_before_external_group_by": 256 << 20,
    "max_bytes_ratio_before_external_group_by": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFilter:
    """Which rows. Times in UTC microseconds, start <= time < end; None: no limit. `org_id` None is every organization,
    "" those without one. `period` only matters to summaries and adjustments; None: every one."""

    metric_key: str | None = None
    subject: tuple[str, str] | None = None
    org_id: str | None = None
    start: int | None = None
    end: int | None = None
    period: str | None = None


def read_rows(
    client: Client, rules: FoldRules, kind: str, wanted: ExportFilter, positions: Mapping[int, int]
) -> ArrowReader:
    """The rows in constant memory: the schema and the batches. `positions` is partition -> next offset; rows of other
    partitions and from these offsets on are left out. Raises Retryable or Fatal."""
    of = _KINDS[kind]
    columns = ", ".join(_column(of, name) for name in of.columns)
    where, parameters = _where(of, rules, wanted, positions)
    sql = f"SELECT {columns} FROM {of.table} AS s{_final(of)} WHERE {where} ORDER BY {_order(of)}"  # noqa: S608
    settings = {**_SETTINGS, "output_format_arrow_string_as_string": int(not of.binary)}
    return client.reader(sql, parameters, settings)


def count_rows(client: Client, rules: FoldRules, kind: str, wanted: ExportFilter, positions: Mapping[int, int]) -> int:
    """How many rows `read_rows` has now."""
    of = _KINDS[kind]
    where, parameters = _where(of, rules, wanted, positions)
    (row,) = client.rows(
        f"SELECT toInt64(count()) AS n FROM {of.table} AS s{_final(of)} WHERE {where}",  # noqa: S608
        parameters,
        _SETTINGS,
    )
    found: int = row["n"]
    return found


def expired_records(client: Client, rules: FoldRules, wanted: ExportFilter, now: int) -> MissingRecords | None:
    """How many records of the hours that the selection touches have expired at `now` (UTC microseconds), and the first
    such hour. None: all are there.

    Hours are counted in the windows, which outlive the records. Raises Retryable or Fatal.
    """
    kept_from = first_kept_hour(rules, now)
    end = kept_from if wanted.end is None else min(kept_from, wanted.end + -wanted.end % HOUR)
    start = None if wanted.start is None else wanted.start - wanted.start % HOUR
    if start is not None and start >= end:
        return None
    whole = replace(wanted, start=start, end=end, period=None)
    windows, parameters = _where(_HOURS, rules, whole, {})
    records, more = _where(replace(_KINDS["records"], bounded=False), rules, whole, {})
    sql = f"""
SELECT toInt64(count()) AS hours, toInt64(min(hour)) AS hour, toInt64(sum(missing)) AS missing
FROM
(
    SELECT hour, sum(counted) - sum(kept) AS missing
    FROM
    (
        SELECT toUnixTimestamp64Micro(s.period_start) AS hour, s.record_count AS counted, toInt64(0) AS kept
        FROM usage_windows AS s FINAL WHERE {windows} AND s.period_type = 'hourly'
        UNION ALL
        SELECT intDiv(toUnixTimestamp64Micro(s.timestamp), {HOUR}) * {HOUR} AS hour, toInt64(0), toInt64(1)
        FROM usage_records AS s FINAL WHERE {records}
    )
    GROUP BY hour
    HAVING missing > 0
)
"""  # noqa: S608
    (row,) = client.rows(sql, {**parameters, **more}, _SETTINGS)
    if not row["hours"]:
        return None
    return MissingRecords(from_micros(row["hour"]), row["missing"], from_micros(kept_from))


def binary_columns(kind: str) -> tuple[str, ...]:
    """The columns of a kind that may hold any bytes. Where there are some, every text arrives as bytes."""
    return _KINDS[kind].binary


def _column(of: _Kind, name: str) -> str:
    # Parts of a rejected message's key are text only if its producer made them so.
    return f"toValidUTF8(s.{name}) AS {name}" if of.binary and name in SUBJECT else f"s.{name} AS {name}"


def _order(of: _Kind) -> str:
    return ", ".join(f"s.{name}" for name in of.order)


def _final(of: _Kind) -> str:
    return " FINAL" if of.bounded else ""


def _where(
    of: _Kind, rules: FoldRules, wanted: ExportFilter, positions: Mapping[int, int]
) -> tuple[str, dict[str, Parameter]]:
    conditions = ["1"]
    parameters: dict[str, Parameter] = {}
    if of.bounded:
        conditions.append("s.offset < transform(s.partition, {partitions:Array(Int32)}, {offsets:Array(Int64)}, 0)")
        parameters["partitions"] = list(positions)
        parameters["offsets"] = list(positions.values())
    elif wanted.period is not None:
        conditions.append("s.period_type = {period:String}")
        parameters["period"] = wanted.period
    for name, value in (("org_id", wanted.org_id), ("metric_key", wanted.metric_key)):
        if value is not None:
            conditions.append(f"s.{name} = {{{name}:String}}")
            parameters[name] = value
    if wanted.subject is not None:
        conditions.append("s.subject_type = {subject_type:String} AND s.subject_id = {subject_id:String}")
        parameters["subject_type"], parameters["subject_id"] = wanted.subject
    if wanted.start is not None:
        conditions.append(f"s.{of.time} >= fromUnixTimestamp64Micro({{start:Int64}}, 'UTC')")
        parameters["start"] = wanted.start
        if of.by_arrival:
            conditions.append("s.received_at >= fromUnixTimestamp64Micro({arrived_from:Int64}, 'UTC')")
            parameters["arrived_from"] = rules.arrivals(wanted.start, wanted.start)[0]
    if wanted.end is not None:
        conditions.append(f"s.{of.time} < fromUnixTimestamp64Micro({{end:Int64}}, 'UTC')")
        parameters["end"] = wanted.end
        if of.by_arrival:
            conditions.append("s.received_at <= fromUnixTimestamp64Micro({arrived_until:Int64}, 'UTC')")
            parameters["arrived_until"] = rules.arrivals(wanted.end, wanted.end)[1]
    return " AND ".join(conditions), parameters
