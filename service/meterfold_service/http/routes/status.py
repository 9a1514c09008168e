"""/v1/status"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.status import FoldTotals, Status

router = APIRouter(prefix="/v1/status", tags=["installation"])


@router.get("")
async def status(caller: Annotated[Caller, needs(Scope.READ)]) -> Status:
    """Show offsets, lag, counts and problems. Takes a few seconds where a server does not answer."""
    return Status.of(await caller.service.anyway(caller.may.status.look))


@router.get("/totals")
async def totals(caller: Annotated[Caller, needs(Scope.READ)]) -> FoldTotals:
    """Show what was read, counted and rejected so far: one small query."""
    return FoldTotals.of(await caller.run(caller.may.status.totals))
