"""Metrics: define, change and delete, each with what it changes for usage that exists."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from meterfold_schemas.definitions import MetricDefinition
from meterfold_schemas.errors import InvalidDefinition, InvalidUsage
from meterfold_schemas.vocabulary import AggregationType, ResetPeriod
from meterfold_service.access.principal import Scope
from meterfold_service.console import fields
from meterfold_service.console.visit import Visit, page
from meterfold_service.errors import MetricKeyExists
from meterfold_service.metrics.changes import MetricChange

__all__ = ["ROUTES"]

_TYPES: Final = tuple((one.value, one.value) for one in AggregationType)
_RESETS: Final = tuple((one.value, one.value) for one in ResetPeriod)
_NEW: Final[Mapping[str, Any]] = {
    "key": "", "name": "", "unit": "", "aggregation_type": "sum", "reset_period": "monthly", "precision": 2, "org": "",
    "category": "", "dimensions": "", "description": "", "is_active": True,
}  # fmt: skip
_REFUSED: Final = (InvalidDefinition, InvalidUsage, MetricKeyExists)


async def metrics(visit: Visit) -> Response:
    rows, listed = await asyncio.gather(
        visit.run(visit.may.metrics.visible), visit.run(visit.may.metrics.list, limit=1)
    )
    return visit.render(
        "metrics.html", rows=rows, undefined=listed.undefined, manages=visit.principal.may(Scope.MANAGE)
    )


async def new(visit: Visit) -> Response:
    visit.principal.need(Scope.MANAGE)
    return _form(visit, {**_NEW, "key": visit.query.get("key", "")}, is_new=True)


async def define(visit: Visit) -> Response:
    """Asks first where an organization's own definition would hide the one of every organization."""
    shown = {**_NEW, **visit.form, "is_active": "is_active" in visit.form}
    try:
        values = {**_values(visit.form), "key": visit.form.get("key", "").strip(), "org_id": visit.form.get("org", "")}
        if visit.form.get("step") != "save":
            change = await visit.run(visit.may.metrics.preview_define, **values)
            if change is not None and change.changes_anything:
                return _form(visit, shown, is_new=True, change=change)
        await visit.run(visit.may.metrics.define, **values)
    except _REFUSED as error:
        return _form(visit, shown, is_new=True, problem=error)
    return visit.go("/metrics", done="defined")


async def edit(visit: Visit) -> Response:
    visit.principal.need(Scope.MANAGE)
    metric = await visit.run(visit.may.metrics.get, visit.query.get("key", ""), _org(visit.query))
    return _form(visit, _shown(metric), is_new=False)


async def update(visit: Visit) -> Response:
    """Shows first what changes, where something does."""
    key, org = visit.form.get("key", ""), _org(visit.form)
    shown = {**_NEW, **visit.form, "is_active": "is_active" in visit.form}
    try:
        values = _values(visit.form)
        if visit.form.get("step") != "save":
            change = await visit.run(visit.may.metrics.preview_update, key, org, **values)
            if change.changes_anything or change.fields:
                return _form(visit, shown, is_new=False, change=change)
        await visit.run(visit.may.metrics.update, key, org, **values)
    except _REFUSED as error:
        return _form(visit, shown, is_new=False, problem=error)
    return visit.go("/metrics", done="updated")


async def ask_delete(visit: Visit) -> Response:
    key, org = visit.query.get("key", ""), visit.query.get("org", "")
    change = await visit.run(visit.may.metrics.preview_delete, key, org)
    return visit.render(
        "confirm.html",
        heading=f"Delete {key}",
        back=("/metrics", "Metrics"),
        action="/metrics/delete",
        values={"key": key, "org": org},
        change=change,
        threshold_change=None,
        texts=("Its usage stays and is counted on. Defined again, the metric has all of its totals.",),
        button="Delete the definition",
    )


async def delete(visit: Visit) -> Response:
    await visit.run(visit.may.metrics.delete, visit.form.get("key", ""), _org(visit.form))
    return visit.go("/metrics", done="deleted")


def _form(
    visit: Visit,
    values: Mapping[str, Any],
    *,
    is_new: bool,
    change: MetricChange | None = None,
    problem: Exception | None = None,
) -> Response:
    return visit.render(
        "metric_form.html",
        422 if problem else 200,
        v=values,
        is_new=is_new,
        heading="Define a metric" if is_new else f"Change {values['key']}",
        action="/metrics/new" if is_new else "/metrics/edit",
        types=_TYPES,
        resets=_RESETS,
        change=change,
        problem=problem,
    )


def _shown(metric: MetricDefinition) -> dict[str, Any]:
    found = {name: getattr(metric, name) for name in _NEW if name not in ("org", "dimensions")}
    return {**found, "org": metric.org_id, "dimensions": ", ".join(metric.dimensions)}


def _values(form: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": form.get("name", "").strip(),
        "unit": form.get("unit", "").strip(),
        "aggregation_type": form.get("aggregation_type", "sum"),
        "reset_period": form.get("reset_period", "monthly"),
        "precision": fields.number(form, "precision", 2),
        "category": fields.text(form, "category"),
        "description": fields.text(form, "description"),
        "dimensions": tuple(name.strip() for name in form.get("dimensions", "").split(",") if name.strip()),
        "is_active": "is_active" in form,
    }


def _org(values: Mapping[str, str]) -> str:
    return values.get("org", "")


ROUTES = (
    page("/metrics", metrics),
    page("/metrics/new", new),
    page("/metrics/new", define, method="POST"),
    page("/metrics/edit", edit),
    page("/metrics/edit", update, method="POST"),
    page("/metrics/delete", ask_delete),
    page("/metrics/delete", delete, method="POST"),
)
