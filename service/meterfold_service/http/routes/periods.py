"""/v1/periods"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.periods import (
    AdjustmentList,
    AdjustmentQuery,
    ClosingList,
    ClosingQuery,
    DueList,
    DueQuery,
    PeriodClosing,
    PeriodToClose,
)
from meterfold_service.http.parsing import subject_of
from meterfold_service.http.responses import CONFLICT, EXPIRED

router = APIRouter(prefix="/v1/periods", tags=["periods"])


@router.post("/close", responses={**CONFLICT, **EXPIRED})
async def close(body: PeriodToClose, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> PeriodClosing:
    """Close a period: recount its windows, compare, and keep the numbers. Safe to repeat."""
    closed = await caller.change(caller.may.periods.close, body.period, body.start, body.metric_key)
    return PeriodClosing.of(closed)


@router.get("")
async def list_(query: Annotated[ClosingQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]) -> ClosingList:
    """List closings, the latest period first."""
    page = await caller.run(
        caller.may.periods.list,
        query.period,
        start=query.start,
        end=query.end,
        metric_key=query.metric_key,
        newest=query.newest,
        **query.page,
    )
    return ClosingList.page(page)


@router.get("/due")
async def due(query: Annotated[DueQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]) -> DueList:
    """List periods that have ended and are not closed, or have moved since, the earliest first."""
    kinds = query.period or ("hourly", "daily", "monthly")
    page = await caller.run(caller.may.periods.due, kinds, **query.page)
    return DueList.page(page, expired=page.expired)


@router.get("/adjustments")
async def adjustments(
    query: Annotated[AdjustmentQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]
) -> AdjustmentList:
    """List what has moved since it was closed: what to credit or invoice."""
    page = await caller.run(
        caller.may.periods.adjustments,
        query.period,
        start=query.start,
        end=query.end,
        metric_key=query.metric_key,
        org_id=query.org_id,
        subject=subject_of(query),
        **query.page,
    )
    return AdjustmentList.page(page)
