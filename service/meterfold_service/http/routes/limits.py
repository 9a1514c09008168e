"""/v1/limits"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.limits import SubjectLimits
from meterfold_service.http.models.metrics import OrganizationQuery

router = APIRouter(prefix="/v1/limits", tags=["limits"])


@router.get("/{subject_type}/{subject_id:path}")
async def get(
    subject_type: str,
    subject_id: str,
    query: Annotated[OrganizationQuery, Query()],
    caller: Annotated[Caller, needs(Scope.READ)],
) -> SubjectLimits:
    """Show what is blocked or near its limit for a subject. Answered from memory: ask before you serve a request."""
    # Not in a thread: it waits for nothing.
    return SubjectLimits.of(caller.may.limits.get((subject_type, subject_id), org_id=query.org_id))
