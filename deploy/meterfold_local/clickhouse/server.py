"""Sockets and threads: cheroot, set up for ClickHouse's protocol."""

from __future__ import annotations

import sys
import threading
import traceback as tracebacks
from typing import Any

from cheroot import wsgi

from meterfold_local.clickhouse.app import HTTP_REQUEST, App
from meterfold_local.clickhouse.errors import StartError

THREADS = 16
"""Requests at a time; idle connections hold no thread."""
MAX_THREADS = 64
IDLE_CONNECTIONS = 1000
SOCKET_SECONDS = 300
"""How long a peer may neither send nor take a byte, and how long an idle connection is kept."""
MAX_HEADER_BYTES = 4 << 20

EXIT_PORT = 4


class _Gateway(wsgi.Gateway_10):
    """WSGI's environment with the request object in it: an answer may have to break off."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        environment: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        environment[HTTP_REQUEST] = self.req
        return environment


class _Server(wsgi.Server):
    keep_alive_conn_limit = IDLE_CONNECTIONS

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        # A client that went away is not an event.
        if traceback and not isinstance(sys.exc_info()[1], OSError):
            sys.stderr.write(f"{msg}\n{tracebacks.format_exc()}")
            sys.stderr.flush()


class HttpServer:
    """Listens from `__init__` on, answers from `start` on."""

    def __init__(self, app: App, host: str, port: int) -> None:
        self._server = _Server(
            (host, port),
            app,
            numthreads=THREADS,
            max=MAX_THREADS,
            server_name="ClickHouse",
            request_queue_size=128,
            timeout=SOCKET_SECONDS,
            shutdown_timeout=1,
        )
        self._server.gateway = _Gateway
        self._server.max_request_header_size = MAX_HEADER_BYTES
        try:
            self._server.prepare()
        except OSError as error:
            raise StartError(
                EXIT_PORT, f"can't listen on {host}:{port}: {error}; choose another port, or 0 for any free one"
            ) from None
        self._thread = threading.Thread(target=self._server.serve, name="accept", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.bind_addr[1])

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests, and wait for those that run; an idle connection is closed."""
        self._server.stop()
