"""/v1/events"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response

from meterfold_service.access.principal import Scope
from meterfold_service.http.bodies import read_events
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.event_answers import answer_of
from meterfold_service.http.event_requests import documents_in
from meterfold_service.http.ingesting import QUICK_BYTES
from meterfold_service.http.models.events import REQUEST, RESPONSES
from meterfold_service.http.quick import QuickRoute
from meterfold_service.ingest.operations import Pending

router = APIRouter(prefix="/v1/events", tags=["events"], route_class=QuickRoute)


@router.post("", responses=RESPONSES, openapi_extra={"requestBody": REQUEST})
async def record(request: Request, caller: Annotated[Caller, needs(Scope.INGEST)]) -> Response:
    """Record usage events. A 2xx answer means that every in-sync replica has the accepted events.

    The body is one event, a list of events, or CloudEvents 1.0 in structured, batch or binary mode, plain or compressed
    (`Content-Encoding: gzip` or `zstd`). Each event has its result, in order; a bad one does not affect the others. A
    request may be sent again: an event with an `id` counts once.
    """
    ingesting, most = caller.service.ingesting, caller.service.settings.max_events
    body = await read_events(request, caller)

    def begin(on_end: Callable[[], None]) -> Pending:
        return caller.may.events.begin(documents_in(request.headers, body, most), on_end)

    is_large = len(body) > QUICK_BYTES
    pending = await ingesting.taken(begin, in_thread=is_large)
    return await ingesting.run(answer_of, pending) if is_large else answer_of(pending)
