"""/v1/usage"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.usage import RecordList, RecordQuery, SummaryList, SummaryQuery
from meterfold_service.http.parsing import filter_of, subject_of
from meterfold_service.http.responses import EXPIRED, NOT_FOUND

router = APIRouter(prefix="/v1/usage", tags=["usage"])


@router.get("/{metric_key}/records", responses=EXPIRED)
async def get(
    metric_key: str, query: Annotated[RecordQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]
) -> RecordList:
    """List the records of one subject by timestamp, with their total."""
    page = await caller.run(
        caller.may.usage.get,
        metric_key,
        subject_of(query),
        start=query.start,
        end=query.end,
        org_id=query.org_id,
        filter=filter_of(query.where, query.missing),
        **query.page,
    )
    return RecordList.model_validate(
        {
            "data": list(page.records),
            "next_cursor": page.cursor,
            "total": page.total,
            "total_quantity": page.total_quantity,
        }
    )


@router.get("/{metric_key}/summary", responses={**NOT_FOUND, **EXPIRED})
async def summary(
    metric_key: str, query: Annotated[SummaryQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]
) -> SummaryList:
    """Show totals by period. A period that overlaps the time is shown as a whole."""
    page = await caller.run(
        caller.may.usage.get_summary,
        metric_key,
        period=query.period,
        start=query.start,
        end=query.end,
        tz=query.tz,
        anchor=query.anchor,
        subject=subject_of(query),
        org_id=query.org_id,
        every_org=query.every_org,
        group_by=query.group_by or (["subject"] if query.top is not None else []),
        filter=filter_of(query.where, query.missing),
        unique_count=query.unique,
        top=query.top,
        empty=query.empty,
        **query.page,
    )
    return SummaryList.page(page)
