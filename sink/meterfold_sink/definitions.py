"""Which metrics and thresholds are defined, page by page, as the checker has copied them from their topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = [
    "defined_keys",
    "list_metrics",
    "list_thresholds",
    "shown_metric_version",
    "shown_threshold_version",
    "visible_metric",
]

_VISIBLE: Final = """
SELECT * EXCEPT deleted
FROM metric_definitions FINAL
WHERE NOT deleted AND key = {key:String} AND org_id IN ({org_id:String}, '')
ORDER BY org_id = ''
LIMIT 1
"""
_KEYS: Final = "SELECT org_id, key FROM metric_definitions FINAL WHERE NOT deleted ORDER BY org_id, key"
_METRIC_VERSION: Final = """
SELECT max(version) AS version, toInt64(count()) AS found
FROM metric_definitions
WHERE org_id = {org_id:String} AND key = {key:String}
"""
_THRESHOLD_VERSION: Final = """
SELECT max(version) AS version, toInt64(count()) AS found FROM thresholds WHERE id = {id:String}
"""

Filter = Mapping[str, str | bool | None]
"""Column: the value it must have; None leaves the column out."""


def list_metrics(client: Client, wanted: Filter, *, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Rows of metric_definitions by organization and then in the order they are displayed, and how many fit in all.

    Raises Retryable or Fatal, as every function here.
    """
    return _page(client, "metric_definitions", "org_id, display_order, key", wanted, limit, offset)


def list_thresholds(client: Client, wanted: Filter, *, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Rows of thresholds, those of every organization first, then by organization, metric, name and value; and how many
    fit in all."""
    order = "isNotNull(org_id), org_id, metric_key, name, threshold, id"
    return _page(client, "thresholds", order, wanted, limit, offset)


def visible_metric(client: Client, key: str, org_id: str) -> dict[str, Any] | None:
    """The metric as an organization sees it: its own definition hides the one of every organization."""
    rows = client.rows(_VISIBLE, {"key": key, "org_id": org_id})
    return rows[0] if rows else None


def defined_keys(client: Client) -> list[tuple[str, str]]:
    """(org_id, key) of every metric that is defined."""
    return [(row["org_id"], row["key"]) for row in client.rows(_KEYS)]


def shown_metric_version(client: Client, org_id: str, key: str) -> int | None:
    """The newest version of a metric that ClickHouse has, deletions included; None where it has none."""
    return _version(client, _METRIC_VERSION, {"org_id": org_id, "key": key})


def shown_threshold_version(client: Client, threshold_id: str) -> int | None:
    """The same of a threshold."""
    return _version(client, _THRESHOLD_VERSION, {"id": threshold_id})


def _version(client: Client, sql: str, name: Mapping[str, str]) -> int | None:
    (row,) = client.rows(sql, dict(name))
    return row["version"] if row["found"] else None


def _page(
    client: Client, table: str, order: str, wanted: Filter, limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    given = {name: value for name, value in wanted.items() if value is not None}
    conditions = " AND ".join(
        ["NOT deleted", *(f"{name} = {{{name}:{_type(value)}}}" for name, value in given.items())]
    )
    parameters: dict[str, Any] = {
        **{name: int(value) if isinstance(value, bool) else value for name, value in given.items()},
        "limit": limit,
        "offset": offset,
    }
    source = f"FROM {table} FINAL WHERE {conditions}"
    page = (
        f"SELECT * EXCEPT deleted, toInt64(count() OVER ()) AS total {source} ORDER BY {order} "
        "LIMIT {limit:UInt32} OFFSET {offset:UInt32}"
    )
    rows = client.rows(page, parameters)
    if not rows:  # a page behind the last row also has a total
        return [], client.value(f"SELECT toInt64(count()) {source}", parameters) if offset else 0
    totals = [row.pop("total") for row in rows]
    return rows, totals[0]


def _type(value: str | bool) -> str:
    return "Bool" if isinstance(value, bool) else "String"
