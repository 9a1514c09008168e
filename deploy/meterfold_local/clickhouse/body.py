"""The body of a request: counted, decompressed, and kept in a file until it is complete.

A body that ends early must insert nothing, and the engine takes the end of its input for the end of the rows: 1,000 of
10,000 rows were committed that way. So no byte reaches the engine before the last one is here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from meterfold_local.clickhouse import config
from meterfold_local.clickhouse.errors import QueryError

PIECE = 256 * 1024
DRAIN_LIMIT = 64 << 20


class Readable(Protocol):
    """WSGI's input."""

    def read(self, size: int, /) -> bytes: ...


class ShortBody(QueryError):
    """The connection ended, or broke the chunked encoding, before the body did. Nothing was run."""

    def __init__(self, text: str) -> None:
        super().__init__(210, text, "NETWORK_ERROR")


class Body:
    """The bytes as they are sent. `complete` once the last one was read."""

    def __init__(self, source: Readable, length: int | None, *, chunked: bool) -> None:
        self._source = source
        self._length = length
        self._chunked = chunked
        self._seen = 0
        self.complete = not chunked and not length
        self.broken = False

    def __iter__(self) -> Iterator[bytes]:
        """The bytes in pieces; ShortBody when they end too early."""
        while not self.complete:
            piece = self._read(PIECE)
            if piece:
                yield piece

    def drain(self) -> None:
        """Read and forget the rest, so that the client reads our answer; gives up on a broken or very long one."""
        try:
            for _ in self:
                if self._seen > DRAIN_LIMIT:
                    self.broken = True
                    return
        except ShortBody:
            return

    def _read(self, size: int) -> bytes:
        try:
            piece = self._source.read(size)
        except (OSError, ValueError) as error:
            self.broken = self.complete = True
            raise ShortBody(f"the body broke off after {self._seen} bytes: {error}; nothing was inserted") from None
        self._seen += len(piece)
        if self._length is not None and not self._chunked:
            self.complete = self._seen >= self._length
            if not piece and not self.complete:
                self.broken = self.complete = True
                raise ShortBody(
                    f"the body ended after {self._seen} of {self._length} bytes (Content-Length); nothing was inserted"
                )
        elif not piece:
            self.complete = True
        return piece


class Head:
    """A stream of pieces with its first bytes in view."""

    def __init__(self, start: bytes, pieces: Iterator[bytes]) -> None:
        self.seen = start
        self.ended = False
        self._pieces = pieces

    def want(self, size: int) -> None:
        """See at least this many bytes, or the end."""
        parts = [self.seen]
        total = len(self.seen)
        while total < size and not self.ended:
            piece = next(self._pieces, None)
            if piece is None:
                self.ended = True
            else:
                parts.append(piece)
                total += len(piece)
        self.seen = b"".join(parts)

    def rest(self, start: int) -> Iterator[bytes]:
        """Everything from this byte of `seen` on."""
        if start < len(self.seen):
            yield self.seen[start:]
        self.seen = b""
        yield from self._pieces
        self.ended = True


class SpoolFile:
    """Rows in a file that the engine reads; gone after the `with`. The working directory is the data folder."""

    def __init__(self) -> None:
        # A name without quotes or wildcards, relative: no character of the folder's path reaches the statement.
        self.path = f"{config.SPOOL_FOLDER}/{secrets.token_hex(12)}"
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def fill(self, pieces: Iterator[bytes]) -> None:
        """Write all of them; QueryError when the disk is full."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for piece in pieces:
                try:
                    _write_all(file, piece)
                except OSError as error:
                    raise QueryError(243, f"Can't keep the rows before they are inserted: {error}") from None
                self.size += len(piece)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        Path(self.path).unlink(missing_ok=True)


def _write_all(file: Any, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[file.write(view) :]
