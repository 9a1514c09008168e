"""/v1/rejected"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.rejected import (
    RedriveReport,
    RedriveRequest,
    Rejected,
    RejectedCounts,
    RejectedFilter,
    RejectedList,
    RejectedQuery,
)
from meterfold_service.http.parsing import subject_of
from meterfold_service.http.responses import NOT_FOUND
from meterfold_service.rejected.corrections import Correction
from meterfold_service.rejected.results import Position

router = APIRouter(prefix="/v1/rejected", tags=["rejected"])


@router.get("")
async def list_(query: Annotated[RejectedQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]) -> RejectedList:
    """List rejected messages, the newest first."""
    page = await caller.run(caller.may.rejected.list, sort=query.sort, **_selection(query), **query.page)
    return RejectedList(data=[Rejected.of(one) for one in page.rows], next_cursor=page.cursor, total=page.total)


@router.get("/count")
async def count(
    query: Annotated[RejectedFilter, Query()], caller: Annotated[Caller, needs(Scope.READ)]
) -> RejectedCounts:
    """Count rejected messages by reason."""
    found = await caller.run(caller.may.rejected.count, **_selection(query))
    return RejectedCounts(total=sum(found.values()), reasons=found)


@router.get("/{partition}/{offset}", responses=NOT_FOUND)
async def get(
    partition: Annotated[int, Path(ge=0, lt=2**31)],
    offset: Annotated[int, Path(ge=0, lt=2**63)],
    caller: Annotated[Caller, needs(Scope.READ)],
) -> Rejected:
    """Show a rejected message: what can be read of it, and its bytes."""
    return Rejected.of(await caller.run(caller.may.rejected.get, Position(partition, offset)))


@router.post("/redrive")
async def redrive(body: RedriveRequest, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> RedriveReport:
    """Send rejected messages again, each with its correction. Each becomes at most one event, so a repeat is safe."""
    corrections = {
        Position(one.partition, one.offset): Correction(one.fields, frozenset(one.drop)) for one in body.messages
    }
    report = await caller.change(
        caller.may.rejected.redrive,
        corrections,
        read_as=body.read_as,
        by=body.by,
        note=body.note,
        dry_run=body.dry_run,
    )
    return RedriveReport.of(report)


def _selection(query: RejectedFilter) -> dict[str, Any]:
    return {
        "reason": query.reason,
        "org_id": query.org_id,
        "metric_key": query.metric_key,
        "subject": subject_of(query),
        "partition": query.partition,
        "since": query.since,
        "until": query.until,
        "redriven": query.redriven,
    }
