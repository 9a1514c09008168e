"""POST /api/v1/events, a path that OpenMeter and Lago share: the body says whose event it is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from meterfold_service.access.principal import Scope
from meterfold_service.http import lago_answers, openmeter_answers
from meterfold_service.http.bodies import read_body
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.event_requests import documents_in
from meterfold_service.http.ingesting import QUICK_BYTES
from meterfold_service.ingest.errors import UnreadableBody

router = APIRouter(prefix="/api/v1/events", include_in_schema=False)


@router.post("", tags=["openmeter", "lago"])
async def ingest(request: Request, caller: Annotated[Caller, needs(Scope.INGEST)]) -> Response:
    """CloudEvents, one or a list, as OpenMeter takes them: 204. Or {"event": {...}} of Lago: 200 with the event."""
    ingesting = caller.service.ingesting
    body = await read_body(request, caller.service.settings.max_body_bytes)
    documents = documents_in(request.headers, body, caller.service.settings.max_events)
    if len(documents) == 1 and isinstance(documents[0], dict) and "event" in documents[0]:
        event = documents[0]["event"]
        lago = caller.may.lago
        found = await ingesting.taken(lambda end: lago.begin([event], end), in_thread=lago.may_block)
        return lago_answers.one(event, found)
    openmeter = caller.may.openmeter
    in_thread = openmeter.may_block or len(body) > QUICK_BYTES
    ingested = await ingesting.taken(lambda end: openmeter.begin(documents, end), in_thread=in_thread)
    return openmeter_answers.ingested(ingested)


@router.post("/batch", tags=["lago"])
async def batch(request: Request, caller: Annotated[Caller, needs(Scope.INGEST)]) -> Response:
    """{"events": [...]} of Lago."""
    ingesting = caller.service.ingesting
    body = await read_body(request, caller.service.settings.max_body_bytes)
    (document,) = _one(documents_in(request.headers, body, caller.service.settings.max_events))
    events = document.get("events")
    if not isinstance(events, list) or not events:
        raise UnreadableBody('the body has no events; send {"events": [...]} with at least one')
    lago = caller.may.lago
    in_thread = lago.may_block or len(body) > QUICK_BYTES
    found = await ingesting.taken(lambda end: lago.begin(events, end), in_thread=in_thread)
    return lago_answers.many(events, found)


def _one(documents: list[Any]) -> list[dict[str, Any]]:
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise UnreadableBody('the body must be a JSON object such as {"events": [...]}')
    return documents
