"""What a request asks for: URL parameters and headers sorted into query, settings, parameters and the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from meterfold_local.clickhouse import blocks, native
from meterfold_local.clickhouse.errors import QueryError

DEFAULT_SESSION_SECONDS = 60
MAX_SESSION_SECONDS = 3600

# Consumed here, never a setting of the engine.
TRANSPORT = frozenset(
    {
        *("query", "database", "default_format", "query_id", "user", "password", "quota_key", "role"),
        *("session_id", "session_timeout", "session_check", "close_session"),
        *("compress", "decompress", "stacktrace", "buffer_size", "wait_end_of_query", "client_protocol_version"),
        # Settings of ClickHouse's own HTTP server: they mean nothing to an engine without one.
        *("enable_http_compression", "http_zlib_compression_level", "send_progress_in_http_headers"),
        *("http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close"),
        *("add_http_cors_header", "http_wait_end_of_query", "http_response_buffer_size"),
    }
)

_EXTERNAL = re.compile(r"(.+)_(format|types|structure)")
_TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """`session_id` and what came with it; the timeout in seconds."""

    id: str
    timeout: int
    must_exist: bool
    close: bool


@dataclass(frozen=True, slots=True)
class Request:
    """Everything but the body. Text is UTF-8 with surrogate escapes, so that bytes survive."""

    method: str
    query: str
    database: str
    default_format: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    session: SessionRequest | None
    content_encoding: str
    response_encodings: str
    """The client's Accept-Encoding, "" when the response must stay plain."""
    buffered: bool
    """wait_end_of_query: nothing is sent before the statement has ended."""
    compress: bool
    """The result in ClickHouse's own compressed blocks."""
    decompress: bool
    """The body comes in them."""
    revision: int
    """client_protocol_version: the revision of the Native format that the client reads."""
    external: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Per external table: its format, types or structure."""

    @property
    def readonly(self) -> bool:
        """GET and HEAD never write."""
        return self.method in ("GET", "HEAD")

    def repacks(self, output_format: bytes) -> bool:
        """Is a result in this format sent otherwise than the engine writes it?"""
        return self.compress or (output_format == b"Native" and self.revision >= native.CUSTOM_SERIALIZATION)

    def packed(self, chunk: bytes, output_format: bytes = b"") -> bytes:
        """A piece of a result, whole blocks of it in Native, as this client reads it."""
        if output_format == b"Native" and self.revision >= native.CUSTOM_SERIALIZATION:
            chunk = native.rewritten(chunk)
        return blocks.encoded(chunk) if self.compress else chunk


def url_parameters(query_string: bytes) -> dict[str, str]:
    """The parameters of a URL; the last of a name wins."""
    text = query_string.decode(errors="surrogateescape")
    return dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))


def parse(method: str, headers: Mapping[str, str], params: Mapping[str, str], *, multipart: bool = False) -> Request:
    """Sort them; QueryError when a value is invalid. Header names in lower case. With a multipart body, parameters
    that end like a description of an external table are one."""
    if params.get("role"):
        raise QueryError(512, f"Role {params['role']} should be granted to set as current")
    external: dict[str, dict[str, str]] = {}
    settings: dict[str, str] = {}
    parameters: dict[str, str] = {}
    for name, value in params.items():
        described = _EXTERNAL.fullmatch(name) if multipart else None
        if name.startswith("param_"):
            parameters[name.removeprefix("param_")] = value
        elif name in TRANSPORT or not name:
            continue
        elif described is not None:
            external.setdefault(described.group(1), {})[described.group(2)] = value
        else:
            settings[name] = value

    def is_set(name: str, default: str = "0") -> bool:
        return (params.get(name) or default).lower() in _TRUE

    return Request(
        method=method,
        query=params.get("query", ""),
        database=headers.get("x-clickhouse-database") or params.get("database", ""),
        default_format=headers.get("x-clickhouse-format") or params.get("default_format", ""),
        settings=settings,
        parameters=parameters,
        session=_session(params),
        content_encoding=headers.get("content-encoding", "").strip().lower(),
        response_encodings=headers.get("accept-encoding", "") if is_set("enable_http_compression", "1") else "",
        buffered=is_set("wait_end_of_query", params.get("http_wait_end_of_query", "0")),
        compress=is_set("compress"),
        decompress=is_set("decompress"),
        revision=_number(params.get("client_protocol_version", "0"), 36, "Invalid client_protocol_version"),
        external=external,
    )


def _session(params: Mapping[str, str]) -> SessionRequest | None:
    name = params.get("session_id", "")
    if not name:
        return None
    seconds = _number(params.get("session_timeout", str(DEFAULT_SESSION_SECONDS)), 374, "Invalid session timeout")
    if seconds > MAX_SESSION_SECONDS:
        raise QueryError(374, f"Session timeout '{seconds}' is larger than max_session_timeout: {MAX_SESSION_SECONDS}")
    return SessionRequest(name, seconds, params.get("session_check") == "1", params.get("close_session") == "1")


def _number(text: str, code: int, message: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise QueryError(code, f"{message}: '{text}'")
    return int(text)
