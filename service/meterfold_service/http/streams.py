"""Exports as responses: chunks that are made while the client takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Final, Self

from starlette.responses import StreamingResponse

from meterfold_schemas.errors import Retryable
from meterfold_service.exports.results import Format
from meterfold_service.exports.streaming import encoded

if TYPE_CHECKING:
    from meterfold_service.exports.operations import ExportStream
    from meterfold_service.http.context import Caller, HttpService

__all__ = ["Chunks", "TooManyExports"]

SLOW_SECONDS: Final = 60.0
"""A client that takes nothing for this long is disconnected: an export holds a connection to ClickHouse."""


class TooManyExports(Retryable):
    """As many exports as are allowed run already."""

    code = "TOO_MANY_EXPORTS"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} exports are running, which is the limit ([http] exports); repeat the request later")


class Chunks(StreamingResponse):
    """The encoded rows of an export."""

    @classmethod
    async def of(
        cls,
        caller: Caller,
        open_stream: Callable[[], ExportStream],
        kind: Format,
        media_type: str,
        *,
        safe_for_spreadsheets: bool,
        name: str,
    ) -> Self:
        """Errors that are known before the first row are raised here. Raises TooManyExports."""
        service = caller.service
        if service.exports.locked():
            raise TooManyExports(service.settings.exports)
        await service.exports.acquire()
        try:
            stream = await caller.run(open_stream)
            chunks = encoded(stream, kind, safe_for_spreadsheets=safe_for_spreadsheets)
            first = await service.run(next, chunks, b"")
        except BaseException:
            service.exports.release()
            raise
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Meterfold-Rows": str(stream.expected)}
        return cls(_rest(service, first, chunks), media_type=media_type, headers=headers)

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        async def in_time(message) -> None:  # type: ignore[no-untyped-def]
            async with asyncio.timeout(SLOW_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, in_time)
        finally:
            closing = getattr(self.body_iterator, "aclose", None)
            if closing is not None:
                await asyncio.shield(closing())


async def _rest(service: HttpService, first: bytes, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    try:
        chunk: bytes | None = first
        while chunk:
            yield chunk
            chunk = await service.run(next, chunks, None)
    finally:
        service.exports.release()
        service.discard(chunks)
