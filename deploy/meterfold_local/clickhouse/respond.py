"""Responses: status, headers, bodies that stream, and an error that comes after the headers are out."""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from meterfold_local.clickhouse import compression
from meterfold_local.clickhouse.engine import Statistics
from meterfold_local.clickhouse.errors import REASONS, QueryError

STREAMED_FORMATS = frozenset(
    {
        *(b"Native", b"RowBinary", b"TabSeparated", b"TSV", b"TabSeparatedRaw", b"TSVRaw", b"Raw", b"CSV"),
        *(b"JSONEachRow", b"JSONLines", b"NDJSON", b"JSONCompactEachRow", b"JSONStringsEachRow"),
        *(b"JSONCompactStringsEachRow", b"LineAsString", b"RawBLOB", b"MsgPack", b"CustomSeparated"),
    }
)
"""Formats whose blocks, put one behind the other, are the whole result. Every other one has a head or an end, and the
engine must hold all of it: Arrow and Parquet of 10 M rows took 554 MB."""

_CONTENT_TYPES = {
    b"TabSeparated": "text/tab-separated-values; charset=UTF-8",
    b"CSV": "text/csv; charset=UTF-8; header=absent",
    b"CSVWithNames": "text/csv; charset=UTF-8; header=present",
    b"CSVWithNamesAndTypes": "text/csv; charset=UTF-8; header=present",
    b"JSONEachRow": "application/x-ndjson; charset=UTF-8",
    b"JSONLines": "application/x-ndjson; charset=UTF-8",
    b"NDJSON": "application/x-ndjson; charset=UTF-8",
    b"Arrow": "application/octet-stream",
    b"ArrowStream": "application/octet-stream",
    b"Parquet": "application/octet-stream",
    b"XML": "application/xml; charset=UTF-8",
}


class BrokenOff(Exception):
    """The body ends here, after the trailer that says why, and the connection with it."""


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back. `length` is None for a stream; `close` ends the connection afterwards."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: Iterable[bytes]
    length: int | None = None
    close: bool = False

    @property
    def status_line(self) -> str:
        return f"{self.status} {REASONS.get(self.status, 'Error')}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What every answer to a query says in its headers."""

    query_id: str
    server: str
    timezone: str
    version: str
    started: float = field(default_factory=time.monotonic)

    def headers(self, output_format: bytes | None, statistics: Statistics) -> list[tuple[str, str]]:
        headers = [
            ("X-ClickHouse-Summary", summary(statistics, time.monotonic() - self.started)),
            ("X-ClickHouse-Server-Display-Name", self.server),
            ("X-ClickHouse-Query-Id", header_text(self.query_id)),
            ("X-ClickHouse-Timezone", self.timezone),
        ]
        if output_format is not None:
            headers.append(("X-ClickHouse-Format", output_format.decode("latin-1")))
        return headers


def summary(statistics: Statistics, seconds: float) -> str:
    """X-ClickHouse-Summary: JSON whose numbers are strings."""
    return json.dumps(
        {
            "read_rows": str(statistics.read_rows or statistics.written_rows),
            "read_bytes": str(statistics.read_bytes or statistics.written_bytes),
            "written_rows": str(statistics.written_rows),
            "written_bytes": str(statistics.written_bytes),
            "total_rows_to_read": str(statistics.read_rows),
            "result_rows": str(statistics.written_rows or statistics.result_rows),
            "result_bytes": str(statistics.written_bytes or statistics.result_bytes),
            "elapsed_ns": str(int(seconds * 1e9)),
        },
        separators=(",", ":"),
    )


def content_type(output_format: bytes) -> str:
    """The media type that ClickHouse names for a format."""
    if known := _CONTENT_TYPES.get(output_format):
        return known
    if output_format.startswith((b"TSV", b"TabSeparated")):
        return _CONTENT_TYPES[b"TabSeparated"]
    if output_format.startswith(b"JSON"):
        return "application/json; charset=UTF-8"
    if output_format.startswith((b"Pretty", b"Vertical", b"Values", b"Markdown", b"SQLInsert")):
        return "text/plain; charset=UTF-8"
    return "application/octet-stream"


def header_text(text: str) -> str:
    """Printable ASCII only, so that nothing of a request can start a header of its own."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)


def plain(text: str, status: int = 200) -> Response:
    body = text.encode()
    return Response(status, (("Content-Type", "text/plain; charset=UTF-8"),), [body], len(body))


def error(problem: QueryError, facts: Facts, *, close: bool = False) -> Response:
    """An error before anything was sent."""
    body = (problem.message(facts.version) + "\n").encode(errors="surrogateescape")
    headers = [
        ("Content-Type", "text/plain; charset=UTF-8"),
        ("X-ClickHouse-Exception-Code", str(problem.code)),
        *facts.headers(None, Statistics()),
    ]
    if problem.status == 401:
        headers.append(("WWW-Authenticate", 'Basic realm="ClickHouse server HTTP API"'))
    return Response(problem.status, tuple(headers), [body], len(body), close)


def content(chunks: Iterable[bytes], size: int | None, headers: list[tuple[str, str]], accepted: str) -> Response:
    """A result that is all here; without a size it is sent in chunks."""
    encoding = compression.choose(accepted) if size != 0 else None
    if encoding is None:
        return Response(200, tuple(headers), chunks, size)
    return Response(200, (*headers, ("Content-Encoding", encoding)), encoded(chunks, encoding))


def encoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The chunks in one frame of the encoding."""
    encoder = compression.encoder(encoding)
    for chunk in chunks:
        if data := encoder.compress(chunk):
            yield data
    yield encoder.flush()


def stream(
    kept: Iterable[bytes],
    rest: Iterable[bytes],
    headers: list[tuple[str, str]],
    accepted: str,
    version: str,
    *,
    pack: Callable[[bytes], bytes] = bytes,
) -> Response:
    """A result that goes on: `kept` is its start. An error in `rest` is written behind what was sent, by `pack`."""
    tag = secrets.token_hex(8)
    encoding = compression.choose(accepted)
    chunks: Iterable[bytes] = _guarded(itertools.chain(kept, rest), tag, version, encoding, pack)
    named = [*headers, ("X-ClickHouse-Exception-Tag", tag)]
    if encoding is not None:
        named.append(("Content-Encoding", encoding))
    return Response(200, tuple(named), chunks)


def _guarded(
    chunks: Iterable[bytes], tag: str, version: str, encoding: str | None, pack: Callable[[bytes], bytes]
) -> Iterator[bytes]:
    encoder = compression.encoder(encoding) if encoding is not None else None
    try:
        for chunk in chunks:
            if data := chunk if encoder is None else encoder.compress(chunk):
                yield data
    except QueryError as problem:
        end = pack(trailer(problem, tag, version))
        yield end if encoder is None else encoder.compress(end) + encoder.flush()
        raise BrokenOff from problem
    if encoder is not None:
        yield encoder.flush()


def trailer(problem: QueryError, tag: str, version: str) -> bytes:
    """What ends a stream that failed, as ClickHouse writes it since 25.11."""
    message = problem.message(version).encode(errors="surrogateescape") + b"\n"
    mark = tag.encode()
    return b"\r\n__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n" % (mark, message, len(message), mark)
