"""/v1/alerts"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.bodies import NO_NULL
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.alerts import Alert, AlertAct, AlertList, AlertQuery
from meterfold_service.http.parsing import subject_of
from meterfold_service.http.responses import NOT_FOUND

router = APIRouter(prefix="/v1/alerts", tags=["alerts"])


@router.get("")
async def list_(query: Annotated[AlertQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]) -> AlertList:
    """List alerts, the newest first."""
    page = await caller.run(
        caller.may.alerts.list,
        metric_key=query.metric_key,
        subject=subject_of(query),
        org_id=query.org_id,
        threshold_id=query.threshold_id,
        status=query.status,
        level=query.level,
        since=query.since,
        sort=query.sort,
        **query.page,
    )
    return AlertList.page(page)


@router.get("/{alert_id}", responses=NOT_FOUND)
async def get(alert_id: str, caller: Annotated[Caller, needs(Scope.READ)]) -> Alert:
    """Show an alert."""
    return Alert.of(await caller.run(caller.may.alerts.get, alert_id))


@router.post("/{alert_id}/acknowledge", responses=NOT_FOUND, dependencies=[NO_NULL])
async def acknowledge(
    alert_id: str, caller: Annotated[Caller, needs(Scope.MANAGE)], body: AlertAct | None = None
) -> Alert:
    """Say that somebody takes care of an alert. The first one wins; the answer has its name."""
    by = None if body is None else body.by
    return Alert.of(await caller.change(caller.may.alerts.acknowledge, alert_id, by=by))


@router.post("/{alert_id}/resolve", responses=NOT_FOUND, dependencies=[NO_NULL])
async def resolve(alert_id: str, caller: Annotated[Caller, needs(Scope.MANAGE)], body: AlertAct | None = None) -> Alert:
    """Close an alert before the value falls back or the period ends."""
    by = None if body is None else body.by
    return Alert.of(await caller.change(caller.may.alerts.resolve, alert_id, by=by))
