"""Small results over HTTP, with the standard library alone.

A command that looks up a few rows would otherwise spend most of its time on imports: clickhouse-connect and pyarrow
take half a second, and pyarrow imports pandas, where that is installed, to make a Python datetime. The values are those
that Arrow would give; a column of a type that is not listed here is left to Arrow (NotSmall).
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import SplitResult, urlencode, urlsplit

from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.errors import ServerError

__all__ = ["NotSmall", "Parameter", "SmallResults", "proxy_of"]

CONNECT_SECONDS: Final = 10.0

Parameter = str | int | datetime | list[int] | list[str] | None

_FORMAT: Final[Mapping[str, Any]] = {
    "default_format": "JSONCompactEachRowWithNamesAndTypes",
    "output_format_json_quote_decimals": 1,
    "output_format_json_quote_64bit_integers": 0,
    "output_format_decimal_trailing_zeros": 1,
    "date_time_output_format": "simple",
    # The answer begins when the query has ended, so an error always has a status of its own.
    "wait_end_of_query": 1,
}
_PLAIN: Final = re.compile(r"String|Bool|U?Int(?:8|16|32|64)|Nothing")
_DECIMAL: Final = re.compile(r"Decimal\(\d+, \d+\)")
_TIME: Final = "DateTime64(6, 'UTC')"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "'": "\\'"})


class NotSmall(Exception):
    """A column has a type that JSON does not carry exactly, or text that is not UTF-8."""


class SmallResults:
    """One connection, opened when it is needed and kept; not for several threads at once.

    `settings` go with every request. `select` raises NotSmall, ServerError, OSError or http.client.HTTPException.
    """

    def __init__(
        self,
        server: ClickHouseSettings,
        database: str,
        settings: Mapping[str, Any],
        timeout_seconds: float,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._connect_seconds = connect_seconds
        self._url: SplitResult = urlsplit(server.url)
        self._settings = {**settings, **_FORMAT, "database": database}
        self._timeout_seconds = timeout_seconds
        login = base64.b64encode(f"{server.username}:{server.password.get_secret_value()}".encode()).decode("ascii")
        self._headers = {"Authorization": f"Basic {login}", "User-Agent": "meterfold"}
        self._connection: http.client.HTTPConnection | None = None

    @property
    def goes_through_proxy(self) -> bool:
        """Whether the environment names a proxy for such URLs; this module does not speak to proxies."""
        return proxy_of(self._url.geturl()) is not None

    def select(
        self, sql: str, parameters: Mapping[str, Parameter] | None, settings: Mapping[str, Any] | None
    ) -> list[dict[str, Any]]:
        """The rows of a SELECT, as dictionaries of Python values."""
        bound = {f"param_{name}": bind(value) for name, value in (parameters or {}).items()}
        query = urlencode({**self._settings, **(settings or {}), **bound})
        status, code, body = self._post(f"{self._url.path}/?{query}", sql.encode())
        if status != http.client.OK:
            raise _refusal(status, code, body)
        return rows_of(body)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _post(self, target: str, body: bytes) -> tuple[int, str | None, bytes]:
        """(status, ClickHouse's error code, body). The server may have closed a connection that rested: a SELECT can be
        sent again."""
        rested = self._connection is not None
        while True:
            try:
                connection = self._connection = self._connection or self._connect()
                connection.request("POST", target, body, self._headers)
                answer = connection.getresponse()
                return answer.status, answer.headers.get("X-ClickHouse-Exception-Code"), answer.read()
            except (ConnectionError, http.client.RemoteDisconnected, http.client.CannotSendRequest):
                self.close()
                if not rested:
                    raise
                rested = False
            except BaseException:
                self.close()
                raise

    def _connect(self) -> http.client.HTTPConnection:
        secure = self._url.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        port = self._url.port or (8443 if secure else 8123)
        connection = kind(self._url.hostname or "", port, timeout=self._connect_seconds)
        connection.connect()
        opened: socket.socket = connection.sock
        opened.settimeout(self._timeout_seconds)
        return connection


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for such URLs."""
    name = f"{urlsplit(url).scheme}_proxy"
    return os.environ.get(name) or os.environ.get(name.upper()) or None


def rows_of(body: bytes) -> list[dict[str, Any]]:
    """The rows of an answer in JSONCompactEachRowWithNamesAndTypes. Raises NotSmall, or ServerError if it is not such
    answer."""
    try:
        # Not splitlines(): a string may hold U+2028 and other ends of lines as they are.
        lines = body.decode().rstrip("\n").split("\n")
        names, types, *rows = (json.loads(line) for line in lines)
    except UnicodeDecodeError as error:
        raise NotSmall(str(error)) from error
    except ValueError as error:
        raise ServerError(f"the answer is incomplete: {error}") from error
    readers = [reader_of(kind) for kind in types]
    return [{name: read(value) for name, read, value in zip(names, readers, row, strict=True)} for row in rows]


def reader_of(kind: str) -> Callable[[Any], Any]:
    """What makes a Python value of a JSON value of this ClickHouse type. Raises NotSmall for one that is not listed."""
    for wrapper in ("Nullable(", "LowCardinality("):
        if kind.startswith(wrapper):
            inner = reader_of(kind[len(wrapper) : -1])
            return lambda value: None if value is None else inner(value)
    if kind.startswith("Array("):
        element = reader_of(kind[len("Array(") : -1])
        return lambda value: [element(one) for one in value]
    if _PLAIN.fullmatch(kind):
        return lambda value: value
    if _DECIMAL.fullmatch(kind):
        return Decimal
    if kind == "Float64":
        return float
    if kind == _TIME:
        return lambda value: datetime.fromisoformat(value).replace(tzinfo=UTC)
    raise NotSmall(kind)


def bind(value: Parameter) -> str:
    """A parameter's text as ClickHouse reads it: escaped at the top, a literal inside of an array."""
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    if isinstance(value, list):
        return f"[{','.join(_literal(one) for one in value)}]"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def _literal(value: str | int) -> str:
    return f"'{value.translate(_ESCAPES)}'" if isinstance(value, str) else str(value)


def _refusal(status: int, code: str | None, body: bytes) -> ServerError:
    text = body.decode("utf-8", "replace").strip()
    if code is not None and code.isdigit():
        return ServerError(text.removeprefix(f"Code: {code}. "), int(code))
    return ServerError(f"HTTP status {status}: {text}")
