"""An export as chunks of bytes, for whoever sends it on while it is read."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import closing
from typing import IO, TYPE_CHECKING, Any, Protocol, Self, cast

from meterfold_service.exports.results import Format

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import pyarrow as pa

__all__ = ["RowStream", "encoded"]


class RowStream(Protocol):
    """Batches of rows, in order; `expected` rows, as was known before the first. Iterate once, and close it."""

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def expected(self) -> int: ...

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def encoded(stream: RowStream, kind: Format, *, safe_for_spreadsheets: bool = False) -> Generator[bytes, None, None]:
    """The rows of `stream` in a format, and closes it. Raises what the stream raises: then what was sent is
    incomplete."""
    from meterfold_service.exports.ahead import read_ahead
    from meterfold_service.exports.formats import open_writer

    out = _Taken()
    with stream:
        writer = open_writer(
            kind, cast("IO[bytes]", out), stream.schema, seekable=False, safe_for_spreadsheets=safe_for_spreadsheets
        )
        with closing(read_ahead(stream, stream.schema)) as batches:
            for batch in batches:
                writer.write(batch)
                if chunk := out.take():
                    yield chunk
        writer.close()
        if chunk := out.take():
            yield chunk


class _Taken(io.RawIOBase):
    """Collects what is written until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken
