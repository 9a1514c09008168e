"""The body of a request, decompressed, within bounds of size and time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import zstandard
from starlette.exceptions import HTTPException
from starlette.requests import Request

from meterfold_service.ingest.errors import TooManyEvents, UnreadableBody

__all__ = ["read_body"]

_GZIP: Final = 16 + zlib.MAX_WBITS
_WINDOW: Final = 8 * 1024 * 1024
"""The largest window of a zstd frame, which decides how much memory one takes."""


async def read_body(request: Request, *, most: int, seconds: float) -> bytes:
    """At most `most` bytes before and after decompression, in at most `seconds`.

    Raises TooManyEvents, UnreadableBody, and HTTPException for an encoding that is not known and a body that takes too
    long.
    """
    decode = _decoder(request.headers.get("content-encoding", ""))
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise _too_large(most)
                parts.append(part)
    except TimeoutError:
        raise HTTPException(
            HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {seconds:g} s; send it faster, or less of it"
        ) from None
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    return body if decode is None else decode(body, most)


def _decoder(encoding: str) -> Callable[[bytes, int], bytes] | None:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _gunzip
        case "zstd":
            return _unzstd
        case other:
            raise HTTPException(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Encoding {other[:80]!r} is not known; send gzip, zstd or no compression",
                headers={"Accept-Encoding": "gzip, zstd"},
            )


def _gunzip(body: bytes, most: int) -> bytes:
    parts: list[bytes] = []
    left = most
    try:
        while body:  # a gzip file may have several members
            inflate = zlib.decompressobj(_GZIP)
            parts.append(inflate.decompress(body, left + 1))
            left -= len(parts[-1])
            if left < 0:
                raise _too_large(most)
            if not inflate.eof:
                raise UnreadableBody("the body is cut short: its gzip data has no end")
            body = inflate.unused_data
    except zlib.error as error:
        raise UnreadableBody(f"the body is not gzip, as Content-Encoding says: {error}") from None
    return b"".join(parts)


def _unzstd(body: bytes, most: int) -> bytes:
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(body, read_across_frames=True)
        found = reader.read(most + 1)
    except zstandard.ZstdError as error:
        raise UnreadableBody(f"the body is not zstd, as Content-Encoding says: {error}") from None
    if len(found) > most:
        raise _too_large(most)
    return found


def _too_large(most: int) -> TooManyEvents:
    return TooManyEvents(f"the body has more than {most:,} bytes, the most that is allowed; send smaller batches")
