"""Static files of the package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from meterfold_service.console.headers import STATIC

__all__ = ["NAMES", "ROUTES"]

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
NAMES: Final = (
    "charts.js",
    "console.css",
    "console.js",
    "icon.svg",
    "theme.js",
    "vendor/htmx.min.js",
    "vendor/uPlot.iife.min.js",
    "vendor/uPlot.min.css",
)


@cache
def _content(name: str) -> bytes:
    return (files("meterfold_service.console") / "static").joinpath(*name.split("/")).read_bytes()


async def static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in NAMES:
        return Response(status_code=404, headers=STATIC)
    return Response(_content(name), media_type=_TYPES[name.rpartition(".")[2]], headers=STATIC)


ROUTES = (Route("/static/{name:path}", static, include_in_schema=False),)
