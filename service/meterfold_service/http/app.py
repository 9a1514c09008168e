"""The application: every route, one shape of errors."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from meterfold_service.access.principal import Scope
from meterfold_service.console.app import add_console
from meterfold_service.http.boundary import Boundary
from meterfold_service.http.context import HttpService, scope_of
from meterfold_service.http.openapi import document, operation_id
from meterfold_service.http.problems import add_problems
from meterfold_service.http.responses import REFUSED
from meterfold_service.http.routes import (
    alerts,
    doors,
    events,
    exports,
    lago,
    limits,
    metrics,
    notifications,
    openmeter,
    periods,
    probes,
    proofs,
    rejected,
    settings,
    status,
    subjects,
    thresholds,
    tokens,
    usage,
)
from meterfold_service.http.settings import HttpSettings
from meterfold_service.metering import Metering
from meterfold_service.tokens.authentication import Authentication

__all__ = ["create_app", "described", "operations"]

ROUTERS = (
    events.router,
    doors.router,
    lago.router,
    openmeter.router,
    metrics.router,
    usage.router,
    subjects.router,
    limits.router,
    exports.router,
    thresholds.router,
    alerts.router,
    periods.router,
    proofs.router,
    rejected.router,
    notifications.router,
    tokens.router,
    settings.router,
    status.router,
)


def operations() -> dict[str, Scope | None]:
    """Method and path of every route -> the scope that it needs; None where it needs no token."""
    return {
        f"{method} {route.path}": scope_of(route)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    }


def described() -> dict[str, Any]:
    """The OpenAPI document, without servers."""
    metering = Metering()
    authentication = Authentication(metering.tokens, lambda: datetime.now(UTC))
    return create_app(HttpService(metering, authentication, HttpSettings())).openapi()


def create_app(service: HttpService) -> FastAPI:
    """The application of one process. It closes `service` when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(service.availability.watch())
        try:
            yield
        finally:
            watching.cancel()
            service.close()

    app = FastAPI(
        title="Meterfold",
        version=importlib.metadata.version("meterfold"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        generate_unique_id_function=operation_id,
    )
    app.state.service = service
    add_problems(app)
    for router in ROUTERS:
        app.include_router(router, responses=REFUSED)
    app.include_router(probes.router)
    add_console(app, service)
    app.openapi = lambda: document(app, ROUTERS)  # type: ignore[method-assign]
    if service.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.cors_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    app.add_middleware(Boundary, settings=service.settings, traffic=service.traffic)
    return app
