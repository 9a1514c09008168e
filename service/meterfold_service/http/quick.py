"""Routes that are asked thousands of times a second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials
from fastapi.security.utils import get_authorization_scheme_param

from meterfold_service.http.context import Caller, caller

__all__ = ["QuickRoute"]


class QuickRoute(APIRoute):
    """A route whose endpoint takes the request and a caller, `needs(...)`, and answers with a Response.

    To resolve the two as FastAPI resolves dependencies costs as much as everything else that a small request does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request, Caller], Awaitable[Response]] = self.endpoint
        (allowed,) = (one.call for one in self.dependant.dependencies if hasattr(one.call, "scope"))
        assert allowed is not None

        async def handle(request: Request) -> Response:
            return await endpoint(request, await allowed(request, await _caller(request)))

        return handle


async def _caller(request: Request) -> Caller:
    """As the dependency `caller`, which a test may replace."""
    replaced = request.app.dependency_overrides.get(caller)
    if replaced is not None:
        found: Caller = replaced()
        return found
    scheme, text = get_authorization_scheme_param(request.headers.get("authorization"))
    is_token = text and scheme.lower() == "bearer"
    return await caller(request, HTTPAuthorizationCredentials(scheme=scheme, credentials=text) if is_token else None)
