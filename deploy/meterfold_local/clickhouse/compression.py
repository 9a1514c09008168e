"""lz4 (frames), zstd, gzip and deflate as streams, in both directions, as HTTP names them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import lz4.frame
import zstandard

from meterfold_local.clickhouse.errors import QueryError

CHOICES = ("lz4", "zstd", "gzip", "deflate")
"""In the order in which a response's encoding is chosen."""


class _Decoder(Protocol):
    """One frame's decoder: zlib's, lz4's and zstandard's all have this shape."""

    @property
    def unused_data(self) -> bytes | None: ...

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes) -> bytes: ...


class Encoder(Protocol):
    """A stream's encoder."""

    def compress(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...


def decompress(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The content of an encoded body. clickhouse-connect sends a frame per block, so frames may follow each other;
    one that ends too early is an error (271), raised at the end of the stream."""
    if encoding in ("", "identity"):
        yield from chunks
        return
    make = _DECODERS.get(encoding)
    if make is None:
        raise QueryError(48, f"Unknown compression method '{encoding}'; this server takes {', '.join(CHOICES)}")
    decoder = make()
    started = False
    for chunk in chunks:
        data = chunk
        while data:
            if decoder.eof:
                decoder = make()
            started = True
            try:
                content = decoder.decompress(data)
            except (zlib.error, RuntimeError, zstandard.ZstdError) as error:
                raise QueryError(271, f"Can't decompress the {encoding} body: {error}") from None
            data = (decoder.unused_data or b"") if decoder.eof else b""
            if content:
                yield content
    if started and not decoder.eof:
        raise QueryError(271, f"Can't decompress the {encoding} body: it ends inside of a frame")


def choose(accepted: str) -> str | None:
    """The encoding for a response, from an Accept-Encoding header; None: send it plain."""
    refused = {part.split(";")[0].strip() for part in accepted.split(",") if part.replace(" ", "").endswith(";q=0")}
    offered = {part.split(";")[0].strip().lower() for part in accepted.split(",")} - refused
    return next((name for name in CHOICES if name in offered), None)


def encoder(encoding: str) -> Encoder:
    """A new encoder of one of CHOICES."""
    return _ENCODERS[encoding]()


class _Lz4Encoder:
    def __init__(self) -> None:
        self._compressor = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        head = b"" if self._begun else self._compressor.begin()
        self._begun = True
        return bytes(head + self._compressor.compress(data))

    def flush(self) -> bytes:
        head = b"" if self._begun else self._compressor.begin()
        return bytes(head + self._compressor.flush())


class _ZstdDecoder:
    """zstandard's decompressobj under the names that zlib's has."""

    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        self.unused_data: bytes | None = None
        self.eof = False

    def decompress(self, data: bytes) -> bytes:
        content = self._decoder.decompress(data)
        self.eof = self._decoder.eof
        self.unused_data = self._decoder.unused_data
        return content


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": _ZstdDecoder,
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "x-gzip": lambda: zlib.decompressobj(wbits=31),
    "deflate": lambda: zlib.decompressobj(wbits=15),
}

_ENCODERS: dict[str, Callable[[], Encoder]] = {
    "lz4": _Lz4Encoder,
    "zstd": lambda: zstandard.ZstdCompressor(level=1).compressobj(),
    "gzip": lambda: zlib.compressobj(level=3, wbits=31),
    "deflate": lambda: zlib.compressobj(level=3, wbits=15),
}
