"""An address without a page, for a browser. The API answers a problem there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from meterfold_service.console.visit import Visit, page

__all__ = ["or_page", "prefers_html"]

Handler = Callable[[Request, Exception], Awaitable[Response]]

_SHOWN: Final = 200
_API: Final = ("/v1/", "/api/")
_JSON: Final = ("application/json", "application/problem+json")
_ANSWERED: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)


async def missing(visit: Visit) -> Response:
    return visit.render("missing.html", HTTPStatus.NOT_FOUND, path=visit.request.url.path[:_SHOWN])


_PAGE: Final = page("/{path:path}", missing, open_to_all=True)


def or_page(problem: Handler) -> Handler:
    """Handles an HTTPException: a page where a browser asks for one of the console, else as `problem` does."""

    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        is_api = f"{request.url.path}/".startswith(_API)
        if is_api or error.status_code not in _ANSWERED or not prefers_html(request.headers.get("accept", "")):
            return await problem(request, error)
        answer: Response = await _PAGE.endpoint(request)
        # The access log and the metrics count it as unmatched.
        request.scope.pop("route", None)
        return answer

    return handle


def prefers_html(accept: str) -> bool:
    """Whether a header Accept names HTML, and gives it more weight than JSON."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (one.strip() for one in part.split(";"))
        quality = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        try:
            weights[kind] = float(quality)
        except ValueError:
            weights[kind] = 0.0
    return weights.get("text/html", 0.0) > max(weights.get(kind, 0.0) for kind in _JSON)
