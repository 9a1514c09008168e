"""/api/v1/meters, /api/v1/events and /api/v1/subjects, as OpenMeter's clients use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.usage_json import moment_of
from meterfold_service.access.principal import Scope
from meterfold_service.http import openmeter_answers as answers
from meterfold_service.http.context import Caller, needs
from meterfold_service.openmeter.operations import MOST_LISTED
from meterfold_service.openmeter.queries import MeterQuery

router = APIRouter(prefix="/api/v1", tags=["openmeter"], include_in_schema=False)

Reader = Annotated[Caller, needs(Scope.READ, any_parameters=True)]
Manager = Annotated[Caller, needs(Scope.MANAGE, any_parameters=True)]
_GROUP_FILTER = "filterGroupBy["


@router.post("/meters", status_code=201)
async def create(given: dict[str, Any], caller: Manager) -> dict[str, Any]:
    """Create a meter. The same one again changes nothing."""
    return answers.meter(await caller.change(caller.may.openmeter.create, given))


@router.get("/meters")
async def list_(
    caller: Reader,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=1_000, alias="pageSize")] = 1_000,
) -> list[dict[str, Any]]:
    """Meters by slug."""
    found = await caller.run(caller.may.openmeter.meters)
    return [answers.meter(meter) for meter in found[(page - 1) * page_size : page * page_size]]


@router.get("/meters/{id_or_slug}")
async def get(id_or_slug: str, caller: Reader) -> dict[str, Any]:
    """One meter."""
    return answers.meter(await caller.run(caller.may.openmeter.get, id_or_slug))


@router.put("/meters/{id_or_slug}")
async def update(id_or_slug: str, given: dict[str, Any], caller: Manager) -> dict[str, Any]:
    """Change the name, the description, the metadata or the groups of a meter."""
    return answers.meter(await caller.change(caller.may.openmeter.update, id_or_slug, given))


@router.delete("/meters/{id_or_slug}", status_code=204)
async def delete(id_or_slug: str, caller: Manager) -> Response:
    """Delete a meter. Its usage stays."""
    await caller.change(caller.may.openmeter.delete, id_or_slug)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.get("/meters/{id_or_slug}/query")
async def query(id_or_slug: str, request: Request, caller: Reader) -> Response:
    """The usage of a meter, by window, subject and groups; as JSON, or as CSV where the client accepts text/csv."""
    return await _answer(id_or_slug, _of_parameters(request.query_params), request, caller)


@router.post("/meters/{id_or_slug}/query")
async def query_by_body(id_or_slug: str, given: dict[str, Any], request: Request, caller: Reader) -> Response:
    """The same, with the parameters in the body."""
    return await _answer(id_or_slug, _of_body(given), request, caller)


@router.get("/meters/{id_or_slug}/subjects")
async def meter_subjects(id_or_slug: str, caller: Reader) -> list[str]:
    """The subjects that have used a meter."""
    return [row.key for row in await caller.run(caller.may.openmeter.subjects, meter=id_or_slug)]


@router.get("/meters/{id_or_slug}/group-by/{group}/values")
async def group_values(id_or_slug: str, group: str, request: Request, caller: Reader) -> list[str]:
    """The values that a group of a meter has."""
    wanted = replace(_of_parameters(request.query_params), window_size=None, group_by=(group,))
    _, rows = await caller.run(caller.may.openmeter.query, id_or_slug, wanted)
    return sorted({value for row in rows if (value := row.group_by.get(group)) is not None})


@router.get("/events")
async def events(
    request: Request,
    caller: Reader,
    id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
) -> list[dict[str, Any]]:
    """The newest events, with what keeps them from counting for a meter."""
    given = request.query_params
    found = await caller.run(
        caller.may.openmeter.list_events,
        start=_time("from", given.get("from")),
        end=_time("to", given.get("to")),
        received_from=_time("ingestedAtFrom", given.get("ingestedAtFrom")),
        received_until=_time("ingestedAtTo", given.get("ingestedAtTo")),
        subjects=given.getlist("subject"),
        ids=[] if id is None else [id],
        limit=limit,
    )
    return [answers.event(event) for event in found]


@router.get("/subjects")
async def subjects(caller: Reader) -> list[dict[str, Any]]:
    """Whoever has sent an event."""
    return [answers.subject(row) for row in await caller.run(caller.may.openmeter.subjects)]


@router.get("/subjects/{key:path}")
async def subject(key: str, caller: Reader) -> dict[str, Any]:
    """One subject."""
    for row in await caller.run(caller.may.openmeter.subjects, key=key):
        return answers.subject(row)
    raise HTTPException(HTTPStatus.NOT_FOUND, f"subject {shown(key)} has sent no event")


async def _answer(id_or_slug: str, wanted: MeterQuery, request: Request, caller: Caller) -> Response:
    meter, rows = await caller.run(caller.may.openmeter.query, id_or_slug, wanted)
    if "text/csv" in request.headers.get("accept", ""):
        return answers.query_csv(wanted, meter, rows)
    return answers.query_json(wanted, rows)


def _of_parameters(given: QueryParams) -> MeterQuery:
    filters: dict[str, list[str]] = {}
    for name, value in given.multi_items():
        if name.startswith(_GROUP_FILTER) and name.endswith("]"):
            filters.setdefault(name[len(_GROUP_FILTER) : -1], []).append(value)
    return _query(given, given.getlist("subject"), given.getlist("groupBy"), filters)


def _of_body(given: Mapping[str, Any]) -> MeterQuery:
    filters = given.get("filterGroupBy") or {}
    if not isinstance(filters, dict) or not all(map(_is_texts, filters.values())):
        raise InvalidUsage("filterGroupBy must be a JSON object of lists of texts")
    lists = []
    for name in ("subject", "groupBy"):
        values = given.get(name) or []
        if not _is_texts(values):
            raise InvalidUsage(f"{name} must be a list of texts")
        lists.append(values)
    return _query(given, lists[0], lists[1], filters)


def _query(
    given: Mapping[str, Any], subjects: Sequence[str], group_by: Sequence[str], filters: Mapping[str, Sequence[str]]
) -> MeterQuery:
    for name in ("filterCustomerId", "advancedMeterGroupByFilters"):
        if given.get(name):
            raise InvalidUsage(f"{name} is not supported; filter by subject or filterGroupBy")
    for name in ("windowSize", "windowTimeZone"):
        if not isinstance(given.get(name), str | None):
            raise InvalidUsage(f"{name} must be text")
    return MeterQuery(
        start=_time("from", given.get("from")),
        end=_time("to", given.get("to")),
        window_size=given.get("windowSize"),
        time_zone=given.get("windowTimeZone"),
        subjects=tuple(dict.fromkeys(subjects)),
        group_by=tuple(dict.fromkeys(group_by)),
        filter_group_by=filters,
    )


def _is_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _time(name: str, given: Any) -> datetime | None:
    if given is None:
        return None
    moment = moment_of(given) if isinstance(given, str) else None
    if moment is None:
        raise InvalidUsage(f"{name} {shown(given)} must be a time in RFC 3339, such as 2026-11-22T09:30:00Z")
    return moment
