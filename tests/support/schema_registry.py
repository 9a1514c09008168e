"""A small Schema Registry on loopback that speaks the part of the Confluent API that the fold uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class FakeRegistry:
    """`schemas` by id: what the registry answers with. `status` replaces every answer; `asked` are the ids and the
    Authorization header of each request."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.status = 0
        self.body: bytes | None = None
        self.asked: list[tuple[int, str | None]] = []
        self.url = ""

    def register(self, number: int, definition: Any, **more: Any) -> None:
        self.schemas[number] = {"schema": json.dumps(definition), **more}

    def answer(self, number: int) -> tuple[int, bytes]:
        if self.status:
            return self.status, b"{}"
        if self.body is not None:
            return 200, self.body
        if number not in self.schemas:
            return 404, json.dumps({"error_code": 40403, "message": "Schema not found"}).encode()
        return 200, json.dumps(self.schemas[number]).encode()


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            number = int(self.path.removeprefix("/ccompat/schemas/ids/"))
            registry.asked.append((number, self.headers["Authorization"]))
            status, body = registry.answer(number)
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    registry.url = f"http://127.0.0.1:{server.server_port}/ccompat"
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
