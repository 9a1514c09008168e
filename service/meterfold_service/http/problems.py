"""Every error of the API in one shape: application/problem+json (RFC 9457) with our stable codes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Route

from meterfold_schemas.errors import (
    InvalidDefinition,
    InvalidSettings,
    InvalidUsage,
    MeterfoldError,
    Retryable,
    shown,
)
from meterfold_service import errors
from meterfold_service.access.errors import Forbidden, InvalidToken, TokenNotFound
from meterfold_service.ingest.errors import TooManyEvents, UnreadableBody
from meterfold_service.proofs.operations import ProofNotFound

__all__ = ["PROBLEM", "Problem", "add_problems", "status_of"]

_LOG = logging.getLogger("meterfold.http")

PROBLEM: Final = "application/problem+json"
RETRY_SECONDS: Final = 2

STATUS: Final[Sequence[tuple[type[MeterfoldError], HTTPStatus]]] = (
    (InvalidToken, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (errors.MetricNotFound, HTTPStatus.NOT_FOUND),
    (errors.ThresholdNotFound, HTTPStatus.NOT_FOUND),
    (errors.AlertNotFound, HTTPStatus.NOT_FOUND),
    (errors.RejectedNotFound, HTTPStatus.NOT_FOUND),
    (errors.EndpointNotFound, HTTPStatus.NOT_FOUND),
    (errors.PeriodNotClosed, HTTPStatus.NOT_FOUND),
    (TokenNotFound, HTTPStatus.NOT_FOUND),
    (ProofNotFound, HTTPStatus.NOT_FOUND),
    (errors.RecordsExpired, HTTPStatus.GONE),
    (InvalidDefinition, HTTPStatus.UNPROCESSABLE_ENTITY),
    (UnreadableBody, HTTPStatus.BAD_REQUEST),
    (TooManyEvents, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (InvalidUsage, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidSettings, HTTPStatus.INTERNAL_SERVER_ERROR),
    (Retryable, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.OperationError, HTTPStatus.CONFLICT),
)
"""The status of each kind of error; the first that fits. Whatever else an operation refuses is in conflict with what is
defined or stored."""


class FieldError(BaseModel):
    """What is wrong with one part of a request."""

    pointer: str = Field(description="JSON pointer into the body, or the name of the parameter.")
    detail: str


class Problem(BaseModel):
    """An error. `code` is stable; `detail` is a sentence for people and may change."""

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(examples=["METRIC_NOT_FOUND"])
    detail: str
    errors: list[FieldError] | None = Field(default=None, description="Field by field, where a request is invalid.")


def status_of(error: MeterfoldError) -> HTTPStatus:
    """The status of an operation's error."""
    for kind, status in STATUS:
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def answer(
    status: HTTPStatus,
    code: str,
    detail: str,
    fields: list[FieldError] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem as a response."""
    problem = Problem(title=status.phrase, status=status, code=code, detail=detail, errors=fields)
    return JSONResponse(problem.model_dump(exclude_none=True), status, media_type=PROBLEM, headers=dict(headers or {}))


def add_problems(app: FastAPI) -> None:
    """Make every error of `app` a problem."""
    app.add_exception_handler(MeterfoldError, _operation)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)


async def _operation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MeterfoldError)
    status = status_of(error)
    fields = None
    if isinstance(error, InvalidDefinition):
        fields = [FieldError(pointer=f"/{where.replace('.', '/')}", detail=text) for where, text in error.problems]
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_SECONDS)
    return answer(status, error.code, str(error), fields or None, headers)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # The refused value is not repeated: it may be a secret, and it may be long.
    fields = [FieldError(pointer=_pointer(one["loc"]), detail=one["msg"]) for one in error.errors()]
    first = f"{fields[0].pointer}: {fields[0].detail}" if fields else "the request is invalid"
    more = f", and {len(fields) - 1} more" if len(fields) > 1 else ""
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, "INVALID_REQUEST", first + more, fields)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if status is HTTPStatus.NOT_FOUND and detail == status.phrase:
        detail = f"no operation has the path {shown(request.url.path)}; /v1/openapi.json describes those that exist"
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{shown(request.method)} is not possible on this path; the header Allow names the methods that are"
        # The framework names the methods of the first route with this path; there may be more.
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return answer(status, getattr(error, "code", status.name), detail, headers=headers)


def _methods(request: Request) -> set[str]:
    """What the path of the request can be asked with."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    fitting = [route for route in routes if route.path_regex.match(request.url.path)]
    return {method for route in fitting for method in route.methods or ()}


async def _defect(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    detail = "an unexpected error, which the server logged. Repeat the request, and report it if it fails again"
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", detail)


def _pointer(location: Sequence[Any]) -> str:
    where, *rest = location or ("body",)
    if where == "body":
        return "/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in rest)
    return str(rest[0]) if rest else str(where)
