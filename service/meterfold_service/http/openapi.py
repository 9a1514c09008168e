"""The OpenAPI document: what FastAPI derives from the routes, with the scope of each, one schema for every error, and
examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from meterfold_service.http.context import scope_of
from meterfold_service.http.problems import PROBLEM, FieldError, Problem

__all__ = ["document", "operation_id"]

_SUMMARY: Final = "Usage metering that counts every event exactly once."
_DESCRIPTION: Final = """Send the header `Authorization: Bearer mf_...` with every request; `meterfold token create`
prints a token. Each operation names the scope that its token needs in `x-required-scope`.

- Decimals are strings, with all their digits. Times are RFC 3339 in UTC.
- Lists have one form: `data`, `total`, and `next_cursor`, which asks for the next page as `cursor`.
- Errors have one form, RFC 9457 (`application/problem+json`), with a stable `code`.
- Every change is safe to repeat.
"""
_TAGS: Final = {
    "metrics": "What is counted, and how.",
    "usage": "What was counted: records, and totals by period.",
    "subjects": "Who has used what.",
    "limits": "What is blocked or near its limit.",
    "exports": "All rows of a selection, as a stream.",
    "thresholds": "Values to watch.",
    "alerts": "Levels that were reached.",
    "periods": "Closed periods, and what has moved since.",
    "proofs": "Verifications of what is stored against the log.",
    "rejected": "Messages that could not be counted.",
    "notifications": "What became of e-mails and webhooks.",
    "tokens": "Who may call the API.",
    "installation": "Settings of the installation.",
    "probes": "For load balancers; without a token.",
}
_PARAMETERS: Final = {
    "key": "The key of the metric.",
    "metric_key": "The key of the metric.",
    "org_id": "Only this organization; empty: subjects without one. Default: all that the token may see.",
    "subject_type": "Type of the subject.",
    "subject_id": "Id of the subject. It may have slashes.",
    "threshold_id": "Id of the threshold.",
    "alert_id": "Id of the alert.",
    "event_id": "Id of the event.",
    "proof_id": "Id of the verification.",
    "start": "The start of the period in UTC, such as 2026-10-01T00:00:00Z.",
    "token_id": "Id of the token, as a list shows it: the part behind `mf_`.",
    "partition": "A partition of the topic usage.recorded.",
    "offset": "An offset of the partition.",
    "what": "The rows to export.",
    "category": "Only this category.",
    "is_active": "Only active, or only inactive ones.",
    "status": "Only this status.",
    "level": "Only this level.",
    "period": "Only periods of this kind.",
    "reason": "Only this reason.",
    "state": "Only deliveries in this state.",
    "channel": "Only this channel.",
    "target": "Only this address, URL or name.",
}
"""Descriptions of parameters that have none of their own."""


def operation_id(route: APIRoute) -> str:
    """Such as metrics_list: the names of the command line and the Python client."""
    return "_".join([*map(str, route.tags[:1]), route.name.strip("_")])


def document(app: FastAPI, routers: Sequence[APIRouter]) -> dict[str, Any]:
    """The document of `app`, made once. `routers` are those whose routes may need a scope."""
    if app.openapi_schema is None:
        app.openapi_schema = _made(app, routers)
    return app.openapi_schema


def _made(app: FastAPI, routers: Sequence[APIRouter]) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        summary=_SUMMARY,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/"}],
    )
    schemas: dict[str, Any] = found["components"]["schemas"]
    for model in (Problem, FieldError):
        schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas[model.__name__].pop("$defs", None)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for route in _routes(routers):
        scope = scope_of(route)
        for method in route.methods or ():
            operation = found["paths"][route.path_format][method.lower()]
            if scope is not None:
                operation["x-required-scope"] = scope.value
                _say(operation, f"Needs a token with the scope `{scope.value}`.")
    for path in found["paths"].values():
        for operation in path.values():
            _summarized(operation)
            _only_problems(operation)
            _plain_body(operation)
            for parameter in operation.get("parameters", ()):
                _plain(parameter)
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            field.pop("title", None)
    return found


def _say(operation: dict[str, Any], sentence: str) -> None:
    operation["description"] = f"{operation.get('description', '')}\n\n{sentence}".strip()


def _summarized(operation: dict[str, Any]) -> None:
    """The first sentence is the summary: FastAPI makes one of the name of the function."""
    paragraphs = [" ".join(part.split()) for part in operation.pop("description", "").split("\n\n")]
    sentence, stop, rest = paragraphs[0].partition(". ")
    operation["summary"] = sentence.rstrip(".")
    if description := "\n\n".join(filter(None, [rest if stop else "", *paragraphs[1:]])):
        operation["description"] = description


def _plain(parameter: dict[str, Any]) -> None:
    """A parameter of a path or query is left out; it cannot be null."""
    if "description" not in parameter and parameter["name"] in _PARAMETERS:
        parameter["description"] = _PARAMETERS[parameter["name"]]
    parameter["schema"] = _without_null(parameter["schema"])
    if examples := parameter["schema"].get("examples"):
        parameter["example"] = examples[0]


def _plain_body(operation: dict[str, Any]) -> None:
    """So is a body: clients that are generated send one that may be null even where it is left out."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content["schema"] = _without_null(content["schema"])


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without null, and without the title that FastAPI makes of a name."""
    schema.pop("title", None)
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{name: value for name, value in schema.items() if name != "anyOf"}}


def _only_problems(operation: dict[str, Any]) -> None:
    """FastAPI documents errors of validation in a form of its own."""
    for status, response in operation["responses"].items():
        if status.startswith(("4", "5")) and PROBLEM in response.get("content", {}):
            response["content"] = {PROBLEM: response["content"][PROBLEM]}


def _routes(routers: Sequence[APIRouter]) -> Iterator[APIRoute]:
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                yield route
