"""Usage by dimension from closed periods, for days and months whose records have expired.

A period can replace its records only if its closing holds every window as it is now: of each state in
usage_windows there are rows by dimension, with all the fields that are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.periods import Period, micros
from meterfold_sink.closing_dimensions import KEPT_BY_DIMENSION

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = ["CLOSED_KINDS", "closed_rows", "complete_closings"]

#: The kind of a piece that is read from here -> the period of its rows.
CLOSED_KINDS: Final = {f"closed {period.value}": period for period in KEPT_BY_DIMENSION}

_STATE: Final = "period_type, period_start, org_id, subject_type, subject_id, partition, folded_through"
_WINDOW_STATE: Final = f"toString(period_type), {_STATE.removeprefix('period_type, ')}"


def closed_rows(period: Period, conditions: Sequence[str]) -> str:
    """A query of closed_dimensions with the column `metadata`: the rows of windows as they are now. `conditions` are on
    columns that usage_windows has, too. Bind `closed_fields`: the metadata fields that are needed."""
    where = " AND ".join([f"period_type = '{period.value}'", *conditions])
    return f"""
        SELECT *, dimensions AS metadata
        FROM closed_dimensions FINAL
        WHERE {where}
            AND ({_WINDOW_STATE}) IN (SELECT {_WINDOW_STATE} FROM usage_windows FINAL WHERE {where})
            AND ({_STATE}, fields) IN
            (
                -- Rows by other dimensions are there where those of the metric were changed: one of them is enough.
                SELECT {_STATE}, max(fields)
                FROM closed_dimensions
                WHERE {where} AND hasAll(fields, {{closed_fields:Array(String)}})
                GROUP BY {_STATE}
            )"""  # noqa: S608


def complete_closings(
    client: Client, conditions: Sequence[str], parameters: dict[str, Any], fields: Sequence[str], start: int, end: int
) -> dict[Period, list[int]]:
    """The days and months that begin in [start, end), UTC microseconds, and whose closing holds all of these fields and
    every counted event, by their start. `conditions` and `parameters` say whose usage. Raises Retryable or Fatal."""
    span = [
        *conditions,
        "period_start >= fromUnixTimestamp64Micro({closed_from:Int64}, 'UTC')",
        "period_start < fromUnixTimestamp64Micro({closed_until:Int64}, 'UTC')",
    ]
    counts = " UNION ALL ".join(
        f"""
    SELECT '{period.value}' AS period, period_start, record_count AS counted, toInt64(0) AS closed
    FROM usage_windows FINAL
    WHERE {" AND ".join([f"period_type = '{period.value}'", *span])}
    UNION ALL
    SELECT '{period.value}', period_start, toInt64(0), record_count FROM ({closed_rows(period, span)})"""  # noqa: S608
        for period in KEPT_BY_DIMENSION
    )
    rows = client.rows(
        f"SELECT period, period_start FROM ({counts}) GROUP BY period, period_start "  # noqa: S608
        "HAVING sum(counted) = sum(closed) ORDER BY period_start",
        {**parameters, "closed_fields": list(fields), "closed_from": start, "closed_until": end},
        {"do_not_merge_across_partitions_select_final": 1},
    )
    found: dict[Period, list[int]] = {period: [] for period in KEPT_BY_DIMENSION}
    for row in rows:
        found[Period(row["period"])].append(micros(row["period_start"]))
    return found
