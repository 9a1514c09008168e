"""Exports as responses: chunks that are made while the client takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from threading import Lock
from typing import TYPE_CHECKING, Final, Self

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from meterfold_schemas.errors import Retryable
from meterfold_service.exports.results import Format
from meterfold_service.exports.streaming import RowStream, encoded

if TYPE_CHECKING:
    from meterfold_service.http.context import HttpService

__all__ = ["Chunks", "TooManyExports"]

SLOW_SECONDS: Final = 60.0
"""A client that takes nothing for this long is disconnected: an export holds a connection to ClickHouse."""


class TooManyExports(Retryable):
    """As many exports as are allowed run already."""

    code = "TOO_MANY_EXPORTS"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} exports are running, which is the limit ([http] exports); repeat the request later")


class _Source:
    """A generator that one thread takes from, and another one may close meanwhile."""

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._lock = Lock()

    def take(self) -> bytes:
        """Empty behind the last chunk."""
        with self._lock:
            return next(self._chunks, b"")

    def close(self) -> None:
        with self._lock:
            self._chunks.close()


class Chunks(StreamingResponse):
    """The encoded rows of an export."""

    service: HttpService
    source: _Source

    @classmethod
    async def of(
        cls,
        service: HttpService,
        open_stream: Callable[[], RowStream],
        kind: Format,
        *,
        safe_for_spreadsheets: bool,
        name: str,
    ) -> Self:
        """`name` is that of the file, without its suffix. Errors that are known before the first row are raised here.
        Raises TooManyExports."""
        if service.exports.locked():
            raise TooManyExports(service.settings.exports)
        await service.exports.acquire()
        try:
            stream = await service.run(open_stream)
            source = _Source(encoded(stream, kind, safe_for_spreadsheets=safe_for_spreadsheets))
            first = await service.run(source.take)
        except BaseException:
            service.exports.release()
            raise
        headers = {
            "Content-Disposition": f'attachment; filename="{name}.{kind}"',
            "Meterfold-Rows": str(stream.expected),
        }
        made = cls(_rest(service, first, source), media_type=kind.media_type, headers=headers)
        made.service, made.source = service, source
        return made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(SLOW_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, in_time)
        finally:
            # Also where the client was gone before the first chunk.
            self.service.exports.release()
            self.service.discard(self.source.close)


async def _rest(service: HttpService, first: bytes, source: _Source) -> AsyncIterator[bytes]:
    chunk = first
    while chunk:
        yield chunk
        chunk = await service.run(source.take)
