"""/v1/periods"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.bodies import NO_NULL
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.periods import (
    AdjustmentList,
    AdjustmentQuery,
    Closable,
    CloseRun,
    ClosingList,
    ClosingQuery,
    ClosingVersionQuery,
    DueList,
    DuePeriodsToClose,
    DueQuery,
    PeriodClosing,
    PeriodsToClose,
    PeriodToClose,
)
from meterfold_service.http.models.values import Time
from meterfold_service.http.parsing import subject_of
from meterfold_service.http.responses import CONFLICT, EXPIRED, NOT_FOUND
from meterfold_sink.period_closings import CLOSED

router = APIRouter(prefix="/v1/periods", tags=["periods"])


@router.post("/close", responses={**CONFLICT, **EXPIRED})
async def close(body: PeriodToClose, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> PeriodClosing:
    """Close a period: recount its windows, compare, and keep the numbers. Safe to repeat."""
    closed = await caller.change(caller.may.periods.close, body.period, body.start, body.metric_key)
    return PeriodClosing.of(closed)


@router.post("/close-many", responses=CONFLICT)
async def close_many(body: PeriodsToClose, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> CloseRun:
    """Close every period of a kind from a start to an end. Safe to repeat."""
    run = await caller.change(
        caller.may.periods.close_many, body.period, body.start, body.end, body.metric_key, limit=body.limit
    )
    return CloseRun.of(run)


@router.post("/close-due", responses=CONFLICT, dependencies=[NO_NULL])
async def close_due(caller: Annotated[Caller, needs(Scope.MANAGE)], body: DuePeriodsToClose | None = None) -> CloseRun:
    """Close every period that is due: what a scheduler calls. Safe to repeat, and to run twice at once."""
    wanted = body or DuePeriodsToClose()
    run = await caller.change(caller.may.periods.close_due, wanted.period or CLOSED, limit=wanted.limit)
    return CloseRun.of(run)


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
    page = await caller.run(caller.may.periods.due, query.period or CLOSED, **query.page)
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


@router.get("/{period}/{start}", responses=NOT_FOUND)
async def get(
    period: Closable,
    start: Time,
    query: Annotated[ClosingVersionQuery, Query()],
    caller: Annotated[Caller, needs(Scope.READ)],
) -> PeriodClosing:
    """Show a closing of the period that begins at `start`: the newest, or one revision."""
    found = await caller.run(caller.may.periods.get, period, start, query.metric_key, revision=query.revision)
    return PeriodClosing.of(found)
