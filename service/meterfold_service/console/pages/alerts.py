"""Alerts: what has come near a limit or reached it, and who takes care."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from starlette.responses import Response

from meterfold_service.access.principal import Scope
from meterfold_service.alerts.operations import UsageAlert
from meterfold_service.console import fields
from meterfold_service.console.rendering import quantity
from meterfold_service.console.visit import Visit, page

__all__ = ["ROUTES", "history_of"]

_LIMIT: Final = 50
_TABS: Final = (("", "All"), ("pending", "Pending"), ("acknowledged", "Acknowledged"), ("resolved", "Resolved"))


async def alerts(visit: Visit) -> Response:
    offset = fields.number(visit.query, "offset", 0)
    kept = {name: visit.query[name] for name in ("metric", "subject_type", "subject_id", "org") if name in visit.query}
    found = await visit.run(
        visit.may.alerts.list,
        status=fields.text(visit.query, "status"),
        metric_key=fields.text(visit.query, "metric"),
        subject=fields.subject_of(visit.query),
        org_id=fields.org_of(visit.query),
        limit=_LIMIT,
        offset=offset,
    )
    return visit.render(
        "alerts.html",
        found=found,
        tabs=_TABS,
        status=visit.query.get("status", ""),
        kept=kept,
        offset=offset,
        limit=_LIMIT,
        manages=visit.principal.may(Scope.MANAGE),
    )


async def alert(visit: Visit) -> Response:
    one = await visit.run(visit.may.alerts.get, visit.query.get("id", ""))
    same = await visit.run(
        visit.may.alerts.list,
        threshold_id=one.threshold_id,
        subject=(one.subject_type, one.subject_id),
        org_id=one.org_id,
        limit=200,
    )
    others = [other for other in same.rows if other.period_start == one.period_start]
    history = sorted((entry for other in others for entry in history_of(other)), key=lambda entry: entry[0])
    return visit.render("alert.html", one=one, history=history, manages=visit.principal.may(Scope.MANAGE))


async def acknowledge(visit: Visit) -> Response:
    return await _acted(visit, visit.may.alerts.acknowledge)


async def resolve(visit: Visit) -> Response:
    return await _acted(visit, visit.may.alerts.resolve)


async def _acted(visit: Visit, action: object) -> Response:
    assert callable(action)
    one = await visit.run(action, visit.form.get("id", ""))
    if not visit.is_fragment:
        return visit.go("/alerts/one", id=visit.form.get("id", ""))
    return visit.render("_alert.html", one=one, manages=True, said=f"The alert is {one.status}")


def history_of(one: UsageAlert) -> list[tuple[datetime, str, str]]:
    """(when, what happened, tone) of one alert."""
    tone = "bad" if one.level == "exceeded" else "warn"
    limit = f"{quantity(one.actual_value)} of {quantity(one.threshold)}"
    found = [(one.triggered_at, f"{one.level}: {limit} ({one.percentage_used:.1f} %)", tone)]
    if one.acknowledged_at is not None:
        found.append((one.acknowledged_at, f"{one.level}: acknowledged by {one.acknowledged_by}", ""))
    if one.resolved_at is not None:
        how = (
            f"resolved by {one.resolved_by}"
            if one.resolved_by
            else "resolved: the value fell back, or the window ended"
        )
        found.append((one.resolved_at, f"{one.level}: {how}", ""))
    return found


ROUTES = (
    page("/alerts", alerts),
    page("/alerts/one", alert),
    page("/alerts/acknowledge", acknowledge, method="POST"),
    page("/alerts/resolve", resolve, method="POST"),
)
