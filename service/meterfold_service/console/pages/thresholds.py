"""Thresholds: where each one is, set one, change it, delete it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from meterfold_schemas.definitions import UsageThreshold, percentage_of
from meterfold_schemas.errors import InvalidDefinition, InvalidUsage
from meterfold_schemas.periods import KEPT
from meterfold_schemas.plurals import noun, plural
from meterfold_schemas.vocabulary import Action
from meterfold_service.access.principal import Scope
from meterfold_service.console import fields
from meterfold_service.console.rendering import quantity
from meterfold_service.console.visit import Visit, page
from meterfold_service.errors import MetricNotFound, ThresholdExists
from meterfold_service.thresholds.changes import ThresholdChange

__all__ = ["ROUTES"]

_LIMIT: Final = 20
_NEW: Final[Mapping[str, Any]] = {
    "metric_key": "", "name": "", "threshold": "", "warn_threshold": "", "action": "alert", "period_type": "",
    "subject_type": "", "subject_id": "", "org": "", "notify_emails": "", "notify_webhook": "", "is_active": True,
    "id": "",
}  # fmt: skip
_PERIODS: Final = (("", "the metric's own period"), *((one.value, one.value) for one in KEPT))
_ACTIONS: Final = tuple((one.value, one.value) for one in Action)
_WHOLE: Final = frozenset(f"{percentage}%" for percentage in range(1, 100))
_REFUSED: Final = (InvalidDefinition, InvalidUsage, MetricNotFound, ThresholdExists)


async def thresholds(visit: Visit) -> Response:
    offset = fields.number(visit.query, "offset", 0)
    found = await visit.run(visit.may.thresholds.list, limit=_LIMIT, offset=offset, windows=10)
    return visit.render(
        "thresholds.html",
        found=found,
        offset=offset,
        limit=_LIMIT,
        manages=visit.principal.may(Scope.MANAGE),
    )


async def new(visit: Visit) -> Response:
    visit.principal.need(Scope.MANAGE)
    given = {name: visit.query[name] for name in _NEW if name in visit.query}
    return await _form(visit, {**_NEW, **given}, is_new=True)


async def create(visit: Visit) -> Response:
    """Shows first what the threshold finds at once, where it finds something."""
    form = visit.form
    shown = {**_NEW, **form, "is_active": "is_active" in form}
    try:
        values = {
            **_values(form),
            "metric_key": form.get("metric_key", ""),
            "period_type": fields.text(form, "period_type"),
            "subject_type": fields.text(form, "subject_type"),
            "subject_id": fields.text(form, "subject_id"),
            "org_id": fields.org_of(form),
        }
        if form.get("step") != "save":
            change = await visit.run(visit.may.thresholds.preview_create, **values)
            if change.reached_after.exceeded or change.reached_after.approaching:
                return await _form(visit, shown, is_new=True, change=change)
        await visit.run(visit.may.thresholds.create, **values)
    except _REFUSED as error:
        return await _form(visit, shown, is_new=True, problem=error)
    return visit.go("/thresholds", done="created")


async def edit(visit: Visit) -> Response:
    visit.principal.need(Scope.MANAGE)
    found = await visit.run(visit.may.thresholds.get, visit.query.get("id", ""))
    return await _form(visit, _shown(found), is_new=False)


async def update(visit: Visit) -> Response:
    """Shows first what changes at once, where something does."""
    form = visit.form
    shown = {**_NEW, **form, "is_active": "is_active" in form}
    try:
        values = _values(form)
        if form.get("step") != "save":
            change = await visit.run(visit.may.thresholds.preview_update, form.get("id", ""), **values)
            if change.changes_anything:
                return await _form(visit, shown, is_new=False, change=change)
        await visit.run(visit.may.thresholds.update, form.get("id", ""), **values)
    except _REFUSED as error:
        return await _form(visit, shown, is_new=False, problem=error)
    return visit.go("/thresholds", done="updated")


async def ask_delete(visit: Visit) -> Response:
    found = await visit.run(visit.may.thresholds.get, visit.query.get("id", ""))
    alerts = await visit.run(visit.may.alerts.list, threshold_id=found.id, status="pending", limit=1)
    change = await visit.run(visit.may.thresholds.preview_delete, found.id)
    return visit.render(
        "confirm.html",
        heading=f"Delete {found.name}",
        back=("/thresholds", "Thresholds"),
        action="/thresholds/delete",
        values={"id": found.id},
        change=None,
        threshold_change=change,
        texts=(
            "Deleting it clears the levels that its subjects have reached. "
            f"{plural(alerts.total, 'alert')} {noun(alerts.total, 'is', 'are')} not acknowledged yet.",
            "Applications that ask for limits see within a second or two that it blocks nothing.",
        ),
        button="Delete the threshold",
    )


async def delete(visit: Visit) -> Response:
    await visit.run(visit.may.thresholds.delete, visit.form.get("id", ""))
    return visit.go("/thresholds", done="deleted")


async def _form(
    visit: Visit,
    values: Mapping[str, Any],
    *,
    is_new: bool,
    change: ThresholdChange | None = None,
    problem: Exception | None = None,
) -> Response:
    metrics = await visit.run(visit.may.metrics.visible) if is_new else ()
    return visit.render(
        "threshold_form.html",
        422 if problem else 200,
        v=values,
        is_new=is_new,
        heading="Set a threshold" if is_new else f"Change {values['name']}",
        action="/thresholds/new" if is_new else "/thresholds/edit",
        metrics=[(one.key, f"{one.name} ({one.key})") for one in metrics],
        periods=_PERIODS,
        actions=_ACTIONS,
        threshold_change=change,
        problem=problem,
    )


def _shown(found: UsageThreshold) -> dict[str, Any]:
    return {
        **_NEW,
        "id": found.id,
        "name": found.name,
        "threshold": quantity(found.threshold),
        "warn_threshold": _warning(found),
        "action": found.action.value,
        "notify_emails": ", ".join(found.notify_emails),
        "notify_webhook": found.notify_webhook or "",
        "is_active": found.is_active,
    }


def _warning(found: UsageThreshold) -> str:
    """As a percentage where it is a whole one, so that it follows a limit that is changed."""
    percentage = f"{found.warn_threshold * 100 / found.threshold:.0f}%"
    is_whole = percentage in _WHOLE and percentage_of(found.threshold, percentage) == found.warn_threshold
    return percentage if is_whole else quantity(found.warn_threshold)


def _values(form: Mapping[str, str]) -> dict[str, Any]:
    warning = fields.text(form, "warn_threshold")
    return {
        "name": form.get("name", "").strip(),
        "threshold": fields.decimal(form, "threshold"),
        "warn_threshold": warning if warning is None or "%" in warning else fields.decimal(form, "warn_threshold"),
        "action": form.get("action", "alert"),
        "notify_emails": tuple(one.strip() for one in form.get("notify_emails", "").split(",") if one.strip()),
        "notify_webhook": fields.text(form, "notify_webhook"),
        "is_active": "is_active" in form,
    }


ROUTES = (
    page("/thresholds", thresholds),
    page("/thresholds/new", new),
    page("/thresholds/new", create, method="POST"),
    page("/thresholds/edit", edit),
    page("/thresholds/edit", update, method="POST"),
    page("/thresholds/delete", ask_delete),
    page("/thresholds/delete", delete, method="POST"),
)
