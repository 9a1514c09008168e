"""/v1/events"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.event_answers import answer_of
from meterfold_service.http.event_requests import documents_in
from meterfold_service.http.ingesting import QUICK_BYTES, body_of, taken
from meterfold_service.ingest.operations import Pending

router = APIRouter(prefix="/v1/events", tags=["events"])


@router.post("")
async def record(request: Request, caller: Annotated[Caller, needs(Scope.INGEST)]) -> Response:
    """Record usage events: one JSON object, a list of them, or CloudEvents 1.0 in structured, batch or binary mode.

    A 2xx answer means that every in-sync replica has the accepted events. Each event has its result, in order.
    """
    if caller.may.events.is_doubtful:
        await caller.run(caller.may.events.check)
    body = await body_of(request, caller)

    def begin(on_end: Callable[[], None]) -> Pending:
        documents = documents_in(request.headers, body, caller.service.settings.max_events)
        return caller.may.events.begin(documents, on_end)

    is_large = len(body) > QUICK_BYTES
    pending = await taken(caller, begin, in_thread=is_large)
    return await caller.run(answer_of, pending) if is_large else answer_of(pending)
