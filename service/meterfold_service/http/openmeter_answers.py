"""What OpenMeter's clients are answered."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi.responses import Response

from meterfold_schemas.quantities import number_text
from meterfold_service.http.event_answers import failed_delivery
from meterfold_service.http.problems import FieldError, answer
from meterfold_service.openmeter.meters import Meter
from meterfold_service.openmeter.operations import Ingested, ListedEvent, MeterRow, SubjectRow
from meterfold_service.openmeter.queries import MeterQuery

__all__ = ["event", "ingested", "meter", "query_csv", "query_json", "subject"]

UNCOUNTED: Final = "Meterfold-Uncounted"
"""How many times an event of the request does not count for a meter of its type."""


def ingested(found: Ingested) -> Response:
    """204: every in-sync replica has the events. 400: some are no events; the others were taken."""
    if found.pending.sent is not None and found.pending.sent.errors:
        return failed_delivery()
    headers = {UNCOUNTED: str(len(found.problems))} if found.problems else {}
    if not found.refused:
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    fields = [FieldError(pointer=f"/{place}", detail=text) for place, text in sorted(found.refused.items())]
    detail = f"{fields[0].pointer}: {fields[0].detail}. The events that are not listed were taken"
    return answer(HTTPStatus.BAD_REQUEST, "INVALID_EVENT", detail, fields, headers)


def meter(found: Meter) -> dict[str, Any]:
    """A meter."""
    definition = found.definition
    values = {
        "id": definition.id,
        "slug": found.key,
        "name": definition.name,
        "description": definition.description,
        "aggregation": found.aggregation,
        "eventType": found.event_type,
        "eventFrom": None if found.event_from is None else _time(found.event_from),
        "valueProperty": None if found.value_path is None else found.value_path.text,
        "groupBy": {name: path.text for name, path in found.group_by.items()} or None,
        "metadata": dict(found.metadata) or None,
        "createdAt": _time(definition.created_at),
        "updatedAt": _time(definition.updated_at),
    }
    return {name: value for name, value in values.items() if value is not None}


def query_json(query: MeterQuery, rows: list[MeterRow]) -> Response:
    """Values are JSON numbers with all their digits."""
    body = {
        "from": None if query.start is None else _time(query.start),
        "to": None if query.end is None else _time(query.end),
        "windowSize": query.window_size,
        "data": [
            {
                "value": orjson.Fragment(_number(row.value)),
                "windowStart": _time(row.start),
                "windowEnd": _time(row.end),
                "subject": row.subject,
                "groupBy": row.group_by,
            }
            for row in rows
        ],
    }
    given = {name: value for name, value in body.items() if value is not None}
    return Response(orjson.dumps(given), media_type="application/json")


def query_csv(query: MeterQuery, found: Meter, rows: list[MeterRow]) -> Response:
    """As a table with a column for each group."""
    names = [name for name in query.group_by if name != "subject"]
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["window_start", "window_end", "subject", *names, "value"])
    for row in rows:
        groups = [row.group_by[name] for name in names]
        table.writerow([_time(row.start), _time(row.end), row.subject, *groups, _number(row.value)])
    headers = {"Content-Disposition": f'attachment; filename="{found.key}.csv"'}
    return Response(text.getvalue(), media_type="text/csv", headers=headers)


def event(found: ListedEvent) -> dict[str, Any]:
    """An event as it was sent, and what is known about it."""
    sent = found.event
    assert sent.time is not None
    listed = {
        "event": {
            "id": sent.id,
            "source": sent.source,
            "specversion": "1.0",
            "type": sent.type,
            "subject": sent.subject,
            "time": _time(sent.time),
            **({} if sent.data is None else {"datacontenttype": "application/json", "data": sent.data}),
        },
        "ingestedAt": _time(found.received_at),
        "storedAt": _time(found.stored_at),
    }
    return {**listed, "validationError": "; ".join(found.problems)} if found.problems else listed


def subject(found: SubjectRow) -> dict[str, Any]:
    """A subject is known by its usage alone; its key is its id."""
    return {
        "id": found.key,
        "key": found.key,
        "createdAt": _time(found.first_day),
        "updatedAt": _time(found.last_day),
    }


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _number(value: Decimal) -> str:
    return number_text(value)
