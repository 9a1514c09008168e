"""A loopback HTTP proxy between workers and ClickHouse that does harm on order.

Requests and answers pass whole. A `Harm` says what happens to the next requests: the connection is reset after the
insert was applied, or after a part of its rows was; the answer comes later than the client waits, or the request is
applied later than that; or ClickHouse "refuses" with one of its codes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus, urlsplit

import pyarrow as pa

REFUSALS: Final[Mapping[str, tuple[int | None, str]]] = {
    "error 500": (None, "the proxy in front of ClickHouse has an internal error"),
    "too many parts": (252, "Code: 252. DB::Exception: Too many parts (300). (TOO_MANY_PARTS)"),
    "not enough space": (243, "Code: 243. DB::Exception: Cannot reserve 1.00 MiB. (NOT_ENOUGH_SPACE)"),
    "read-only": (164, "Code: 164. DB::Exception: Cannot execute query in readonly mode. (READONLY)"),
}
HARMS: Final = ("reset after insert", "partial insert", "slow answer", "late insert", *REFUSALS)


@dataclass(slots=True)
class Harm:
    """What happens to the next `left` requests that it fits. `seconds` is how long the slow ones take; `meanwhile` is
    called once a part of the rows is in, before the client hears of it."""

    kind: str
    left: int
    inserts_only: bool
    seconds: float
    seed: int
    table: str = ""
    meanwhile: Callable[[], None] = lambda: None
    done: int = 0

    def fits(self, request: Request) -> bool:
        if self.table not in request.statement:
            return False
        if self.kind in ("reset after insert", "partial insert", "late insert"):
            return request.is_insert
        return request.is_insert or not self.inserts_only


@dataclass(frozen=True, slots=True)
class Request:
    head: bytes
    body: bytes
    statement: str

    @property
    def is_insert(self) -> bool:
        return self.statement.lstrip()[:6].upper() == "INSERT"

    def with_body(self, body: bytes) -> Request:
        lines = [line for line in self.head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
        head = b"\r\n".join([lines[0], b"Content-Length: %d" % len(body), *lines[1:]])
        return Request(head, body, self.statement)


class Proxy:
    """Listens on a free port of 127.0.0.1, on a thread of its own."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 8123)
        self._harms: list[Harm] = []
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None] | None] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self.url = ""

    def start(self) -> None:
        self._thread.start()
        self._started.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def harm(self, harm: Harm) -> None:
        with self._lock:
            self._harms.append(harm)

    def spare(self, harm: Harm) -> None:
        """No more of it."""
        with self._lock, contextlib.suppress(ValueError):
            self._harms.remove(harm)

    def _take(self, request: Request) -> Harm | None:
        with self._lock:
            for harm in self._harms:
                if harm.left and harm.fits(request):
                    harm.left -= 1
                    harm.done += 1
                    return harm
        return None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._client, "127.0.0.1", 0, limit=1 << 24))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        task = asyncio.current_task()
        self._tasks.add(task)  # the loop alone does not keep them
        try:
            answers, upstream = await asyncio.open_connection(*self._target, limit=1 << 24)
            while True:
                request = await _request(reader)
                await self._serve(request, answers, upstream, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass
        except _Reset:
            _reset(writer)
        except asyncio.CancelledError:
            return
        finally:
            self._tasks.discard(task)
            for one in (upstream, writer):
                if one is not None:
                    one.close()

    async def _serve(
        self,
        request: Request,
        answers: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> None:
        harm = self._take(request)
        kind = harm.kind if harm else ""
        if kind in REFUSALS:
            writer.write(_refusal(*REFUSALS[kind]))
            await writer.drain()
            return
        if harm and kind == "partial insert":
            request = request.with_body(_some_rows(request.body, random.Random(f"{harm.seed}/{harm.done}")))
        if harm and kind == "late insert":
            await asyncio.sleep(harm.seconds)
        upstream.write(request.head + request.body)
        await upstream.drain()
        answer = await _message(answers)
        if harm and kind in ("reset after insert", "partial insert"):
            harm.meanwhile()
            raise _Reset
        if harm and kind == "slow answer":
            await asyncio.sleep(harm.seconds)
        writer.write(answer[0] + answer[1])
        await writer.drain()


class _Reset(Exception):
    """The client's connection is to be reset."""


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN."""
    one = writer.get_extra_info("socket")
    if one is not None:
        with contextlib.suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _request(reader: asyncio.StreamReader) -> Request:
    head, body = await _message(reader)
    target = head.split(b" ", 2)[1].decode()
    statement = ""
    for pair in urlsplit(target).query.split("&"):
        name, _, value = pair.partition("=")
        if name == "query":
            statement = unquote_plus(value)
    return Request(head, body, statement or body[:200].decode(errors="replace"))


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body as they came (a chunked body with its chunk sizes)."""
    head = await reader.readuntil(b"\r\n\r\n")
    headers = {
        name.strip().lower(): value.strip().lower()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        parts = []
        while True:
            size = await reader.readuntil(b"\r\n")
            chunk = await reader.readexactly(int(size.split(b";")[0], 16) + 2)
            parts += [size, chunk]
            if chunk == b"\r\n":
                return head, b"".join(parts)
    return head, await reader.readexactly(int(headers.get(b"content-length", b"0")))


def _some_rows(body: bytes, chance: random.Random) -> bytes:
    """A statement and its Arrow stream with some of the rows, as a server that died meanwhile may have applied it."""
    statement, line, data = body.partition(b"\n") if body.startswith(b"INSERT") else (b"", b"", body)
    rows = pa.ipc.open_stream(data).read_all()
    share = chance.random()
    kept = rows.filter(pa.array([chance.random() < share for _ in range(rows.num_rows)], pa.bool_()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(kept)
    return statement + line + sink.getvalue().to_pybytes()


def _refusal(code: int | None, text: str) -> bytes:
    body = text.encode()
    exception = b"" if code is None else b"X-ClickHouse-Exception-Code: %d\r\n" % code
    return (
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=UTF-8\r\n"
        + exception
        + b"Content-Length: %d\r\n\r\n" % len(body)
        + body
    )
