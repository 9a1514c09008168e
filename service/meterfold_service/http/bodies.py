"""The bodies of requests: of one with events, decompressed within its bounds, and one that may be left out."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import zstandard
from fastapi import Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request

from meterfold_schemas.errors import InvalidUsage
from meterfold_service.ingest.errors import TooManyEvents, UnreadableBody

if TYPE_CHECKING:
    from meterfold_service.http.context import Caller

__all__ = ["NO_NULL", "read_body", "read_events"]

_GZIP: Final = 16 + zlib.MAX_WBITS
_WINDOW: Final = 8 * 1024 * 1024
"""The largest window of a zstd frame, which decides how much memory one takes."""


async def read_events(request: Request, caller: Caller) -> bytes:
    """The body of a request that sends events. Where Kafka may be away it is asked before the body is read.

    Raises KafkaUnavailable, and what `read_body` raises.
    """
    service, events = caller.service, caller.may.events
    if events.is_doubtful:
        await service.ingesting.run(events.check)
    return await read_body(request, service.settings.max_body_bytes)


async def read_body(request: Request, most: int) -> bytes:
    """The body, decompressed to at most `most` bytes; what travels is bounded in size and time by `Boundary`.

    Raises TooManyEvents, UnreadableBody, and HTTPException for an encoding that is not known.
    """
    decode = _decoder(request.headers.get("content-encoding", ""))
    body = await request.body()
    return body if decode is None else decode(body, most)


async def _refuse_null(request: Request) -> None:
    if (await request.body()).strip() == b"null":
        raise InvalidUsage("the body is null: send a JSON object, or leave the body out")


NO_NULL: Final = Depends(_refuse_null)
"""For routes whose body may be left out: FastAPI takes null for that, the OpenAPI document does not allow it."""


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
    return TooManyEvents(
        f"the body has more than {most:,} bytes once it is decompressed, which is the limit ([http] max_body_bytes); "
        "send it in parts"
    )
