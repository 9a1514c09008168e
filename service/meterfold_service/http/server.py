"""One HTTP server, until it is stopped."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import Final

import uvicorn

from meterfold_schemas.errors import InvalidSettings, MeterfoldError
from meterfold_service.http.app import create_app
from meterfold_service.http.context import HttpService
from meterfold_service.http.protocol import TimedProtocol
from meterfold_service.http.settings import HttpSettings
from meterfold_service.metering import Metering
from meterfold_service.tokens.authentication import Authentication

__all__ = ["HttpServer"]

_LOOK_SECONDS: Final = 0.1
_REFRESH_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 8
_KEEP_ALIVE_SECONDS: Final = 30
_BACKLOG: Final = 1024


class HttpServer:
    """`run` blocks until `stop` is set. Raises InvalidSettings where the address cannot be used."""

    def __init__(self, settings: HttpSettings, metering: Metering) -> None:
        self._settings = settings
        authentication = Authentication(metering.tokens, lambda: datetime.now(UTC))
        self._service = HttpService(metering, authentication, settings)
        self.traffic = self._service.traffic
        self._socket = _bound(settings.host, settings.port)
        self.ready = False

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self, stop: Event) -> None:
        asyncio.run(self._serve(stop))

    async def _serve(self, stop: Event) -> None:
        config = uvicorn.Config(
            create_app(self._service),
            http=TimedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        with suppress(MeterfoldError):  # ClickHouse is away: tried again below
            await self._service.ingesting.run(self._service.metering.events.refresh)
        server = _Server(config)
        self._service.follow()
        watch = asyncio.create_task(self._watch(server, stop))
        try:
            await server.serve(sockets=[self._socket])
        finally:
            watch.cancel()

    async def _watch(self, server: uvicorn.Server, stop: Event) -> None:
        """Look often whether to stop, and do the rest once a second: each call takes a thread of requests."""
        due = time.monotonic()
        while not stop.is_set():
            self.ready = server.started
            if time.monotonic() >= due:
                due = time.monotonic() + _REFRESH_SECONDS
                await self._refresh()
            await asyncio.sleep(_LOOK_SECONDS)
        self._service.stopping.set()
        server.should_exit = True

    async def _refresh(self) -> None:
        self._service.note()
        with suppress(MeterfoldError):  # repeated in a second
            await self._service.ingesting.run(self._service.metering.events.refresh)
        with suppress(MeterfoldError):
            await self._service.run(self._service.authentication.note_uses)


class _Server(uvicorn.Server):
    """Leaves signals to the command."""

    def install_signal_handlers(self) -> None:
        """None."""


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(_BACKLOG)
    except OSError as error:
        raise InvalidSettings(
            f"[http] host and port: {host}:{port} cannot be bound: {error.strerror or error}; choose another address "
            "with METERFOLD_HTTP_HOST and METERFOLD_HTTP_PORT"
        ) from None
    return found
