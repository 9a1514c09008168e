"""One request, from its bytes to the answer's: a WSGI application.

Order: who asks, what is asked, the body to its last byte, and only then the engine (execute.py). An error that comes
before the first byte of the answer has a status of its own.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from meterfold_local.clickhouse import blocks, multipart, request, respond
from meterfold_local.clickhouse.auth import Account
from meterfold_local.clickhouse.body import Body
from meterfold_local.clickhouse.compression import decompress
from meterfold_local.clickhouse.engine import Engine
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.execute import Executor
from meterfold_local.clickhouse.respond import Facts, Response

HTTP_REQUEST = "meterfold.http_request"
"""Where the server puts cheroot's request object into the environment."""

StartResponse = Callable[[str, list[tuple[str, str]]], object]


class App:
    """The WSGI application. `close` after the last request."""

    def __init__(self, engine: Engine, account: Account) -> None:
        self._engine = engine
        self._account = account
        self._executor = Executor(engine)
        self._host = respond.header_text(socket.gethostname())

    def close(self) -> None:
        self._executor.close()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        http_request = environ[HTTP_REQUEST]
        # What the answer needs until its last byte is out: the connection, the session, files.
        held = contextlib.ExitStack()
        try:
            response = self._answer(environ, held)
        except BaseException:
            held.close()
            raise
        if response.close:
            http_request.close_connection = True
        headers = list(response.headers)
        if response.length is not None:
            headers.append(("Content-Length", str(response.length)))
        start_response(response.status_line, headers)
        body = () if environ["REQUEST_METHOD"] == "HEAD" else response.body
        return _Sending(body, held, http_request)

    def _answer(self, environ: dict[str, Any], held: contextlib.ExitStack) -> Response:
        headers = header_fields(environ)
        params = request.url_parameters(environ.get("QUERY_STRING", ""))
        method = environ["REQUEST_METHOD"]
        facts = Facts(
            params.get("query_id") or str(uuid.uuid4()), self._host, self._engine.timezone, self._engine.version
        )
        chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = None if chunked else int(headers.get("content-length") or 0)
        body = Body(environ["wsgi.input"], length, chunked=chunked)
        try:
            response = _without_engine(method, environ.get("PATH_INFO", "/"), params)
            if response is None:
                self._account.check(headers, params)
                if method == "POST" and not chunked and "content-length" not in headers:
                    raise QueryError(381, "There is neither Transfer-Encoding: chunked nor a Content-Length header")
                response = self._query(method, headers, params, body, facts, held)
            body.drain()
            return response
        except QueryError as problem:
            held.close()
            body.drain()
            return respond.error(problem, facts, close=body.broken)
        except Exception:
            held.close()
            traceback.print_exc(file=sys.stderr)
            failure = QueryError(1001, "the server failed; its log says where", "STD_EXCEPTION")
            return respond.error(failure, facts, close=True)

    def _query(
        self,
        method: str,
        headers: dict[str, str],
        params: dict[str, str],
        body: Body,
        facts: Facts,
        held: contextlib.ExitStack,
    ) -> Response:
        kind = headers.get("content-type", "")
        if not multipart.is_multipart(kind):
            asked = request.parse(method, headers, params)
            content: Iterator[bytes] = decompress(body, asked.content_encoding)
            if asked.decompress:
                content = blocks.decoded(content)
            return self._executor.run(asked, content, [], facts, held)
        whole = b"".join(decompress(body, headers.get("content-encoding", "").strip().lower()))
        parts = multipart.parse(kind, whole)
        fields = {part.name: part.content.decode(errors="surrogateescape") for part in parts if not part.is_file}
        asked = request.parse(method, headers, {**params, **fields}, multipart=True)
        return self._executor.run(asked, iter(()), [part for part in parts if part.is_file], facts, held)


class _Sending:
    """The body on its way; `close`, which cheroot always calls, lets go of what it needed."""

    def __init__(self, body: Iterable[bytes], held: contextlib.ExitStack, http_request: Any) -> None:
        self._body = body
        self._held = held
        self._http_request = http_request

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except respond.BrokenOff:
            # The trailer that says why is out. Without a last chunk the client knows that the body is no whole one.
            self._http_request.close_connection = True
            self._http_request.chunked_write = False

    def close(self) -> None:
        self._held.close()


def header_fields(environ: dict[str, Any]) -> dict[str, str]:
    """The request's headers by name in lower case; WSGI's Latin-1 as the UTF-8 that clients send."""
    fields = {name.removeprefix("HTTP_"): value for name, value in environ.items() if name.startswith("HTTP_")}
    fields |= {name: environ[name] for name in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(name)}
    return {
        name.replace("_", "-").lower(): str(value).encode("latin-1", "replace").decode(errors="surrogateescape")
        for name, value in fields.items()
    }


def _without_engine(method: str, path: str, params: dict[str, str]) -> Response | None:
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
