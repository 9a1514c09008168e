"""The HTTP/1.1 protocol of uvicorn, with a limit for the time that the head of a request may take: a client that sends
a byte now and then would keep its connection for ever. What is no HTTP is answered with a problem as well."""

from __future__ import annotations

from asyncio import TimerHandle
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from meterfold_service.http.problems import PROBLEM, Problem

__all__ = ["HEAD_SECONDS", "TimedProtocol"]

HEAD_SECONDS: Final = 10.0
_UNREADABLE: Final = Problem(
    title="Bad Request",
    status=400,
    code="BAD_REQUEST",
    detail="the request cannot be read: its head is not HTTP/1.1, or longer than the server takes",
)


class TimedProtocol(HttpToolsProtocol):
    """Closes a connection whose request has no complete head after HEAD_SECONDS."""

    head_timer: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """In the form of every error."""
        body = _UNREADABLE.model_dump_json(exclude_none=True).encode()
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: {PROBLEM}\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self.head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None
