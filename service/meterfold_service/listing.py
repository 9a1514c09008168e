"""Definitions as ClickHouse shows them, for the get and list commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meterfold_schemas.settings import ClickHouseSettings

if TYPE_CHECKING:
    from meterfold_service.thresholds.resting import Condition
    from meterfold_sink.client import Client
    from meterfold_sink.metric_usage import UndefinedMetric


@dataclass(frozen=True, slots=True)
class Page:
    """`total` counts all rows that fit, `rows` holds those of this page."""

    total: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class MetricPage(Page):
    """`undefined`: metric keys with usage and without a definition."""

    undefined: list[UndefinedMetric]


def list_metrics(
    settings: ClickHouseSettings,
    *,
    org_id: str | None = None,
    category: str | None = None,
    is_active: bool | None = None,
    limit: int = 100,
    offset: int = 0,
) -> MetricPage:
    """metric.list: by organization, then in the order they are displayed. Raises Retryable or Fatal."""
    from meterfold_sink.client import connect
    from meterfold_sink.metric_usage import undefined_metrics

    wanted = {"org_id": org_id, "category": category, "is_active": is_active}
    with connect(settings) as client:
        page = _list(client, "metric_definitions", "org_id, display_order, key", wanted, limit, offset)
        return MetricPage(page.total, page.rows, undefined_metrics(client, org_id=org_id))


def get_metric(settings: ClickHouseSettings, key: str, org_id: str = "") -> dict[str, Any]:
    """metric.get: as an organization sees it, whose own definition hides the global one.

    Raises DefinitionRefused (METRIC_NOT_FOUND), Retryable or Fatal.
    """
    from meterfold_service.definitions import DefinitionRefused
    from meterfold_service.metrics.words import not_defined
    from meterfold_sink.client import connect

    sql = (
        "SELECT * EXCEPT deleted FROM metric_definitions FINAL WHERE NOT deleted AND key = {key:String} "
        "AND org_id IN ({org_id:String}, '') ORDER BY org_id = '' LIMIT 1"
    )
    with connect(settings) as client:
        rows = client.rows(sql, {"key": key, "org_id": org_id})
        if rows:
            return rows[0]
        known = client.rows("SELECT org_id, key FROM metric_definitions FINAL WHERE NOT deleted")
    names = [(row["org_id"], row["key"]) for row in known]
    raise DefinitionRefused(not_defined(key, org_id, names), code="METRIC_NOT_FOUND")


def list_thresholds(
    settings: ClickHouseSettings,
    *,
    windows: int = 20,
    org_id: str | None = None,
    metric_key: str | None = None,
    subject_type: str | None = None,
    subject_id: str | None = None,
    is_active: bool | None = None,
    limit: int = 100,
    offset: int = 0,
) -> Page:
    """threshold.list: by organization, metric and value, those of every organization first. Each row has `standing`, a
    levels.Standing, and `resting` and `notes` of resting.Condition. Raises Retryable or Fatal.

    `org_id`: those that name this organization ("": those for subjects without one).
    """
    from meterfold_service.thresholds.levels import standings
    from meterfold_sink.client import connect

    wanted = {
        "org_id": org_id,
        "metric_key": metric_key,
        "subject_type": subject_type,
        "subject_id": subject_id,
        "is_active": is_active,
    }
    with connect(settings) as client:
        order = "isNotNull(org_id), org_id, metric_key, name, threshold, id"
        page = _list(client, "thresholds", order, wanted, limit, offset)
        if page.rows:
            found = standings(client, page.rows, limit=windows)
            conditions = _conditions(client, page.rows)
    for row in page.rows:
        row["standing"] = found[row["id"]]
        row["resting"], row["notes"] = conditions[row["id"]].resting, conditions[row["id"]].notes
    return page


def _conditions(client: Client, rows: Sequence[Mapping[str, Any]]) -> dict[str, Condition]:
    from meterfold_service.thresholds.resting import condition
    from meterfold_sink.thresholds import metric_definers, narrower_thresholds, same_thresholds

    ids = [row["id"] for row in rows]
    definers = metric_definers(
        client,
        sorted({row["metric_key"] for row in rows}),
        sorted({row["org_id"] for row in rows if row["org_id"]}),
    )
    narrower, same = narrower_thresholds(client, ids), same_thresholds(client, ids)
    none: tuple[int, list[Any]] = (0, [])
    return {
        row["id"]: condition(row, definers[row["metric_key"]], narrower.get(row["id"], none), same.get(row["id"], none))
        for row in rows
    }


def _list(
    client: Client,
    table: str,
    order: str,
    wanted: Mapping[str, str | bool | None],
    limit: int,
    offset: int,
) -> Page:
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
    page = f"SELECT * EXCEPT deleted {source} ORDER BY {order} LIMIT {{limit:UInt32}} OFFSET {{offset:UInt32}}"
    total = client.value(f"SELECT count() {source}", parameters)
    return Page(int(total), client.rows(page, parameters))


def _type(value: str | bool) -> str:
    return "Bool" if isinstance(value, bool) else "String"
