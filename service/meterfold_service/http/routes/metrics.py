"""/v1/metrics"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from meterfold_schemas.definitions import MetricDefinition
from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.pages import MAX_LIMIT

router = APIRouter(prefix="/v1/metrics", tags=["metrics"])


@router.post("", status_code=201)
async def define(values: dict[str, Any], caller: Annotated[Caller, needs(Scope.MANAGE)]) -> MetricDefinition:
    """Define a metric. The same definition again changes nothing."""
    return await caller.run(caller.may.metrics.define, **values)


@router.get("/{key}")
async def get(key: str, caller: Annotated[Caller, needs(Scope.READ)], org_id: str | None = None) -> MetricDefinition:
    """One metric, as an organization sees it."""
    return await caller.run(caller.may.metrics.get, key, org_id)


@router.get("")
async def list_(
    caller: Annotated[Caller, needs(Scope.READ)],
    org_id: str | None = None,
    category: str | None = None,
    is_active: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """Metrics by organization, in the order they are displayed."""
    page = await caller.run(
        caller.may.metrics.list, org_id=org_id, category=category, is_active=is_active, limit=limit, offset=offset
    )
    return {"total": page.total, "data": page.rows}
