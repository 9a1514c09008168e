"""A FastAPI application that records each request for the user who made it.

METERFOLD_CONFIG=.meterfold/meterfold.toml fastapi run examples/subjects_fastapi.py
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from meterfold import AsyncMeter, Subject


def caller(request: Request) -> Subject | None:
    """Who made a request. Replace the headers with what your authentication puts into `request.state`."""
    user, organization = request.headers.get("x-user"), request.headers.get("x-organization")
    return None if user is None else Subject("user", user, organization)


def request_meter() -> AsyncMeter[Request]:
    return AsyncMeter(resolvers={Request: caller})


def create_app(make_meter: Callable[[], AsyncMeter[Request]] = request_meter) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with make_meter() as app.state.meter:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.middleware("http")
    async def record(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        if caller(request) is not None:
            meter: AsyncMeter[Request] = app.state.meter
            await meter.record("api.calls", request, resource_type="route", resource_id=request.url.path)
        return response

    @app.get("/hello")
    def hello() -> str:
        return "hello"

    return app


app = create_app()
