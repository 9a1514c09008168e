"""lz4 (frames), zstd, gzip and deflate as streams, in both directions, as HTTP names them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lz4.frame
import zstandard

from meterfold_local.clickhouse.errors import QueryError

CHOICES = ("lz4", "zstd", "gzip", "deflate")
"""In the order in which the encoding of a response is chosen."""

_DECODERS: dict[str, Callable[[], Any]] = {
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": lambda: zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(),
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "x-gzip": lambda: zlib.decompressobj(wbits=31),
    "deflate": lambda: zlib.decompressobj(wbits=15),
}
_ENCODERS: dict[str, Callable[[], Any]] = {
    "lz4": lz4.frame.LZ4FrameCompressor,
    "zstd": lambda: zstandard.ZstdCompressor(level=1).compressobj(),
    "gzip": lambda: zlib.compressobj(level=3, wbits=31),
    "deflate": lambda: zlib.compressobj(level=3, wbits=15),
}


def decompress(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The content of an encoded body. clickhouse-connect sends a frame per block, so frames may follow each other;
    one that ends too early is an error (271), raised at the end of the stream."""
    if encoding in ("", "identity"):
        yield from chunks
        return
    make = _DECODERS.get(encoding)
    if make is None:
        raise QueryError(48, f"Unknown compression method '{encoding}'; this server takes {', '.join(CHOICES)}")
    decoder = None
    for chunk in chunks:
        data = chunk
        while data:
            if decoder is None or decoder.eof:
                decoder = make()
            try:
                content = decoder.decompress(data)
            except (zlib.error, RuntimeError, zstandard.ZstdError) as error:
                raise QueryError(271, f"Can't decompress the {encoding} body: {error}") from None
            data = decoder.unused_data if decoder.eof else b""
            if content:
                yield content
    if decoder is not None and not decoder.eof:
        raise QueryError(271, f"Can't decompress the {encoding} body: it ends inside a frame")


def choose(accepted: str) -> str | None:
    """The encoding for a response, from an Accept-Encoding header; None: send it plain."""
    offered = set()
    for part in accepted.lower().split(","):
        name, _, weight = part.replace(" ", "").partition(";")
        if weight != "q=0":
            offered.add(name)
    return next((name for name in CHOICES if name in offered), None)


def compress(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The chunks in one frame of one of CHOICES."""
    encoder = _ENCODERS[encoding]()
    if encoding == "lz4":
        yield encoder.begin()
    for chunk in chunks:
        if data := encoder.compress(chunk):
            yield data
    yield encoder.flush()
