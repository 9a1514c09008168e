"""What surrounds every request: limits of bodies, headers, request ids, the access log and the metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse

from meterfold_processor.probes.metrics import registry
from meterfold_processor.probes.vitals import Vitals
from meterfold_service.http.boundary import Boundary
from meterfold_service.http.settings import HttpSettings
from meterfold_service.http.traffic import ServerSubject, Traffic


async def app(scope: Any, receive: Any, send: Any) -> None:
    body = await Request(scope, receive).body()
    await JSONResponse({"size": len(body)}, headers={"Cache-Control": "private"})(scope, receive, send)


class Answer:
    """One request through a Boundary, with a body in pieces."""

    def __init__(self, settings: HttpSettings, *pieces: bytes, headers: dict[str, str] | None = None) -> None:
        self.traffic = Traffic()
        self.headers: dict[str, str] = {}
        self.status = 0
        self.body = b""
        self._given = headers or {}
        self._settings = settings
        self._pieces = pieces

    def ask(self, pause: float = 0) -> Answer:
        asyncio.run(self._ask(pause))
        return self

    async def _ask(self, pause: float) -> None:
        pieces = self._piece(pause)
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/secret-token",
            "headers": [(name.lower().encode(), value.encode()) for name, value in self._given.items()],
        }
        await Boundary(app, self._settings, self.traffic)(scope, pieces.__anext__, self._send)

    async def _piece(self, pause: float) -> AsyncIterator[dict[str, Any]]:
        for number, piece in enumerate(self._pieces, 1):
            await asyncio.sleep(pause)
            yield {"type": "http.request", "body": piece, "more_body": number < len(self._pieces)}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        self.body += message.get("body", b"")


SMALL = HttpSettings(max_body_bytes=1024)


def test_a_body_within_the_limit_arrives_whole_and_the_answer_has_headers() -> None:
    found = Answer(SMALL, b"a" * 1000, b"b" * 24).ask()
    assert (found.status, found.body) == (200, b'{"size":1024}')
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["cache-control"] == "private", "a route's own header stays"
    assert len(found.headers["x-request-id"]) == 16


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "1025"}, {"Content-Length": "9" * 30}])
def test_a_body_beyond_the_limit_is_refused_whether_it_says_so_or_not(headers: dict[str, str]) -> None:
    found = Answer(SMALL, b"a" * 1000, b"b" * 25, headers=headers).ask()
    assert found.status == 413
    assert b'"code":"TOO_LARGE"' in found.body
    assert found.headers["connection"] == "close"


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = HttpSettings().model_copy(update={"body_seconds": 0.01})
    found = Answer(settings, b"a", b"b").ask(pause=60)
    assert (found.status, b"REQUEST_TIMEOUT" in found.body) == (408, True)


def test_another_host_is_refused_where_names_are_given() -> None:
    settings = HttpSettings(hosts=("api.example.com",))
    assert Answer(settings, b"", headers={"Host": "API.example.com:8888"}).ask().status == 200
    assert Answer(settings, b"", headers={"Host": "evil.example.com"}).ask().status == 421
    assert Answer(settings, b"").ask().status == 421


def test_a_request_id_is_taken_over_if_it_is_one() -> None:
    assert Answer(SMALL, b"", headers={"X-Request-Id": "abc-1"}).ask().headers["x-request-id"] == "abc-1"
    forged = Answer(SMALL, b"", headers={"X-Request-Id": "a b\x1b[31m"}).ask()
    assert forged.headers["x-request-id"] != "a b\x1b[31m"


def test_the_log_and_the_metrics_name_the_route_and_never_the_path(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "meterfold.http.access"):
        found = Answer(SMALL, b"", headers={"Authorization": "Bearer secret-token"}).ask()
    (line,) = caplog.messages
    assert line.startswith("POST unmatched 200 ")
    assert "secret" not in line
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry(Vitals(ServerSubject(found.traffic), 120.0)).collect()
        for sample in family.samples
    }
    assert samples["meterfold_http_requests_total", "POST", "unmatched", "200"] == 1
    assert samples["meterfold_http_request_seconds_count", "POST", "unmatched"] == 1
    assert (samples["meterfold_http_open_requests",], samples["meterfold_serve_ready",]) == (0, 1)
