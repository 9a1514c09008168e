"""A result in Arrow, batch by batch, and what the server says where it breaks off."""

from __future__ import annotations

import http.client
import io
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import pyarrow as pa

from meterfold_sink.errors import ServerError, mapped

__all__ = ["ArrowReader"]

_TAIL_BYTES: Final = 8 * 1024
#: The server writes its error behind the rows: a status has been sent before.
_EXCEPTION: Final = re.compile(rb"Code: (\d+)\. (DB::Exception: [^\0\r\n]*)")
T = TypeVar("T")


class ArrowReader:
    """The schema, and the batches by iteration. Every read raises Retryable or Fatal. The caller closes it."""

    def __init__(self, stream: Any, doing: str) -> None:
        self._stream = _Tail(stream)
        self._doing = doing
        try:
            self._reader = self._read(lambda: pa.ipc.open_stream(self._stream))
        except BaseException:
            self.close()
            raise
        self.schema: pa.Schema = self._reader.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        while True:
            try:
                batch = self._read(self._reader.read_next_batch)
            except StopIteration:
                return
            yield batch

    def close(self) -> None:
        """End the statement; what was not read is lost."""
        self._stream.close()

    def _read(self, read: Callable[[], T]) -> T:
        with mapped(self._doing):
            try:
                return read()
            except StopIteration:
                raise
            except Exception as error:  # of Arrow, or of an HTTP library that knows only that the body is short
                raise self._broken(error) from error

    def _broken(self, error: Exception) -> ServerError:
        cause: BaseException | None = error
        last = self._stream.last
        while cause is not None:
            if isinstance(cause, http.client.IncompleteRead):
                last += cause.partial
            cause = cause.__cause__ or cause.__context__
        if (found := _EXCEPTION.search(last)) is not None:
            return ServerError(found.group(2).decode("utf-8", "replace"), int(found.group(1)))
        return ServerError(f"the answer is incomplete: {error}")


class _Tail(io.RawIOBase):
    """A stream that remembers its last bytes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.last = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self.last = data[-_TAIL_BYTES:] if len(data) >= _TAIL_BYTES else (self.last + data)[-_TAIL_BYTES:]
        return data

    def close(self) -> None:
        self._stream.close()
        super().close()
