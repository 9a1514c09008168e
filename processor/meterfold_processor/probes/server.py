"""The HTTP server of a worker's probes. It runs in daemon threads, so it cannot stop the worker, and a process that
ends does not wait for it."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import BoundedSemaphore, Event, Thread
from typing import Any

from prometheus_client.exposition import choose_encoder

from meterfold_processor.probes.metrics import registry
from meterfold_processor.probes.settings import HealthSettings
from meterfold_processor.probes.store import StoreCheck
from meterfold_processor.probes.vitals import Vitals, WorkerKind
from meterfold_schemas.errors import InvalidSettings

_LOG = logging.getLogger("meterfold.health")

PATHS = ("/healthz", "/readyz", "/metrics")
MOST_REQUESTS = 16
"""Answered at the same time; further ones are refused."""
_CLIENT_SECONDS = 5.0
_LOOK_SECONDS = 0.5


@contextmanager
def serving(settings: HealthSettings, subject: WorkerKind, store: StoreCheck | None = None) -> Iterator[str | None]:
    """Serve probes and check the store while the block runs; yields the URL, or None if it is off. Raises
    InvalidSettings."""
    place = settings.place
    if place is None:
        yield None
        return
    server = _bound(place, Vitals(subject, settings.stall_seconds))
    host, port = place[0], server.server_address[1]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    Thread(target=server.serve_forever, args=(_LOOK_SECONDS,), name="meterfold-health", daemon=True).start()
    stop = Event()
    if store is not None:
        Thread(target=store.run, args=(stop,), name="meterfold-store-check", daemon=True).start()
    _LOG.info("%s: health and metrics on %s (%s)", subject.name, url, ", ".join(PATHS))
    try:
        yield url
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


def _bound(place: tuple[str, int], vitals: Vitals) -> _Server:
    try:
        return _Server(place, vitals)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidSettings(
            f"health.address: cannot listen on {place[0]} port {place[1]}: {reason}. Choose an address of this machine "
            'and a free port, port 0 for any free one, or "off"'
        ) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, place: tuple[str, int], vitals: Vitals) -> None:
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self.vitals = vitals
        self.registry = registry(vitals)
        self._room = BoundedSemaphore(MOST_REQUESTS)
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer would resolve the host name

    def service_actions(self) -> None:
        """Several times a second, so that progress is noticed without requests."""
        self.vitals.look()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOG.debug("a request of %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "meterfold"
    sys_version = ""
    timeout = _CLIENT_SECONDS

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept") or "")
            self._answer(HTTPStatus.OK, content_type, encode(self.server.registry))
        elif path in PATHS:
            self._probe(ready=path == "/readyz")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", f"{' '.join(PATHS)}\n".encode())

    do_HEAD = do_GET  # noqa: N815

    def _probe(self, *, ready: bool) -> None:
        look = self.server.vitals.look()
        problems = look.verdict.against_ready if ready else look.verdict.against_alive
        body = {
            "ok": not problems,
            "worker": self.server.vitals.subject.name,
            "problems": problems,
            "errors": dict(look.observation.errors),
            "partitions": look.partitions(),
            "rejections": [asdict(rejection) for rejection in look.observation.rejections],
            **look.observation.facts,
        }
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        self._answer(status, "application/json", json.dumps(body).encode() + b"\n")

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes are not logged."""
