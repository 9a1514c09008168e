"""Connections of the engine: settings, queries, streams, inserts.

A request gets a connection of its own and closes it: opening one costs 0.2 ms, and no setting, parameter or temporary
table of one request can reach another. chDB lets go of the interpreter lock while it works: requests run in parallel.
A connection is used by one thread at a time.

Rows of an INSERT are read by the engine from a file of ours (FROM INFILE). chDB's own streaming insert
(`send_insert`) must not be used: when the table's side fails (a constraint, a default, too many partitions), it
answers "2 rows written", and nothing was written.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from meterfold_local.clickhouse import config
from meterfold_local.clickhouse.errors import QueryError, from_engine

_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
CHUNK = 1 << 20
_TSV_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"}


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one finished statement; rows, bytes."""

    result_rows: int = 0
    result_bytes: int = 0
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0


class EngineResult:
    """A whole result in the engine's memory, given out in pieces without another copy of all of it."""

    def __init__(self, result: Any) -> None:
        self._result = result
        self.statistics = Statistics(
            result_rows=result.rows_read(),
            result_bytes=result.size(),
            read_rows=result.storage_rows_read(),
            read_bytes=result.storage_bytes_read(),
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
        )

    @property
    def size(self) -> int:
        return self.statistics.result_bytes

    def content(self) -> bytes:
        return bytes(self._result.bytes())

    def release(self) -> None:
        """Free the engine's memory."""
        self._result = None

    def chunks(self) -> Iterator[bytes]:
        if self.size <= CHUNK:
            yield self.content()
            return
        memory = self._result.get_memview()
        view = memory.view() if callable(memory.view) else memory.view
        for start in range(0, self.size, CHUNK):
            yield bytes(view[start : start + CHUNK])


class EngineConnection:
    """One connection. Statements are bytes; every method raises QueryError for what the engine reports."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free temporary tables and settings, cancel an open stream."""
        self._connection.close()

    def query(
        self, sql: bytes, output_format: str = "TabSeparated", parameters: Mapping[str, str] | None = None
    ) -> EngineResult:
        """Run one statement and keep its result."""
        try:
            result = self._connection.query(sql, output_format, params=dict(parameters or {}))
        except RuntimeError as error:
            raise from_engine(str(error)) from None
        if result.has_error():
            raise from_engine(result.error_message())
        return EngineResult(result)

    def stream(
        self, sql: bytes, output_format: str, parameters: Mapping[str, str] | None = None
    ) -> Generator[tuple[bytes, int], None, None]:
        """Run a SELECT and give out each block as it comes, with its number of rows."""
        try:
            stream = self._connection.send_query(sql, output_format, params=dict(parameters or {}))
            if stream.has_error():
                raise from_engine(stream.error_message())
            while True:
                block = self._connection.streaming_fetch_result(stream)
                if block.has_error():
                    raise from_engine(block.error_message())
                rows = block.rows_read()
                if rows == 0:
                    return
                yield bytes(block.bytes()), rows
        except RuntimeError as error:
            raise from_engine(str(error)) from None

    def classify(self, sql: bytes) -> tuple[int, str]:
        """How many statements the text holds (0: it can't be parsed) and what the most powerful of them may do:
        READ_ONLY, MUTATING, MUTATING_GLOBAL, CONTROL or UNKNOWN. By the engine's own parser, nothing is run."""
        found = self._connection.classify_query(sql)
        return int(found["statement_count"]), str(found["query_class"].name)

    def formatted(self, sql: bytes) -> bytes:
        """The statement as the engine's formatter writes it: no comments, one way to write each clause. QueryError (62)
        when the parser refuses it."""
        text = sql.decode(errors="surrogateescape")
        # Query parameters are unescaped like fields of TSV.
        escaped = text.translate({ord(char): code for char, code in _TSV_ESCAPES.items()})
        result = self.query(b"SELECT formatQuerySingleLine({statement:String})", "RawBLOB", {"statement": escaped})
        return result.content()

    def database(self) -> str:
        """The current database."""
        name = self.query(b"SELECT currentDatabase()", "RawBLOB").content()
        return name.decode(errors="surrogateescape")

    def use(self, database: str) -> None:
        self.query(b"USE " + quote_identifier(database))

    def apply(self, settings: Mapping[str, str], parameters: Mapping[str, str] | None = None) -> None:
        """Set settings, and parameters for statements that chDB takes none for, on this connection."""
        pairs = [(name, value) for name, value in settings.items()]
        pairs += [(f"param_{name}", value) for name, value in (parameters or {}).items()]
        if not pairs:
            return
        for name, _ in pairs:
            if not _SETTING.fullmatch(name):
                raise QueryError(115, f"Unknown setting {name!r}")
        self.query(b"SET " + b", ".join(name.encode() + b" = " + quote_string(value) for name, value in pairs))

    def current(self, names: Iterable[str]) -> dict[str, str]:
        """The values that these settings have now."""
        found = {}
        for name in names:
            value = self.query(b"SELECT toString(getSetting(" + quote_string(name) + b"))", "RawBLOB").content()
            found[name] = value.decode(errors="surrogateescape")
        return found


class Engine:
    """The one engine of this process, open as long as this object. The working directory must be the data folder."""

    def __init__(self) -> None:
        # Importing chDB opens an engine of its own for a moment, which reads ./config.xml: hence not at import time.
        from chdb import _chdb

        self._chdb: Any = _chdb
        self._source = config.connection_string()
        self._keeper = self._chdb.connect(self._source)
        self._shadow_file_function()
        connection = EngineConnection(self._keeper)
        lines = connection.query(b"SELECT name FROM system.formats WHERE is_output").content().split()
        self.output_formats = frozenset(lines)
        version, timezone = connection.query(b"SELECT version(), timezone()").content().split()
        self.version = version.decode()
        self.timezone = timezone.decode()

    def open(self, *, readonly: bool = False) -> EngineConnection:
        """A fresh connection; `readonly` refuses every write, also by SET."""
        try:
            return EngineConnection(self._chdb.connect(self._source + ("&readonly=2" if readonly else "")))
        except RuntimeError as error:
            raise from_engine(str(error)) from None

    def cancel_all(self) -> None:
        """Ask every running statement to end."""
        with self.open() as connection:
            connection.query(b"KILL QUERY WHERE query_id != queryID() ASYNC")

    def close(self) -> None:
        """Let the engine shut down; it does when the last connection is closed."""
        self._keeper.close()

    def _shadow_file_function(self) -> None:
        # The scalar function file('/etc/passwd') needs no grant in chDB, also in the rows of INSERT ... VALUES. A
        # function of ours with its name takes its place.
        self._chdb.create_function("file", _refuse_file, ["String"], "String")


def _refuse_file(_path: str) -> str:
    raise PermissionError("file() is not available on this server")


def quote_string(value: str) -> bytes:
    r"""A string literal; `\` and `'` are escaped."""
    raw = value.encode(errors="surrogateescape")
    return b"'" + raw.replace(b"\\", b"\\\\").replace(b"'", b"\\'") + b"'"


def quote_identifier(value: str) -> bytes:
    """A name in backticks."""
    return b"`" + value.encode(errors="surrogateescape").replace(b"\\", b"\\\\").replace(b"`", b"\\`") + b"`"
