"""ClickHouse's own compressed blocks: what `compress=1` asks for and `decompress=1` announces.

A block is the 16-byte CityHash128 (version 1.0.2) of all that follows, one byte for the method, the size of the block
without the checksum (4 bytes), the size of the content (4 bytes), and the data. Numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import lz4.block
import zstandard
from clickhouse_cityhash.cityhash import CityHash128

from meterfold_local.clickhouse.errors import QueryError

CONTENT_BYTES = 1 << 20
"""Content of a block that this server writes, as in ClickHouse."""
MAX_BLOCK_BYTES = 1 << 30

_LZ4, _ZSTD, _PLAIN = 0x82, 0x90, 0x02
_CHECKSUM = 16
_HEAD = struct.Struct("<BII")


def encoded(data: bytes) -> bytes:
    """The content in LZ4 blocks; nothing for nothing."""
    view = memoryview(data)
    return b"".join(_block(view[start : start + CONTENT_BYTES]) for start in range(0, len(view), CONTENT_BYTES))


def _block(content: memoryview) -> bytes:
    compressed = lz4.block.compress(content, store_size=False)
    body = _HEAD.pack(_LZ4, _HEAD.size + len(compressed), len(content)) + bytes(compressed)
    return checksum(body) + body


def checksum(body: bytes) -> bytes:
    """The 16 bytes in front of a block: the two halves of the hash, each little-endian, the lower one first."""
    lower, higher = divmod(CityHash128(body), 1 << 64)  # the library's number has the lower half above
    return struct.pack("<QQ", lower, higher)


def decoded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a stream of blocks. QueryError 271 when it ends inside a block or is damaged, 40 when a checksum
    does not match, 89 for an unknown method."""
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        while (size := _block_size(waiting)) is not None:
            yield _content(bytes(waiting[:size]))
            del waiting[:size]
    if waiting:
        raise QueryError(271, f"The compressed body ends inside a block, {len(waiting)} bytes after its start")


def _block_size(waiting: bytearray) -> int | None:
    """Size of the block at the start, None while it is incomplete."""
    if len(waiting) < _CHECKSUM + _HEAD.size:
        return None
    _, compressed, content = _HEAD.unpack_from(waiting, _CHECKSUM)
    if not _HEAD.size <= compressed <= MAX_BLOCK_BYTES or content > MAX_BLOCK_BYTES:
        raise QueryError(271, f"A compressed block claims {compressed} bytes for {content} bytes of content")
    size = _CHECKSUM + int(compressed)
    return size if len(waiting) >= size else None


def _content(block: bytes) -> bytes:
    body = block[_CHECKSUM:]
    if checksum(body) != block[:_CHECKSUM]:
        raise QueryError(40, "The checksum of a compressed block does not match its content", "CHECKSUM_DOESNT_MATCH")
    method, _, size = _HEAD.unpack_from(body)
    data = body[_HEAD.size :]
    try:
        if method == _LZ4:
            content = bytes(lz4.block.decompress(data, uncompressed_size=size))
        elif method == _ZSTD:
            content = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
        elif method == _PLAIN:
            content = data
        else:
            raise QueryError(89, f"Unknown method {method:#x} of a compressed block", "UNKNOWN_COMPRESSION_METHOD")
    except (lz4.block.LZ4BlockError, zstandard.ZstdError) as error:
        raise QueryError(271, f"Can't decompress a block: {error}") from None
    if len(content) != size:
        raise QueryError(271, f"A compressed block holds {len(content)} bytes of content instead of {size}")
    return content
