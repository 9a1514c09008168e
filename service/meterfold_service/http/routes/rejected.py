"""/v1/rejected"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.rejected import (
    RedriveAllRequest,
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
    page = await caller.run(
        caller.may.rejected.list, redriven=query.redriven, sort=query.sort, **_selection(query), **query.page
    )
    return RejectedList(data=[Rejected.of(one) for one in page.rows], next_cursor=page.cursor, total=page.total)


@router.get("/count")
async def count(
    query: Annotated[RejectedFilter, Query()], caller: Annotated[Caller, needs(Scope.READ)]
) -> RejectedCounts:
    """Count rejected messages by reason."""
    found = await caller.run(caller.may.rejected.count, redriven=query.redriven, **_selection(query))
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
    report = await caller.change(caller.may.rejected.redrive, corrections, **_how(body))
    return RedriveReport.of(report)


@router.post("/redrive-all")
async def redrive_all(body: RedriveAllRequest, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> RedriveReport:
    """Send every rejected message of a selection again that was not sent yet, all with one correction. Answers once the
    last one is sent."""
    report = await caller.change(
        caller.may.rejected.redrive_all,
        Correction(body.fields, frozenset(body.drop)),
        limit=body.limit,
        **_selection(body),
        **_how(body),
    )
    return RedriveReport.of(report)


def _selection(wanted: RejectedFilter | RedriveAllRequest) -> dict[str, Any]:
    return {
        "reason": wanted.reason,
        "org_id": wanted.org_id,
        "metric_key": wanted.metric_key,
        "subject": subject_of(wanted),
        "partition": wanted.partition,
        "since": wanted.since,
        "until": wanted.until,
    }


def _how(body: RedriveRequest | RedriveAllRequest) -> dict[str, Any]:
    return {"read_as": body.read_as, "by": body.by, "note": body.note, "dry_run": body.dry_run}
