"""uvicorn, set up for ClickHouse's protocol."""

from __future__ import annotations

import socket
import threading

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from meterfold_local.clickhouse.app import INCOMPLETE, App
from meterfold_local.clickhouse.errors import StartError

KEEP_ALIVE_SECONDS = 300
SHUTDOWN_SECONDS = 1
EXIT_PORT = 4


class _Protocol(HttpToolsProtocol):
    """Answers clients that close their own side of the connection after the request, as netcat does."""

    def eof_received(self) -> bool | None:  # type: ignore[override]
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return None
        cycle.keep_alive = False
        if cycle.more_body:
            cycle.scope[INCOMPLETE] = True  # type: ignore[literal-required]
            cycle.more_body = False
            cycle.message_event.set()
        return True  # asyncio keeps our side open


class HttpServer:
    """Listens from `__init__` on, answers from `start` on."""

    def __init__(self, app: App, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            raise StartError(
                EXIT_PORT, f"can't listen on {host}:{port}: {error}; choose another port, or 0 for any free one"
            ) from None
        # Inherited by every connection. Without it a body waits 40 ms behind its headers; asyncio sets it only on
        # sockets that it opens itself.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                loop="asyncio",
                interface="asgi3",
                access_log=False,
                log_config=None,
                log_level="critical",  # clients that send no HTTP or go away are not events
                server_header=False,
                date_header=False,
                headers=[("Server", "ClickHouse")],
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True
        )

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests, and wait a moment for those that run."""
        self._server.should_exit = True
        self._thread.join()
