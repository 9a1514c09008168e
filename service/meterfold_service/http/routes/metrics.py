"""/v1/metrics"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.metrics import (
    Metric,
    MetricChange,
    MetricChanges,
    MetricContent,
    MetricList,
    MetricQuery,
    OrganizationQuery,
)
from meterfold_service.http.responses import CONFLICT, NOT_FOUND

router = APIRouter(prefix="/v1/metrics", tags=["metrics"])


@router.post("", status_code=201, responses=CONFLICT)
async def define(body: MetricContent, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> Metric:
    """Define a metric. The same definition again changes nothing."""
    return Metric.of(await caller.change(caller.may.metrics.define, **body.given()))


@router.post("/preview-define")
async def preview_define(body: MetricContent, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> MetricChange | None:
    """Show what a definition would change for usage that exists. An organization's own definition hides the one of
    every organization; the answer is null where it hides none. Nothing is stored."""
    change = await caller.change(caller.may.metrics.preview_define, **body.given())
    return None if change is None else MetricChange.made(change)


@router.get("")
async def list_(query: Annotated[MetricQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]) -> MetricList:
    """List metrics, by organization and in the order in which they are displayed."""
    page = await caller.run(
        caller.may.metrics.list,
        org_id=query.org_id,
        category=query.category,
        is_active=query.is_active,
        sort=query.sort,
        **query.page,
    )
    return MetricList.page(page, undefined=list(page.undefined))


@router.get("/{key}", responses=NOT_FOUND)
async def get(
    key: str, query: Annotated[OrganizationQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]
) -> Metric:
    """Show a metric as an organization sees it, whose own definition hides the one of every organization."""
    return Metric.of(await caller.run(caller.may.metrics.get, key, query.org_id))


@router.patch("/{key}", responses=NOT_FOUND)
async def update(
    key: str,
    body: MetricChanges,
    query: Annotated[OrganizationQuery, Query()],
    caller: Annotated[Caller, needs(Scope.MANAGE)],
) -> Metric:
    """Change a metric. Totals that exist follow the new definition; nothing is counted again."""
    return Metric.of(await caller.change(caller.may.metrics.update, key, query.org_id, **body.given()))


@router.post("/{key}/preview-update", responses=NOT_FOUND)
async def preview_update(
    key: str,
    body: MetricChanges,
    query: Annotated[OrganizationQuery, Query()],
    caller: Annotated[Caller, needs(Scope.MANAGE)],
) -> MetricChange:
    """Show what a change of a metric would do to usage that exists. Nothing is stored."""
    change = await caller.change(caller.may.metrics.preview_update, key, query.org_id, **body.given())
    return MetricChange.made(change)


@router.get("/{key}/preview-delete", responses=NOT_FOUND)
async def preview_delete(
    key: str, query: Annotated[OrganizationQuery, Query()], caller: Annotated[Caller, needs(Scope.MANAGE)]
) -> MetricChange:
    """Show what deleting a metric would do to usage that exists. Nothing is deleted."""
    return MetricChange.made(await caller.change(caller.may.metrics.preview_delete, key, query.org_id))


@router.delete("/{key}", status_code=204, responses=NOT_FOUND)
async def delete(
    key: str, query: Annotated[OrganizationQuery, Query()], caller: Annotated[Caller, needs(Scope.MANAGE)]
) -> None:
    """Delete a metric. Its usage stays, without totals, and its thresholds stop."""
    await caller.change(caller.may.metrics.delete, key, query.org_id)
