"""One request, from its bytes to those of the response: an ASGI application.

A body that ends early must insert nothing, and the engine takes the end of its input for the end of the rows. So a
request runs only after the last byte of its body has arrived; until then the body waits in memory or in a file.
"""

from __future__ import annotations

import socket
import sys
import traceback
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO

import anyio
import anyio.from_thread
import anyio.to_thread
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.types import Receive, Scope, Send

from meterfold_local.clickhouse import config, request, respond
from meterfold_local.clickhouse.auth import ServerUser
from meterfold_local.clickhouse.engine import Engine
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.execute import MAX_STATEMENT, Executor, ExternalTable
from meterfold_local.clickhouse.respond import Facts, Response

INCOMPLETE = "meterfold.incomplete"
"""Set in the scope when the client closed its side of the connection before the end of the body."""

THREADS = 64
"""Requests that run at a time."""
BODY_IN_MEMORY = 32 << 20
"""Of a request's body; a larger one waits in a file."""
SEND_SECONDS = 300
"""How long a client may take no byte of a result."""


class App:
    """The ASGI application."""

    def __init__(self, engine: Engine, account: ServerUser) -> None:
        self._engine = engine
        self._account = account
        self._executor = Executor(engine)
        self._host = respond.header_text(socket.gethostname())
        self._threads: anyio.CapacityLimiter | None = None

    def close(self) -> None:
        """After the last request."""
        self._executor.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(THREADS)  # made here, since it belongs to the event loop
        client = _Client(HttpRequest(scope, receive), send)
        params = request.url_parameters(scope["query_string"])
        response = _without_engine(scope["method"], scope["path"], params)
        if response is not None:
            await client.whole(response)
            return
        headers = {name.decode("latin-1"): value.decode(errors="surrogateescape") for name, value in scope["headers"]}
        facts = Facts(
            params.get("query_id") or str(uuid.uuid4()), self._host, self._engine.timezone, self._engine.version
        )
        try:
            self._account.check(headers, params)
            with ExitStack() as held:
                asked, body, tables = await _read(client.request, headers, params, held)
                run = partial(self._run, client, asked, body, tables, facts)
                response = await anyio.to_thread.run_sync(run, limiter=self._threads)
        except ClientDisconnect:
            return
        except QueryError as problem:
            response = respond.error(problem, facts)
        except OSError as error:
            response = respond.error(QueryError(243, f"Can't keep a file in the data folder: {error}"), facts)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            failure = QueryError(1001, "the server failed; its log says where", "STD_EXCEPTION")
            response = respond.error(failure, facts)
        if response is not None:
            await client.whole(response)

    def _run(
        self,
        client: _Client,
        asked: request.Request,
        body: IO[bytes],
        tables: list[ExternalTable],
        facts: Facts,
    ) -> Response | None:
        """Run the request; a short response is returned, a long one is sent from here: all that uses a connection of
        the engine happens in one thread."""
        with ExitStack() as held:
            response = self._executor.run(asked, body, tables, facts, held)
            if isinstance(response.body, bytes):
                return response
            try:
                anyio.from_thread.run(client.start, response)
                for chunk in () if asked.method == "HEAD" else response.body:
                    anyio.from_thread.run(client.piece, chunk)
                anyio.from_thread.run(client.piece, b"", False)
            except (respond.BrokenOff, ClientDisconnect, TimeoutError):
                pass  # a response without its end tells the client that it is incomplete
            return None


class _Client:
    """Where the response to one request goes."""

    def __init__(self, http_request: HttpRequest, send: Send) -> None:
        self.request = http_request
        self._send = send

    async def start(self, response: Response) -> None:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})

    async def piece(self, content: bytes, more: bool = True) -> None:
        """Send a part of the body. ClientDisconnect or TimeoutError when the client does not read it."""
        with anyio.fail_after(SEND_SECONDS):
            await self._send({"type": "http.response.body", "body": content, "more_body": more})
        if more and await self.request.is_disconnected():
            raise ClientDisconnect

    async def whole(self, response: Response) -> None:
        """Send a response whose body is bytes."""
        assert isinstance(response.body, bytes)
        await self.start(response)
        await self.piece(response.body, False)


async def _read(
    http_request: HttpRequest, headers: Mapping[str, str], params: Mapping[str, str], held: ExitStack
) -> tuple[request.Request, IO[bytes], list[ExternalTable]]:
    """The request with its whole body and its external tables; what they need is put into `held`. QueryError when the
    body is incomplete, ClientDisconnect when the connection is gone."""
    method = http_request.method
    if method == "POST" and not {"content-length", "transfer-encoding"} & headers.keys():
        raise QueryError(381, "There is neither Transfer-Encoding: chunked nor a Content-Length header")
    body: IO[bytes] = held.enter_context(SpooledTemporaryFile(BODY_IN_MEMORY, dir=config.SPOOL_FOLDER))  # noqa: SIM115
    if headers.get("content-type", "").lower().startswith("multipart/form-data"):
        try:
            form = await http_request.form(max_part_size=MAX_STATEMENT)
        except MultiPartException as error:
            raise QueryError(36, f"multipart/form-data: {error.message}") from None
        _require_complete(http_request)
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
        for _, file in files:
            held.callback(file.file.close)
        asked = request.parse(method, headers, {**params, **fields}, multipart=True)
        return asked, body, [ExternalTable(name, file.file, asked.external.get(name, {})) for name, file in files]
    async for piece in http_request.stream():
        body.write(piece)
    _require_complete(http_request)
    body.seek(0)
    return request.parse(method, headers, params), body, []


def _require_complete(http_request: HttpRequest) -> None:
    if http_request.scope.get(INCOMPLETE):
        raise QueryError(210, "the body of the request ended early; nothing was inserted", "NETWORK_ERROR")


def _without_engine(method: str, path: str, params: Mapping[str, str]) -> Response | None:
    """What needs neither password nor engine; None for a query."""
    if method not in ("GET", "HEAD", "POST"):
        return respond.plain(f"{respond.header_text(method)} is not supported; use GET or POST\n", 405)
    if path in ("/ping", "/replicas_status"):
        return respond.plain("Ok.\n")
    if path not in ("", "/"):
        name = respond.header_text(path)
        return respond.plain(f"There is no handle {name}\n\nUse / for queries and /ping for health checks.\n", 404)
    if method != "POST" and not params.get("query"):
        return respond.plain("Ok.\n")
    return None
