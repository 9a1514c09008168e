"""What surrounds every request: its id, its limits in size and time, headers, the access log and the metrics.

Plain ASGI, since nothing here may hold a body in memory.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from meterfold_service.http.problems import answer
from meterfold_service.http.settings import HttpSettings
from meterfold_service.http.traffic import Traffic

__all__ = ["ACCESS_LOG", "Boundary"]

ACCESS_LOG: Final = logging.getLogger("meterfold.http.access")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Where a route has not set them itself."""
UNMATCHED: Final = "unmatched"


class _Refused(HTTPException):
    """The body is too large or too slow. FastAPI lets only this kind of error pass while it reads a body."""

    def __init__(self, status: HTTPStatus, code: str, detail: str) -> None:
        super().__init__(status, detail, {"Connection": "close"})
        self.code = code


class Boundary:
    """The outermost application."""

    def __init__(self, app: App, settings: HttpSettings, traffic: Traffic) -> None:
        self._app = app
        self._settings = settings
        self._traffic = traffic
        self._hosts = frozenset(host.lower() for host in settings.hosts)
        # A random number for each request is a system call, which takes a millisecond in some containers.
        self._process = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        begun, sent = time.monotonic(), _Sent(send, self._id_of(headers))
        self._traffic.open += 1
        try:
            await self._answered(scope, headers, receive, sent)
        finally:
            self._traffic.open -= 1
            self._note(scope, sent, time.monotonic() - begun)

    async def _answered(self, scope: Scope, headers: Headers, receive: Receive, sent: _Sent) -> None:
        body = _Body(receive, self._settings.max_body_bytes, self._settings.body_seconds)
        try:
            self._check(headers)
            await self._app(scope, body, sent)
        except _Refused as refused:
            if sent.status is None:
                status = HTTPStatus(refused.status_code)
                await answer(status, refused.code, refused.detail, headers=refused.headers)(scope, receive, sent)

    def _id_of(self, headers: Headers) -> str:
        """The client's own, or one that no other request has."""
        given = headers.get("x-request-id", "")
        return given if _REQUEST_ID.fullmatch(given) else f"{self._process}{next(self._numbers):04x}"

    def _check(self, headers: Headers) -> None:
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        if self._hosts and host.lower() not in self._hosts:
            raise _Refused(
                HTTPStatus.MISDIRECTED_REQUEST, "UNKNOWN_HOST", "this server has another name ([http] hosts)"
            )
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > self._settings.max_body_bytes:
            raise _too_large(self._settings.max_body_bytes)

    def _note(self, scope: Scope, sent: _Sent, seconds: float) -> None:
        # The route, and not the path or the query: somebody may have put a token there.
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        status = sent.status or 499  # the client was gone before there was an answer
        self._traffic.add(method, route, status, seconds)
        principal = scope.get("state", {}).get("principal")
        ACCESS_LOG.info(
            "%s %s %d %.3f s, token %s, request %s",
            method,
            route,
            status,
            seconds,
            getattr(principal, "token_id", None) or "-",
            sent.request_id,
        )


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Body:
    """Receives a body within its limits."""

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive = receive
        self._most = most
        self._seconds = seconds
        self._until: float | None = None
        self._size = 0
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()  # waits for the client to leave
        now = time.monotonic()
        self._until = self._until or now + self._seconds
        try:
            async with asyncio.timeout(max(0.0, self._until - now)):
                message = await self._receive()
        except TimeoutError:
            raise _Refused(
                HTTPStatus.REQUEST_TIMEOUT,
                "REQUEST_TIMEOUT",
                f"the body was not complete after {self._seconds:g} s ([http] body_seconds)",
            ) from None
        self._size += len(message.get("body", b""))
        if self._size > self._most:
            raise _too_large(self._most)
        self._whole = not message.get("more_body", False)
        return message


class _Sent:
    """Adds headers to the answer and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _too_large(most: int) -> _Refused:
    return _Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "TOO_LARGE",
        f"the body has more than {most:,} bytes, which is the limit ([http] max_body_bytes); send it in parts",
    )
