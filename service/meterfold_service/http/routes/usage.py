"""/v1/usage"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.pages import MAX_LIMIT

router = APIRouter(prefix="/v1/usage", tags=["usage"])


@router.get("/{metric_key}/summary")
async def summary(
    metric_key: str,
    caller: Annotated[Caller, needs(Scope.READ)],
    start: datetime,
    end: datetime | None = None,
    period: str = "monthly",
    tz: str | None = None,
    subject_type: str | None = None,
    subject_id: str | None = None,
    org_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """Totals by period."""
    subject = None if subject_type is None or subject_id is None else (subject_type, subject_id)
    page = await caller.run(
        caller.may.usage.get_summary,
        metric_key,
        period=period,
        start=start,
        end=end,
        tz=tz,
        subject=subject,
        org_id=org_id,
        limit=limit,
        offset=offset,
    )
    return {"total": page.total, "data": page.rows}
