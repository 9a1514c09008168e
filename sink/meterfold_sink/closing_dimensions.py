"""Sums by dimension of closed days and months: of the records with the same values of a metric's dimensions.

They are recounted from the records below the progress, like the numbers that are closed, and must add up to those. A
row has the metadata of its records as a JSON object that is cut down to the dimensions, so that it is grouped and
filtered as they are. An organization's own definition of a metric hides the one of every organization, also where it
has no dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.periods import Period, micros
from meterfold_sink.closing_checksum import BOUNDED

if TYPE_CHECKING:
    from meterfold_sink.client import Client
    from meterfold_sink.closing_recount import Recount

__all__ = ["KEPT_BY_DIMENSION", "dimensions_add_up", "has_dimensions", "keep_dimensions", "wrong_dimensions"]

KEPT_BY_DIMENSION: Final = (Period.DAILY, Period.MONTHLY)

_KEY: Final = "metric_key, org_id, subject_type, subject_id, partition"
_DEFINED: Final = """
    defined AS
    (
        SELECT org_id AS org, key, arraySort(dimensions) AS fields, 1 AS is_defined
        FROM metric_definitions FINAL
        WHERE deleted = 0
    )
"""
#: The parts of a JSON object that are dimensions and have a value. A field that is null is a missing one.
_DIMENSIONS: Final = """
    toJSONString(mapFromArrays(
        arrayFilter(f -> isNotNull(JSONExtract(ifNull(r.metadata, ''), f, 'Nullable(String)')), fields),
        arrayMap(
            f -> assumeNotNull(JSONExtract(ifNull(r.metadata, ''), f, 'Nullable(String)')),
            arrayFilter(f -> isNotNull(JSONExtract(ifNull(r.metadata, ''), f, 'Nullable(String)')), fields)
        )
    ))
"""
_FIELDS: Final = "if(own.is_defined = 1, own.fields, global.fields)"


def _joined(rows: str) -> str:
    return f"""
        LEFT ANY JOIN defined AS own ON own.org = {rows}.org_id AND own.key = {rows}.metric_key
        LEFT ANY JOIN (SELECT * FROM defined WHERE org = '') AS global ON global.key = {rows}.metric_key
    """  # noqa: S608


def has_dimensions(recount: Recount) -> bool:
    """Whether the sums by dimension are to be kept."""
    if recount.period not in KEPT_BY_DIMENSION:
        return False
    found = recount.client.value(
        "SELECT toInt64(count()) FROM metric_definitions FINAL WHERE deleted = 0 AND notEmpty(dimensions) "
        "AND ({metric_key:String} = '' OR key = {metric_key:String})",
        {"metric_key": recount.metric_key},
    )
    return bool(found)


def keep_dimensions(recount: Recount, start: int, since: Mapping[int, int]) -> None:
    """Write the rows of one period: of windows with a state from `since` (partition -> offset) on."""
    recount.client.command(
        f"""
INSERT INTO closed_dimensions (period_type, period_start, {_KEY}, folded_through, fields, dimensions, record_count, sum,
    min, max, last, last_timestamp, last_offset)
WITH {_DEFINED}
SELECT {{period:String}}, fromUnixTimestamp64Micro({{start:Int64}}, 'UTC'), {_KEY}, folded_through, fields, part.1,
    part.2, CAST(part.3 AS Decimal(38, 9)), part.4, part.5, part.6, part.7, part.8
FROM
(
    SELECT {_KEY}, fields, max(through) AS folded_through,
        groupArray((dimensions, n, total, lowest, highest, latest, latest_at, latest_offset)) AS parts
    FROM
    (
        SELECT
            r.metric_key AS metric_key, r.org_id AS org_id, r.subject_type AS subject_type, r.subject_id AS subject_id,
            r.partition AS partition, {_FIELDS} AS fields, {_DIMENSIONS} AS dimensions,
            toInt64(count()) AS n, sum(toDecimal256(r.quantity, 9)) AS total, min(r.quantity) AS lowest,
            max(r.quantity) AS highest,
            argMax(r.quantity, bitShiftLeft(toInt128(toUnixTimestamp64Micro(r.timestamp)), 63) + r.offset) AS latest,
            max(r.timestamp) AS latest_at,
            argMax(r.offset, bitShiftLeft(toInt128(toUnixTimestamp64Micro(r.timestamp)), 63) + r.offset)
                AS latest_offset,
            max(r.offset) AS through
        FROM usage_records AS r FINAL
        {_joined("r")}
        WHERE {recount.in_periods()} AND {recount.of_metric("r.")} AND notEmpty(fields)
            AND {recount.start_of()} = fromUnixTimestamp64Micro({{start:Int64}}, 'UTC')
            AND r.offset < transform(r.partition, {{folded:Array(Int32)}}, {{next_offsets:Array(Int64)}}, toInt64(0))
        GROUP BY metric_key, org_id, subject_type, subject_id, partition, fields, dimensions
    )
    GROUP BY {_KEY}, fields
)
ARRAY JOIN parts AS part
WHERE folded_through >= transform(partition, {{folded:Array(Int32)}}, {{since:Array(Int64)}}, toInt64(0))
""",  # noqa: S608
        _parameters(recount, start, since),
        {**recount.settings(), "output_format_json_escape_forward_slashes": 0},
    )


def dimensions_add_up(recount: Recount, start: int) -> bool:
    """Whether every window of one period, of metrics with dimensions, is the sum of its rows by them."""
    order = "bitShiftLeft(toInt128(toUnixTimestamp64Micro({p}last_timestamp)), 63) + {p}last_offset AS order_of_last"
    (row,) = recount.client.rows(
        f"""
WITH {_DEFINED}
SELECT toInt64(count()) AS wrong
FROM
(
    SELECT 1
    FROM
    (
        SELECT 1 AS whole, s.metric_key AS metric_key, s.org_id AS org_id, s.subject_type AS subject_type,
            s.subject_id AS subject_id, s.partition AS partition, s.folded_through AS folded_through,
            {_FIELDS} AS fields, s.record_count AS n, s.sum AS total, s.min AS lowest, s.max AS highest,
            s.last AS latest, {order.format(p="s.")}
        FROM {recount.table} AS s
        {_joined("s")}
        WHERE s.side = 0 AND s.period_start = fromUnixTimestamp64Micro({{start:Int64}}, 'UTC') AND notEmpty(fields)
        UNION ALL
        SELECT 0, metric_key, org_id, subject_type, subject_id, partition, folded_through, fields, record_count,
            toDecimal256(sum, 9), min, max, last, {order.format(p="")}
        FROM closed_dimensions FINAL
        WHERE period_type = {{period:String}} AND period_start = fromUnixTimestamp64Micro({{start:Int64}}, 'UTC')
            AND {recount.of_metric()}
    )
    GROUP BY {_KEY}, folded_through, fields
    HAVING max(whole) = 1 AND (sumIf(n, whole = 1) != sumIf(n, whole = 0)
        OR sumIf(total, whole = 1) != sumIf(total, whole = 0) OR minIf(lowest, whole = 1) != minIf(lowest, whole = 0)
        OR maxIf(highest, whole = 1) != maxIf(highest, whole = 0)
        OR argMaxIf(latest, order_of_last, whole = 1) != argMaxIf(latest, order_of_last, whole = 0))
)
""",  # noqa: S608
        _parameters(recount, start, {}),
        recount.settings(),
    )
    return not row["wrong"]


def wrong_dimensions(client: Client, start: int | None = None, end: int | None = None) -> dict[tuple[str, int], int]:
    """(period type, start) -> closed states whose rows by dimension do not add up to them, of periods that begin in
    [start, end), UTC microseconds. Needs no records. Raises Retryable or Fatal."""
    condition, parameters = "1", dict[str, Any]()
    for name, comparison, moment in (("start", ">=", start), ("end", "<", end)):
        if moment is not None:
            condition += f" AND period_start {comparison} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')"
            parameters[name] = moment
    key = f"period_type, period_start, {_KEY}, folded_through"
    rows = client.rows(
        f"""
SELECT toString(period_type) AS period_type, period_start, toInt64(count()) AS wrong
FROM
(
    SELECT period_type, period_start
    FROM
    (
        SELECT {key}, [(record_count, toDecimal256(sum, 9), min, max)] AS whole,
            CAST([] AS Array(Tuple(Int64, Decimal(76, 9), Decimal(38, 9), Decimal(38, 9)))) AS parts
        FROM closed_windows FINAL
        WHERE {condition}
        UNION ALL
        SELECT {key}, [], [(sum(record_count), sum(toDecimal256(d.sum, 9)), min(d.min), max(d.max))]
        FROM closed_dimensions AS d FINAL
        WHERE {condition}
        GROUP BY {key}, fields
    )
    GROUP BY {key}
    HAVING arrayExists(part -> NOT has(groupArrayArray(whole), part), groupArrayArray(parts))
)
GROUP BY period_type, period_start
""",  # noqa: S608
        parameters,
        BOUNDED,
    )
    return {(row["period_type"], micros(row["period_start"])): row["wrong"] for row in rows}


def _parameters(recount: Recount, start: int, since: Mapping[int, int]) -> dict[str, Any]:
    parameters = recount.parameters()
    return {**parameters, "start": start, "since": [since.get(partition, 0) for partition in parameters["folded"]]}
