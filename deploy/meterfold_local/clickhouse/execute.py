"""Runs a request: finds the statement and the rows, gets a connection, asks the engine."""

from __future__ import annotations

import itertools
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from meterfold_local.clickhouse import blocks, config, respond, statement
from meterfold_local.clickhouse.arrow_stream import ArrowStreamJoiner
from meterfold_local.clickhouse.compression import decompress
from meterfold_local.clickhouse.engine import (
    CHUNK,
    Engine,
    EngineConnection,
    EngineResult,
    Statistics,
    quote_identifier,
)
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.request import Request
from meterfold_local.clickhouse.respond import Facts, Response
from meterfold_local.clickhouse.sessions import Session, Sessions

HEAD_BYTES = 128 * 1024
"""How much of a body is searched for the start of an INSERT's rows; more for a longer statement."""
MAX_INSERT_HEAD = 8 << 20
MAX_STATEMENT = 256 << 20
SENT_AFTER = 1 << 20
"""This much of a streamed result is kept back, so that an early error has a status of its own."""
BUFFERED_IN_MEMORY = 32 << 20
"""Of a result with wait_end_of_query; a larger one waits in a file."""

_WITH_RESULT = frozenset(
    {b"SELECT", b"WITH", b"FROM", b"VALUES", b"SHOW", b"DESCRIBE", b"DESC", b"EXISTS", b"EXPLAIN", b"CHECK", b"KILL"}
)
_STREAMED = frozenset({b"SELECT", b"WITH"})
_FORMAT_NAME = re.compile(r"\w+")
_TEMPORARY = re.compile(rb"\bTEMP(?:ORARY)?\b", re.IGNORECASE)
_FILE_CLAUSE = re.compile(rb"INFILE|OUTFILE", re.IGNORECASE)
_READS_ONLY = ("READ_ONLY", "CONTROL")
"""Classes of statements for a request that may only read. The engine counts BACKUP and RESTORE among the second."""


@dataclass(frozen=True, slots=True)
class ExternalTable:
    """Rows that came with a query; `description` has their format, and their structure or types."""

    name: str
    rows: IO[bytes]
    description: Mapping[str, str]


class Executor:
    """Runs requests, from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions = Sessions()

    def close(self) -> None:
        self._sessions.close()

    def run(
        self, asked: Request, body: IO[bytes], tables: list[ExternalTable], facts: Facts, held: ExitStack
    ) -> Response:
        """Answer one request. What the response needs while it is sent is put into `held`."""
        content = decompress(iter(lambda: body.read(CHUNK), b""), asked.content_encoding)
        if asked.decompress:
            content = blocks.decoded(content)
        text = _Text(asked.query.encode(errors="surrogateescape"), content)
        insert = _insert(text)
        session = held.enter_context(self._sessions.lease(asked.session)) if asked.session is not None else None
        if insert is not None:
            # Every row is here and decompressed before the engine is asked anything.
            with _spooled(text.rest(insert.rows_at)) as path:
                connection = self._connection(asked, session, held, leaves_state=False)
                _check(asked, connection, insert.statement)
                # chDB hands the parameters of a call to the statement's text only when they are set before, too.
                connection.apply({}, asked.parameters)
                result = connection.query(insert.from_file(path), "TabSeparated", asked.parameters)
            return respond.whole(200, facts.headers(None, result.statistics), b"")
        text.want(MAX_STATEMENT)
        if not text.ended:
            raise QueryError(62, f"Syntax error: the statement is longer than {MAX_STATEMENT} bytes")
        return self._run_statement(asked, text.seen, session, tables, facts, held)

    def _run_statement(
        self,
        asked: Request,
        sql: bytes,
        session: Session | None,
        tables: list[ExternalTable],
        facts: Facts,
        held: ExitStack,
    ) -> Response:
        word = statement.first_word(sql)
        leaves_state = word in (b"SET", b"USE") or _TEMPORARY.search(sql) is not None
        connection = self._connection(asked, session, held, leaves_state=leaves_state)
        query_class = _check(asked, connection, sql)
        for table in tables:
            _create_external_table(table, connection, held)
        output_format = statement.output_format(sql, self._engine.output_formats)
        if output_format is None:
            output_format = asked.default_format.encode(errors="replace") or b"TabSeparated"
        if word in _STREAMED and query_class == "READ_ONLY":
            if output_format in respond.STREAMED_FORMATS:
                return _stream(asked, connection, sql, output_format, facts, held)
            if output_format == b"ArrowStream":
                found = connection.stream(sql, "ArrowStream", asked.parameters)
                held.callback(found.close)
                first = next(found, None)
                if first is not None:
                    return _sent(asked, _joined(itertools.chain([first], found)), output_format, facts, held)
                result = self._without_rows(asked, connection, sql)
                held.callback(result.release)
                headers = facts.headers(output_format, result.statistics)
                return respond.content(iter([asked.packed(result.content())]), None, headers, asked.response_encodings)
        result = connection.query(sql, output_format.decode(errors="replace"), asked.parameters)
        held.callback(result.release)
        headers = facts.headers(output_format if word in _WITH_RESULT else None, result.statistics)
        if not result.size or not asked.repacks(output_format):
            return respond.content(result.chunks(), result.size, headers, asked.response_encodings)
        # Native is rewritten by whole blocks, so not in pieces.
        chunks = iter((result.content(),)) if output_format == b"Native" else result.chunks()
        packed = (asked.packed(chunk, output_format) for chunk in chunks)
        return respond.content(packed, None, headers, asked.response_encodings)

    def _without_rows(self, asked: Request, connection: EngineConnection, sql: bytes) -> EngineResult:
        """The ArrowStream of a SELECT that gave no block, which has only the schema."""
        try:
            short = statement.without_rows(sql, self._engine.output_formats)
            return connection.query(short, "ArrowStream", asked.parameters)
        except QueryError:  # two columns of one name, for example
            return connection.query(sql, "ArrowStream", asked.parameters)

    def _connection(
        self, asked: Request, session: Session | None, held: ExitStack, *, leaves_state: bool
    ) -> EngineConnection:
        """The session's connection if it has one, else a new one; with the request's database and settings."""
        if session is not None and session.connection is None and leaves_state and not asked.readonly:
            session.connection = self._engine.open()
        if session is not None and session.connection is not None:
            connection = session.connection
            # A request's settings end with it; what it SETs stays.
            held.callback(connection.apply, connection.current(asked.settings))
            if asked.database and not leaves_state:
                held.callback(connection.use, connection.database())
        else:
            connection = held.enter_context(self._engine.open(readonly=asked.readonly))
        if asked.database:
            connection.use(asked.database)
        connection.apply(asked.settings)
        return connection


class _Text:
    """The statement from the URL with the body behind it, as a stream whose first bytes are in view."""

    def __init__(self, query: bytes, pieces: Iterator[bytes]) -> None:
        self.seen = b""
        self.ended = False
        self._pieces = pieces
        self.want(1)
        self.seen = query + b"\n" * bool(query and self.seen) + self.seen

    def want(self, size: int) -> None:
        """See at least this many bytes, or the end."""
        parts, total = [self.seen], len(self.seen)
        while total < size and not self.ended:
            piece = next(self._pieces, None)
            if piece is None:
                self.ended = True
            else:
                parts.append(piece)
                total += len(piece)
        self.seen = b"".join(parts)

    def rest(self, start: int) -> Iterator[bytes]:
        """Everything from this byte of `seen` on."""
        yield self.seen[start:]
        yield from self._pieces


def _insert(text: _Text) -> statement.Insert | None:
    """The INSERT with rows that the text starts with; sees as much of it as that needs."""
    size = HEAD_BYTES
    while True:
        text.want(size)
        found = statement.insert_of(text.seen)
        # A name at the very end of what is seen may continue behind it.
        certain = found is not None and found.rows_at < len(text.seen)
        if text.ended or certain or size >= MAX_INSERT_HEAD or statement.first_word(text.seen) != b"INSERT":
            return found
        size *= 4


@contextmanager
def _spooled(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The path of a file with these rows, for the engine to read."""
    # A name without quotes or wildcards, relative: no character of the folder's path reaches the statement.
    path = Path(config.SPOOL_FOLDER, secrets.token_hex(12))
    try:
        with path.open("xb") as file:
            file.writelines(pieces)
        yield str(path).encode()
    finally:
        path.unlink(missing_ok=True)


def _check(asked: Request, connection: EngineConnection, sql: bytes) -> str:
    """Raise QueryError unless the text is one statement that this request may run; returns the engine's class of it.
    `sql` has no rows of an INSERT behind it."""
    count, query_class = connection.classify(sql)
    if count > 1:
        raise QueryError(62, "Syntax error (Multi-statements are not allowed)")
    if count == 0:
        connection.formatted(sql)  # raises the parser's own message
        raise QueryError(62, "Syntax error: not a statement of SQL")
    if _FILE_CLAUSE.search(sql) and (clause := statement.file_clause(connection.formatted(sql))):
        # The one way to a file that the engine's access control does not know (see config.py).
        raise QueryError(497, f"{clause} is not available on this server: it uses no files outside its data folder")
    if asked.readonly and (query_class not in _READS_ONLY or statement.first_word(sql) in (b"BACKUP", b"RESTORE")):
        raise QueryError(
            164,
            "default: Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. You "
            "should use method POST for modifying queries",
        )
    return query_class


def _create_external_table(table: ExternalTable, connection: EngineConnection, held: ExitStack) -> None:
    input_format = table.description.get("format", "TabSeparated")
    if not _FORMAT_NAME.fullmatch(input_format):
        raise QueryError(73, f"Unknown format {input_format}", "UNKNOWN_FORMAT")
    name = quote_identifier(table.name)
    create = b"CREATE TEMPORARY TABLE %s (%s) ENGINE = Memory" % (name, statement.structure(table.description))
    if connection.classify(create)[0] > 1:
        raise QueryError(62, "Syntax error (Multi-statements are not allowed)")
    connection.query(create)
    held.callback(connection.query, b"DROP TEMPORARY TABLE IF EXISTS " + name)
    with _spooled(iter(lambda: table.rows.read(CHUNK), b"")) as path:
        connection.query(b"INSERT INTO %s FROM INFILE '%s' FORMAT %s" % (name, path, input_format.encode()))


def _stream(
    asked: Request, connection: EngineConnection, sql: bytes, output_format: bytes, facts: Facts, held: ExitStack
) -> Response:
    found = connection.stream(sql, output_format.decode(), asked.parameters)
    held.callback(found.close)
    return _sent(asked, found, output_format, facts, held)


def _joined(found: Iterator[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    joiner = ArrowStreamJoiner()
    for block, rows in found:
        yield joiner.join(block), rows
    yield joiner.finish(), 0


def _sent(
    asked: Request, found: Iterator[tuple[bytes, int]], output_format: bytes, facts: Facts, held: ExitStack
) -> Response:
    """The blocks, with their numbers of rows, as a response: whole when they are few, otherwise while they come."""
    kept: list[bytes] = []
    size = rows = 0
    for block, count in found:
        kept.append(asked.packed(block, output_format))
        size += len(kept[-1])
        rows += count
        if size > SENT_AFTER:
            break
    else:
        headers = facts.headers(output_format, Statistics(result_rows=rows, result_bytes=size))
        return respond.content(kept, size, headers, asked.response_encodings)
    rest = (asked.packed(block, output_format) for block, _ in found)
    if asked.buffered:
        file = held.enter_context(tempfile.SpooledTemporaryFile(BUFFERED_IN_MEMORY, dir=config.SPOOL_FOLDER))  # noqa: SIM115
        for chunks in (kept, rest):
            file.writelines(chunks)
        size = file.tell()
        file.seek(0)
        headers = facts.headers(output_format, Statistics(result_bytes=size))
        return respond.content(iter(lambda: file.read(CHUNK), b""), size, headers, asked.response_encodings)
    headers = facts.headers(output_format, Statistics(result_rows=rows, result_bytes=size))
    return respond.stream(kept, rest, headers, asked.response_encodings, facts.version, pack=asked.packed)
