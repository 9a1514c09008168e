"""/v1/exports"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from meterfold_service.access.principal import Scope
from meterfold_service.exports.results import Format, What
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.usage import ExportQuery
from meterfold_service.http.parsing import subject_of
from meterfold_service.http.responses import EXPIRED
from meterfold_service.http.streams import Chunks

router = APIRouter(prefix="/v1/exports", tags=["exports"])

_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The rows, as a stream in the format that was asked for.",
        "content": {
            kind.media_type.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}} for kind in Format
        },
    }
}


@router.get("/{what}", response_class=Response, responses={**_STREAM, **EXPIRED})
async def export(
    what: What, query: Annotated[ExportQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]
) -> Response:
    """Export all rows of a selection as a stream, in constant memory. A connection that ends early is an error: CSV and
    JSON Lines have no mark for the end."""
    return await Chunks.of(
        caller.service,
        lambda: caller.may.usage.stream(
            what,
            metric_key=query.metric_key,
            subject=subject_of(query),
            org_id=query.org_id,
            start=query.start,
            end=query.end,
            period=query.period,
            partial=query.partial,
        ),
        query.format,
        safe_for_spreadsheets=query.safe_for_spreadsheets,
        name=what,
    )
