"""The application: every route, one shape of errors."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from meterfold_service.console.app import add_console
from meterfold_service.http.context import HttpService
from meterfold_service.http.problems import add_problems
from meterfold_service.http.routes import metrics, usage

__all__ = ["create_app"]

ROUTERS = (
    metrics.router,
    usage.router,
)


def create_app(service: HttpService) -> FastAPI:
    """The application of one process. It closes `service` when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            service.close()

    app = FastAPI(
        title="Meterfold",
        version=importlib.metadata.version("meterfold"),
        summary="Usage metering that counts every event exactly once.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.state.service = service
    add_problems(app)
    for router in ROUTERS:
        app.include_router(router)
    add_console(app, service)
    return app
