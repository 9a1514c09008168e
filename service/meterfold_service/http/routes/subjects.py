"""/v1/subjects"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.metrics import OrganizationQuery
from meterfold_service.http.models.subjects import (
    BusyQuery,
    BusySubjects,
    FoundSubjects,
    SubjectMetrics,
    SubjectSearch,
)

router = APIRouter(prefix="/v1/subjects", tags=["subjects"])


@router.get("")
async def find(query: Annotated[SubjectSearch, Query()], caller: Annotated[Caller, needs(Scope.READ)]) -> FoundSubjects:
    """Find subjects with usage, those used last first."""
    found = await caller.run(caller.may.usage.subjects, query.q, org_id=query.org_id, limit=query.limit)
    return FoundSubjects.model_validate({"data": list(found)})


@router.get("/busiest")
async def busiest(query: Annotated[BusyQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]) -> BusySubjects:
    """List the subjects with the most events in this hour and the last one, in UTC."""
    found = await caller.run(caller.may.usage.busiest, limit=query.limit)
    return BusySubjects.model_validate({"data": list(found)})


@router.get("/{subject_type}/{subject_id:path}")
async def metrics(
    subject_type: str,
    subject_id: str,
    query: Annotated[OrganizationQuery, Query()],
    caller: Annotated[Caller, needs(Scope.READ)],
) -> SubjectMetrics:
    """List the metrics that a subject has used, the busiest first."""
    found = await caller.run(caller.may.usage.metrics_of, (subject_type, subject_id), org_id=query.org_id)
    return SubjectMetrics.model_validate({"data": list(found)})
