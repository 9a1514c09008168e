"""POST /api/v1/events, a path that OpenMeter and Lago share: the body says whose event it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from meterfold_service.access.principal import Scope
from meterfold_service.http import lago_answers, openmeter_answers
from meterfold_service.http.bodies import read_events
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.event_requests import documents_in
from meterfold_service.http.ingesting import QUICK_BYTES
from meterfold_service.ingest.errors import UnreadableBody

router = APIRouter(prefix="/api/v1/events", include_in_schema=False)

Begin = Callable[[Callable[[], None]], Callable[[], Response]]
"""Takes the events, and returns what answers once they are delivered."""


@router.post("", tags=["openmeter", "lago"])
async def ingest(request: Request, caller: Annotated[Caller, needs(Scope.INGEST)]) -> Response:
    """CloudEvents, one or a list, as OpenMeter takes them: 204. Or {"event": {...}} of Lago: 200 with the event."""
    body = await read_events(request, caller)

    def begin(on_end: Callable[[], None]) -> Callable[[], Response]:
        documents = documents_in(request.headers, body, caller.service.settings.max_events)
        if len(documents) == 1 and isinstance(documents[0], dict) and "event" in documents[0]:
            event = documents[0]["event"]
            found = caller.may.lago.begin([event], on_end)
            return lambda: lago_answers.one(event, found)
        ingested = caller.may.openmeter.begin(documents, on_end)
        return lambda: openmeter_answers.ingested(ingested)

    return await _answer(caller, begin, body)


@router.post("/batch", tags=["lago"])
async def batch(request: Request, caller: Annotated[Caller, needs(Scope.INGEST)]) -> Response:
    """{"events": [...]} of Lago."""
    body = await read_events(request, caller)

    def begin(on_end: Callable[[], None]) -> Callable[[], Response]:
        events = _events(documents_in(request.headers, body, caller.service.settings.max_events))
        found = caller.may.lago.begin(events, on_end)
        return lambda: lago_answers.many(events, found)

    return await _answer(caller, begin, body)


async def _answer(caller: Caller, begin: Begin, body: bytes) -> Response:
    # Both doors translate by the same definitions.
    in_thread = caller.may.openmeter.may_block or len(body) > QUICK_BYTES
    answer = await caller.service.ingesting.taken(begin, in_thread=in_thread)
    return answer()


def _events(documents: list[Any]) -> list[Any]:
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise UnreadableBody('the body must be a JSON object such as {"events": [...]}')
    events = documents[0].get("events")
    if not isinstance(events, list) or not events:
        raise UnreadableBody('the body has no events; send {"events": [...]} with at least one')
    return events
