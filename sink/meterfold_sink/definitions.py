"""Which metrics and thresholds are defined, page by page, as the checker has copied them from their topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from meterfold_sink.keyset import Key, Keys, Position, RowPage, micros_of, read_page

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = [
    "METRIC_SORTS",
    "THRESHOLD_SORTS",
    "defined_keys",
    "list_metrics",
    "list_thresholds",
    "shown_metric_version",
    "shown_threshold_version",
    "visible_metric",
    "visible_metrics",
]

_VISIBLE: Final = """
SELECT * EXCEPT deleted
FROM metric_definitions FINAL
WHERE NOT deleted AND key IN {keys:Array(String)} AND org_id IN ({org_id:String}, '')
ORDER BY key, org_id = ''
LIMIT 1 BY key
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

_ONE_METRIC: Final = (Key("org_id", breaks_ties=True), Key("key", breaks_ties=True))
METRIC_SORTS: Final[Mapping[str, Keys]] = {
    "display_order": (Key("org_id"), Key("display_order", "Int64"), Key("key")),
    "key": (Key("key"), Key("org_id", breaks_ties=True)),
    "name": (Key("name"), *_ONE_METRIC),
    "created_at": (micros_of("created_at"), *_ONE_METRIC),
    "updated_at": (micros_of("updated_at"), *_ONE_METRIC),
}
"""What metrics can be sorted by."""
_ONE_THRESHOLD: Final = Key("id", breaks_ties=True)
THRESHOLD_SORTS: Final[Mapping[str, Keys]] = {
    "scope": (
        Key("toInt64(isNotNull(org_id))", "Int64"),
        Key("ifNull(org_id, '')"),
        Key("metric_key"),
        Key("name"),
        Key("threshold", "Decimal(38, 9)"),
        _ONE_THRESHOLD,
    ),
    "name": (Key("name"), _ONE_THRESHOLD),
    "created_at": (micros_of("created_at"), _ONE_THRESHOLD),
    "updated_at": (micros_of("updated_at"), _ONE_THRESHOLD),
}


def list_metrics(
    client: Client,
    wanted: Filter,
    keys: Keys = METRIC_SORTS["display_order"],
    *,
    limit: int,
    offset: int = 0,
    after: Position | None = None,
    seen_by: str | None = None,
) -> RowPage[dict[str, Any]]:
    """Rows of metric_definitions. `seen_by`: those of this organization and of every organization.

    Raises Retryable or Fatal, as every function here.
    """
    condition = "org_id IN ({seen_by:String}, '')"
    return _page(client, "metric_definitions", wanted, keys, limit, offset, after, (condition, seen_by))


def list_thresholds(
    client: Client,
    wanted: Filter,
    keys: Keys = THRESHOLD_SORTS["scope"],
    *,
    limit: int,
    offset: int = 0,
    after: Position | None = None,
    seen_by: str | None = None,
) -> RowPage[dict[str, Any]]:
    """Rows of thresholds. `seen_by`: those of this organization and of every organization."""
    condition = "(org_id IS NULL OR org_id = {seen_by:String})"
    return _page(client, "thresholds", wanted, keys, limit, offset, after, (condition, seen_by))


def visible_metric(client: Client, key: str, org_id: str) -> dict[str, Any] | None:
    """The metric as an organization sees it: its own definition hides the one of every organization."""
    return visible_metrics(client, [key], org_id).get(key)


def visible_metrics(client: Client, keys: list[str], org_id: str) -> dict[str, dict[str, Any]]:
    """Those of the metrics `keys` that an organization sees, by key, each as `visible_metric` gives it."""
    return {row["key"]: row for row in client.rows(_VISIBLE, {"keys": keys, "org_id": org_id})}


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
    client: Client,
    table: str,
    wanted: Filter,
    keys: Keys,
    limit: int,
    offset: int,
    after: Position | None,
    seen: tuple[str, str | None],
) -> RowPage[dict[str, Any]]:
    given = {name: value for name, value in wanted.items() if value is not None}
    conditions = ["NOT deleted", *(f"{name} = {{{name}:{_type(value)}}}" for name, value in given.items())]
    parameters: dict[str, Any] = {
        name: int(value) if isinstance(value, bool) else value for name, value in given.items()
    }
    if seen[1] is not None:
        conditions.append(seen[0])
        parameters["seen_by"] = seen[1]
    select = f"SELECT * EXCEPT deleted FROM {table} FINAL WHERE {' AND '.join(conditions)}"  # noqa: S608
    return read_page(client, select, keys, parameters, limit=limit, offset=offset, after=after)


def _type(value: str | bool) -> str:
    return "Bool" if isinstance(value, bool) else "String"
