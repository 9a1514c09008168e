"""/healthz and /readyz, for load balancers; without a token, so they say nothing about the installation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from meterfold_service.http.context import HttpService
from meterfold_service.http.models.probes import Health, Readiness

router = APIRouter(tags=["probes"])


def _service(request: Request) -> HttpService:
    service: HttpService = request.app.state.service
    return service


@router.get("/healthz")
async def health() -> Health:
    """Say that the process answers."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready: `waiting_for` says what for."}})
async def readiness(service: Annotated[HttpService, Depends(_service)], response: Response) -> Readiness:
    """Say whether requests can be answered: ClickHouse answers, and limits are in memory."""
    waiting = service.waiting_for()
    response.status_code = 503 if waiting else 200
    return Readiness(ready=not waiting, waiting_for=waiting, slow=service.slow())
