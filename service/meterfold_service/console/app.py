"""The console as routes of the HTTP application."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, cast

from starlette.exceptions import HTTPException

from meterfold_schemas.errors import InvalidSettings
from meterfold_service.console.desk import Desk
from meterfold_service.console.pages import (
    alerts,
    deliveries,
    metrics,
    missing,
    overview,
    periods,
    rejected,
    sign_in,
    static,
    subjects,
    thresholds,
    tokens,
    usage,
    verify,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

    from meterfold_service.http.context import HttpService

__all__ = ["ROUTES", "add_console"]

_LOG = logging.getLogger("meterfold.console")

_PAGES: Final = (
    sign_in,
    overview,
    usage,
    subjects,
    metrics,
    thresholds,
    alerts,
    periods,
    verify,
    rejected,
    deliveries,
    tokens,
)
ROUTES: Final = (*static.ROUTES, *(route for module in _PAGES for route in module.ROUTES))


def add_console(app: FastAPI, service: HttpService) -> None:
    """Serve the console too. Without [http] token_key nobody can sign in, and there is none."""
    try:
        app.state.desk = Desk(service)
    except InvalidSettings as error:
        _LOG.warning("the console is off: %s", error)
        return
    app.router.routes.extend(ROUTES)
    problem = cast("missing.Handler", app.exception_handlers[HTTPException])
    app.add_exception_handler(HTTPException, missing.or_page(problem))
