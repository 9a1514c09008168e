"""/v1/thresholds"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.thresholds import (
    Threshold,
    ThresholdChanges,
    ThresholdContent,
    ThresholdList,
    ThresholdQuery,
    WatchedSubjects,
)
from meterfold_service.http.responses import CONFLICT, NOT_FOUND

router = APIRouter(prefix="/v1/thresholds", tags=["thresholds"])


@router.post("", status_code=201, responses={**NOT_FOUND, **CONFLICT})
async def create(body: ThresholdContent, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> Threshold:
    """Create a threshold. The same threshold again changes nothing."""
    return Threshold.of(await caller.change(caller.may.thresholds.create, **body.given()))


@router.get("")
async def list_(
    query: Annotated[ThresholdQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]
) -> ThresholdList:
    """List thresholds and where they are now: those of every organization first."""
    page = await caller.run(
        caller.may.thresholds.list,
        org_id=query.org_id,
        metric_key=query.metric_key,
        subject_type=query.subject_type,
        subject_id=query.subject_id,
        is_active=query.is_active,
        windows=query.windows,
        sort=query.sort,
        **query.page,
    )
    return ThresholdList.page(page)


@router.get("/{threshold_id}", responses=NOT_FOUND)
async def get(threshold_id: str, caller: Annotated[Caller, needs(Scope.READ)]) -> Threshold:
    """Show a threshold."""
    return Threshold.of(await caller.run(caller.may.thresholds.get, threshold_id))


@router.get("/{threshold_id}/watched", responses=NOT_FOUND)
async def watched(threshold_id: str, caller: Annotated[Caller, needs(Scope.READ)]) -> WatchedSubjects:
    """Count the subjects that a threshold judges now."""
    return WatchedSubjects.of(await caller.run(caller.may.thresholds.watched_subjects, threshold_id))


@router.patch("/{threshold_id}", responses={**NOT_FOUND, **CONFLICT})
async def update(
    threshold_id: str, body: ThresholdChanges, caller: Annotated[Caller, needs(Scope.MANAGE)]
) -> Threshold:
    """Change a threshold. Its open periods are judged at once."""
    return Threshold.of(await caller.change(caller.may.thresholds.update, threshold_id, **body.given()))


@router.delete("/{threshold_id}", status_code=204, responses=NOT_FOUND)
async def delete(threshold_id: str, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> None:
    """Delete a threshold. What it had raised is cleared."""
    await caller.change(caller.may.thresholds.delete, threshold_id)
