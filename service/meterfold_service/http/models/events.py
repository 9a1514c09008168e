"""A request with events and its answer, for OpenAPI. The route reads and writes them itself: they are many."""

from __future__ import annotations

from typing import Any, Final

from meterfold_schemas.usage_fields import FIELDS
from meterfold_service.http.problems import PROBLEM
from meterfold_service.http.responses import problem

__all__ = ["REQUEST", "RESPONSES"]

_ID: Final = {"type": ["string", "integer"]}
_TYPES: Final[dict[str, dict[str, Any]]] = {
    "quantity": {"type": ["number", "string"], "default": 1},
    "timestamp": {"type": "string", "format": "date-time"},
    "metadata": {"type": ["object", "string"]},
    **dict.fromkeys(("id", "org_id", "subject_id", "resource_id"), _ID),
}
_REQUIRED: Final = ["metric_key", "subject_type", "subject_id"]


def _typed(name: str) -> dict[str, Any]:
    """null is the same as a field that is left out."""
    found = _TYPES.get(name, {"type": "string"})
    if name in _REQUIRED:
        return found
    kinds = found["type"]
    return {**found, "type": [*(kinds if isinstance(kinds, list) else [kinds]), "null"]}


_EVENT: Final = {
    "type": "object",
    "required": _REQUIRED,
    "additionalProperties": False,
    "properties": {field.name: {**_typed(field.name), "description": field.doc} for field in FIELDS},
}
_EXAMPLE: Final = {
    "id": "request-1",
    "metric_key": "api.calls",
    "subject_type": "user",
    "subject_id": "ada",
    "quantity": 2.5,
    "timestamp": "2026-11-22T09:30:00Z",
    "metadata": {"route": "/v1"},
}
_CLOUD_EVENT: Final = {
    "type": "object",
    "required": ["specversion", "type", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "type": {"const": "usage.recorded"},
        "id": {"type": "string"},
        "time": {"type": "string", "format": "date-time"},
        "source": {"type": "string"},
        "data": _EVENT,
    },
}
REQUEST: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"oneOf": [_EVENT, {"type": "array", "items": _EVENT, "minItems": 1}]},
            "example": _EXAMPLE,
        },
        "application/cloudevents+json": {"schema": _CLOUD_EVENT},
        "application/cloudevents-batch+json": {"schema": {"type": "array", "items": _CLOUD_EVENT, "minItems": 1}},
    },
}

_COUNTS: Final = {name: {"type": "integer"} for name in ("accepted", "repeated", "refused", "failed")}
_RESULTS: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["status", "id"],
        "properties": {
            "status": {
                "enum": ["accepted", "repeated", "refused", "failed"],
                "description": "`repeated`: an earlier event of the request is the same. `failed`: the outcome is "
                "unknown; send the event again.",
            },
            "id": {"type": ["string", "null"], "description": "The event's own id, or the one that it was given."},
            "partition": {"type": "integer"},
            "offset": {"type": "integer"},
            "code": {"type": "string", "description": "Why the event was refused; stable."},
            "field": {"type": ["string", "null"], "description": "The field that is wrong."},
            "detail": {"type": "string"},
        },
    },
}
_ANSWER: Final = {
    "type": "object",
    "required": [*_COUNTS, "results"],
    "properties": {**_COUNTS, "results": _RESULTS},
}
_ACCEPTED: Final = {
    "accepted": 1,
    "repeated": 0,
    "refused": 0,
    "failed": 0,
    "results": [{"status": "accepted", "id": "request-1", "partition": 3, "offset": 1042}],
}


def _answered(description: str, example: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ANSWER, "example": example}}}


def _refused(description: str) -> dict[str, Any]:
    both = {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": _ANSWER["properties"]}]}
    return {"description": description, "content": {PROBLEM: {"schema": both}}}


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: _answered("Every in-sync replica has every event.", _ACCEPTED),
    207: _answered(
        "Some events were refused; every in-sync replica has the others.",
        {
            **_ACCEPTED,
            "refused": 1,
            "results": [
                *_ACCEPTED["results"],  # type: ignore[misc]
                {
                    "status": "refused",
                    "id": "request-2",
                    "code": "INVALID_USAGE",
                    "field": "quantity",
                    "detail": "quantity 'much' is not a decimal number",
                },
            ],
        },
    ),
    400: problem("The body is not JSON in UTF-8, or not compressed as it says. Nothing was taken."),
    408: problem("The body did not arrive in time. Nothing was taken."),
    413: problem("The body is too large, or has too many events. Nothing was taken."),
    415: problem("The Content-Encoding is not known. Nothing was taken."),
    422: _refused("Every event was refused."),
    503: _refused(
        "Kafka is away or the buffer is full, and nothing was taken (no `results`); or some events were not confirmed "
        "in time. Send the request again after `Retry-After` seconds."
    ),
}
