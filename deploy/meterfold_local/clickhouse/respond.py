"""Responses: status, headers, bodies, and an error that comes after the headers were sent."""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from meterfold_local.clickhouse import compression
from meterfold_local.clickhouse.engine import Statistics
from meterfold_local.clickhouse.errors import QueryError

STREAMED_FORMATS = frozenset(
    {
        *(b"Native", b"RowBinary", b"TabSeparated", b"TSV", b"TabSeparatedRaw", b"TSVRaw", b"Raw", b"CSV"),
        *(b"JSONEachRow", b"JSONLines", b"NDJSON", b"JSONCompactEachRow", b"JSONStringsEachRow"),
        *(b"JSONCompactStringsEachRow", b"LineAsString", b"RawBLOB", b"MsgPack", b"CustomSeparated"),
    }
)
"""Formats whose blocks, one after the other, are the whole result. Every other format has a head or an end, and the
engine must hold all of it: Arrow and Parquet of 10 M rows took 554 MB. arrow_stream.py streams
ArrowStream."""

_CONTENT_TYPES = (
    # The first prefix that fits.
    ("TabSeparated", "text/tab-separated-values; charset=UTF-8"),
    ("TSV", "text/tab-separated-values; charset=UTF-8"),
    ("CSVWithNames", "text/csv; charset=UTF-8; header=present"),
    ("CSV", "text/csv; charset=UTF-8; header=absent"),
    ("JSONEachRow", "application/x-ndjson; charset=UTF-8"),
    ("JSONLines", "application/x-ndjson; charset=UTF-8"),
    ("NDJSON", "application/x-ndjson; charset=UTF-8"),
    ("JSON", "application/json; charset=UTF-8"),
    ("XML", "application/xml; charset=UTF-8"),
    *((name, "text/plain; charset=UTF-8") for name in ("Pretty", "Vertical", "Values", "Markdown", "SQLInsert")),
    ("", "application/octet-stream"),
)
_PLAIN = "text/plain; charset=UTF-8"
Headers = tuple[tuple[str, str], ...]


class BrokenOff(Exception):
    """The body ends here, after the text that says why, and the connection with it."""


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back; a body of bytes is whole, any other one is sent in chunks unless its length is in the headers."""

    status: int
    headers: Headers
    body: bytes | Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Facts:
    """What every answer to a query says in its headers."""

    query_id: str
    server: str
    timezone: str
    version: str
    started: float = field(default_factory=time.monotonic)

    def headers(self, output_format: bytes | None, statistics: Statistics) -> Headers:
        """Of a result in this format; None for a statement without a result."""
        name = (output_format or b"").decode("latin-1")
        kind = next(kind for prefix, kind in _CONTENT_TYPES if name.startswith(prefix))
        return (
            ("Content-Type", _PLAIN if output_format is None else kind),
            ("X-ClickHouse-Summary", summary(statistics, time.monotonic() - self.started)),
            ("X-ClickHouse-Server-Display-Name", self.server),
            ("X-ClickHouse-Query-Id", header_text(self.query_id)),
            ("X-ClickHouse-Timezone", self.timezone),
            *(() if output_format is None else (("X-ClickHouse-Format", name),)),
        )


def summary(statistics: Statistics, seconds: float) -> str:
    """X-ClickHouse-Summary: JSON whose numbers are strings."""
    numbers = {
        "read_rows": statistics.read_rows or statistics.written_rows,
        "read_bytes": statistics.read_bytes or statistics.written_bytes,
        "written_rows": statistics.written_rows,
        "written_bytes": statistics.written_bytes,
        "total_rows_to_read": statistics.read_rows,
        "result_rows": statistics.written_rows or statistics.result_rows,
        "result_bytes": statistics.written_bytes or statistics.result_bytes,
        "elapsed_ns": int(seconds * 1e9),
    }
    return json.dumps({name: str(number) for name, number in numbers.items()}, separators=(",", ":"))


def header_text(text: str) -> str:
    """Printable ASCII only, so that nothing of a request can start a header of its own."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)


def plain(text: str, status: int = 200) -> Response:
    return whole(status, (("Content-Type", _PLAIN),), text.encode())


def error(problem: QueryError, facts: Facts) -> Response:
    """An error before anything was sent."""
    headers: Headers = (
        ("X-ClickHouse-Exception-Code", str(problem.code)),
        *facts.headers(None, Statistics()),
    )
    if problem.status == 401:
        headers += (("WWW-Authenticate", 'Basic realm="ClickHouse server HTTP API"'),)
    return whole(problem.status, headers, (problem.message(facts.version) + "\n").encode(errors="surrogateescape"))


def whole(status: int, headers: Headers, body: bytes) -> Response:
    return Response(status, (*headers, ("Content-Length", str(len(body)))), body)


def content(chunks: Iterable[bytes], size: int | None, headers: Headers, accepted: str) -> Response:
    """A result that is complete, of this many bytes; None: not known, since the chunks are made while they are sent."""
    encoding = compression.choose(accepted) if size != 0 else None
    if encoding is not None:
        headers = (*headers, ("Content-Encoding", encoding))
        chunks, size = compression.compress(chunks, encoding), None
    if size is None:
        return Response(200, headers, chunks)
    if size <= 1 << 20:
        return whole(200, headers, b"".join(chunks))
    return Response(200, (*headers, ("Content-Length", str(size))), chunks)


def stream(
    kept: Iterable[bytes],
    rest: Iterable[bytes],
    headers: Headers,
    accepted: str,
    version: str,
    *,
    pack: Callable[[bytes], bytes] = bytes,
) -> Response:
    """A result that is still running; `kept` is its start. An error in `rest` is written behind what was sent, by
    `pack`."""
    tag = secrets.token_hex(8)
    headers = (*headers, ("X-ClickHouse-Exception-Tag", tag))
    encoding = compression.choose(accepted)
    failures: list[QueryError] = []

    def chunks() -> Iterator[bytes]:
        try:
            yield from itertools.chain(kept, rest)
        except QueryError as problem:
            failures.append(problem)
            yield pack(trailer(problem, tag, version))

    def sent() -> Iterator[bytes]:
        yield from chunks() if encoding is None else compression.compress(chunks(), encoding)
        if failures:
            raise BrokenOff from failures[0]

    if encoding is not None:
        headers = (*headers, ("Content-Encoding", encoding))
    return Response(200, headers, sent())


def trailer(problem: QueryError, tag: str, version: str) -> bytes:
    """What ends a stream that failed, as ClickHouse writes it since 25.11."""
    message = problem.message(version).encode(errors="surrogateescape") + b"\n"
    mark = tag.encode()
    return b"\r\n__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n" % (mark, message, len(message), mark)
