"""/v1/thresholds"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.metrics import OrganizationQuery
from meterfold_service.http.models.thresholds import (
    NearestQuery,
    NearestWindows,
    SubjectThresholds,
    Threshold,
    ThresholdChange,
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


@router.post("/preview-create", responses={**NOT_FOUND, **CONFLICT})
async def preview_create(body: ThresholdContent, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> ThresholdChange:
    """Show which current periods a new threshold would find at its levels. Nothing is stored."""
    return ThresholdChange.of(await caller.change(caller.may.thresholds.preview_create, **body.given()))


@router.get("/nearest")
async def nearest(
    query: Annotated[NearestQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]
) -> NearestWindows:
    """List the current periods of all thresholds that are nearest to their limit, or above it. As recent as the
    checker."""
    found = await caller.run(caller.may.thresholds.nearest, limit=query.limit)
    return NearestWindows.model_validate({"data": list(found)})


@router.get("/of/{subject_type}/{subject_id:path}")
async def of_subject(
    subject_type: str,
    subject_id: str,
    query: Annotated[OrganizationQuery, Query()],
    caller: Annotated[Caller, needs(Scope.READ)],
) -> SubjectThresholds:
    """List the thresholds that judge a subject, each with its current period. A token of the subject may ask too."""
    found = await caller.run(caller.may.thresholds.of_subject, (subject_type, subject_id), org_id=query.org_id)
    return SubjectThresholds.model_validate({"data": list(found)})


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


@router.post("/{threshold_id}/preview-update", responses={**NOT_FOUND, **CONFLICT})
async def preview_update(
    threshold_id: str, body: ThresholdChanges, caller: Annotated[Caller, needs(Scope.MANAGE)]
) -> ThresholdChange:
    """Show what a change of a threshold would do to its current periods. Nothing is stored."""
    change = await caller.change(caller.may.thresholds.preview_update, threshold_id, **body.given())
    return ThresholdChange.of(change)


@router.get("/{threshold_id}/preview-delete", responses=NOT_FOUND)
async def preview_delete(threshold_id: str, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> ThresholdChange:
    """Show which levels deleting a threshold would clear. Nothing is deleted."""
    return ThresholdChange.of(await caller.change(caller.may.thresholds.preview_delete, threshold_id))


@router.delete("/{threshold_id}", status_code=204, responses=NOT_FOUND)
async def delete(threshold_id: str, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> None:
    """Delete a threshold. What it had raised is cleared."""
    await caller.change(caller.may.thresholds.delete, threshold_id)
