"""An export as the body of an answer, piece by piece."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from meterfold_service.exports.formats import open_writer
from meterfold_service.exports.results import Format

if TYPE_CHECKING:
    from typing import IO

    from meterfold_service.exports.operations import ExportStream

__all__ = ["CONTENT_TYPES", "chunks"]

CONTENT_TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}


class _Pipe(io.RawIOBase):
    """Keeps what is written until it is taken."""

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

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def chunks(stream: ExportStream, kind: str) -> Iterator[bytes]:
    """CSV is made safe for spreadsheets: whoever downloads it opens it in one. Closes the stream."""
    pipe = _Pipe()
    with stream:
        writer = open_writer(
            Format(kind), cast("IO[bytes]", pipe), stream.schema, seekable=False, safe_for_spreadsheets=kind == "csv"
        )
        for batch in stream:
            writer.write(batch)
            if part := pipe.taken():
                yield part
        writer.close()
        yield pipe.taken()
