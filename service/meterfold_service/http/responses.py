"""The errors of routes, for OpenAPI."""

from __future__ import annotations

from typing import Any, Final

from meterfold_service.http.problems import PROBLEM

__all__ = ["CONFLICT", "EXPIRED", "NOT_FOUND", "REFUSED", "problem"]

Responses = dict[int | str, dict[str, Any]]


def problem(description: str) -> dict[str, Any]:
    """A response with a problem."""
    return {"description": description, "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


REFUSED: Final[Responses] = {
    400: problem("The request cannot be read: its head is not HTTP, or its body is not JSON in UTF-8."),
    401: problem("The token is missing or not valid."),
    403: problem("The token may not do this."),
    422: problem("The request is invalid; `errors` says why, field by field."),
    500: problem("An unexpected error."),
    503: problem("Kafka, ClickHouse or a worker does not answer. Repeat the request after `Retry-After` seconds."),
}
"""Of every route that needs a token."""

NOT_FOUND: Final[Responses] = {404: problem("It does not exist, or the token may not see it.")}
CONFLICT: Final[Responses] = {409: problem("In conflict with what is defined or stored.")}
EXPIRED: Final[Responses] = {410: problem("Records that the answer needs have expired.")}
