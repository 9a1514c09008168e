"""/v1/events"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response

from meterfold_service.access.principal import Scope
from meterfold_service.http.bodies import read_body
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.event_answers import answer_of
from meterfold_service.http.event_requests import documents_in

router = APIRouter(prefix="/v1/events", tags=["events"])


@router.post("")
async def record(request: Request, caller: Annotated[Caller, needs(Scope.INGEST)]) -> Response:
    """Record usage events. A 2xx answer means that every in-sync replica has the accepted ones."""
    settings = caller.service.settings
    body = await read_body(request, most=settings.max_body_bytes, seconds=settings.body_seconds)
    documents = documents_in(request.headers, body, settings.max_events)
    waiting, on_end = caller.service.deliveries.waiter()
    pending = caller.may.events.begin(documents, on_end)
    await waiting
    return answer_of(pending)
