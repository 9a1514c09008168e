"""Running what was asked: finds the statement and the rows, gets a connection, asks the guard, then the engine."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterable, Iterator

from meterfold_local.clickhouse import config, guard, multipart, respond, statement
from meterfold_local.clickhouse.body import Head, SpoolFile
from meterfold_local.clickhouse.engine import CHUNK, Engine, Session, Statistics, quote_identifier
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.request import Request
from meterfold_local.clickhouse.respond import Facts, Response
from meterfold_local.clickhouse.sessions import Session as HttpSession
from meterfold_local.clickhouse.sessions import Sessions

HEAD_BYTES = 128 * 1024
"""How much of a body is looked at to find where an INSERT's rows begin; more for a longer statement."""
MAX_INSERT_HEAD = 8 << 20
MAX_STATEMENT = 256 << 20
SENT_AFTER = 1 << 20
"""This much of a streamed result is kept back, so that an early error still has a status of its own."""
BUFFERED_IN_MEMORY = 32 << 20
"""Of a result with wait_end_of_query; the rest waits in a file."""

_WITH_RESULT = frozenset(
    {b"SELECT", b"WITH", b"FROM", b"VALUES", b"SHOW", b"DESCRIBE", b"DESC", b"EXISTS", b"EXPLAIN", b"CHECK", b"KILL"}
)
_STREAMED = frozenset({b"SELECT", b"WITH"})
_FORMAT_NAME = re.compile(r"\w+")
_TEMPORARY = re.compile(rb"\bTEMP(?:ORARY)?\b", re.IGNORECASE)


class Executor:
    """Runs requests, from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.sessions = Sessions()

    def close(self) -> None:
        self.sessions.close()

    def run(
        self,
        asked: Request,
        body: Iterator[bytes],
        tables: list[multipart.Part],
        facts: Facts,
        held: contextlib.ExitStack,
    ) -> Response:
        """Answer one request. What the response needs while it is sent is put into `held`."""
        query = asked.query.encode(errors="surrogateescape")
        head = Head(b"", body)
        head.want(1)
        if query and head.seen:
            query += b"\n"
        head.seen = query + head.seen
        insert = _insert(head)
        session = held.enter_context(self.sessions.lease(asked.session)) if asked.session is not None else None
        if insert is not None:
            # Every row is here before the engine is asked anything.
            with SpoolFile() as rows:
                rows.fill(head.rest(insert.rows_at))
                connection = self._connection(asked, session, held, leaves_state=False)
                _check(asked, connection, insert.statement)
                # chDB hands parameters of the call to the statement's text only when they are set before, too.
                connection.apply({}, asked.parameters)
                result = connection.query(insert.from_file(rows.path.encode()), "TabSeparated", asked.parameters)
            return respond.content((), 0, _headers(facts, None, result.statistics), "")
        sql = _whole(head)
        word = statement.first_word(sql)
        leaves_state = word in (b"SET", b"USE") or _TEMPORARY.search(sql) is not None
        connection = self._connection(asked, session, held, leaves_state=leaves_state)
        query_class = _check(asked, connection, sql)
        for table in tables:
            _external_table(asked, connection, table, held)
        output_format = statement.output_format(sql, self._engine.output_formats)
        if output_format is None:
            output_format = asked.default_format.encode(errors="replace") or b"TabSeparated"
        if word in _STREAMED and query_class == "READ_ONLY" and output_format in respond.STREAMED_FORMATS:
            return self._stream(asked, connection, sql, output_format, facts, held)
        result = connection.query(sql, output_format.decode(errors="replace"), asked.parameters)
        held.callback(result.release)
        shown = output_format if word in _WITH_RESULT else None
        headers = _headers(facts, shown, result.statistics)
        if not result.size or not asked.repacks(output_format):
            return respond.content(result.chunks(), result.size, headers, asked.response_encodings)
        # Native is rewritten by whole blocks, so not in pieces.
        chunks = iter((result.content(),)) if output_format == b"Native" else result.chunks()
        packed = (asked.packed(chunk, output_format) for chunk in chunks)
        return respond.content(packed, None, headers, asked.response_encodings)

    def _stream(
        self,
        asked: Request,
        connection: Session,
        sql: bytes,
        output_format: bytes,
        facts: Facts,
        held: contextlib.ExitStack,
    ) -> Response:
        blocks = connection.stream(sql, output_format.decode(), asked.parameters)
        held.callback(blocks.close)
        kept: list[bytes] = []
        size = rows = 0
        for block, count in blocks:
            kept.append(asked.packed(block, output_format))
            size += len(kept[-1])
            rows += count
            if size > SENT_AFTER:
                break
        else:
            headers = _headers(facts, output_format, Statistics(result_rows=rows, result_bytes=size))
            return respond.content(kept, size, headers, asked.response_encodings)
        rest = (asked.packed(block, output_format) for block, _ in blocks)
        if asked.buffered:
            return _buffered(asked, kept, rest, output_format, facts, held)
        headers = _headers(facts, output_format, Statistics(result_rows=rows, result_bytes=size))
        return respond.stream(kept, rest, headers, asked.response_encodings, facts.version, pack=asked.packed)

    def _connection(
        self, asked: Request, session: HttpSession | None, held: contextlib.ExitStack, *, leaves_state: bool
    ) -> Session:
        """The session's connection where there is one, else a fresh one; with the request's database and settings."""
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


def _check(asked: Request, connection: Session, sql: bytes) -> str:
    query_class = guard.check(connection, sql)
    if asked.readonly and query_class not in ("READ_ONLY", "CONTROL"):
        raise QueryError(
            164,
            "default: Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. You "
            "should use method POST for modifying queries",
        )
    return query_class


def _insert(head: Head) -> statement.Insert | None:
    """The INSERT with rows that the text starts with; sees as much of it as that needs."""
    size = HEAD_BYTES
    while True:
        head.want(size)
        found = statement.insert_of(head.seen)
        # A name at the very end of what is seen may go on behind it.
        certain = found is not None and found.rows_at < len(head.seen)
        if head.ended or certain or size >= MAX_INSERT_HEAD or not statement.is_insert(head.seen):
            return found
        size *= 4


def _whole(head: Head) -> bytes:
    """A statement to its end."""
    head.want(MAX_STATEMENT)
    if not head.ended:
        raise QueryError(62, f"Syntax error: the statement is longer than {MAX_STATEMENT} bytes")
    return head.seen


def _external_table(asked: Request, connection: Session, table: multipart.Part, held: contextlib.ExitStack) -> None:
    description = asked.external.get(table.name, {})
    input_format = description.get("format", "TabSeparated")
    if not _FORMAT_NAME.fullmatch(input_format):
        raise QueryError(73, f"Unknown format {input_format}", "UNKNOWN_FORMAT")
    create = multipart.create_statement(table.name, description)
    guard.check(connection, create)
    connection.query(create)
    held.callback(connection.query, b"DROP TEMPORARY TABLE IF EXISTS " + quote_identifier(table.name))
    with SpoolFile() as rows:
        rows.fill(iter((table.content,)))
        connection.query(
            b"INSERT INTO %s FROM INFILE '%s' FORMAT %s"
            % (quote_identifier(table.name), rows.path.encode(), input_format.encode())
        )


def _buffered(
    asked: Request,
    kept: list[bytes],
    rest: Iterable[bytes],
    output_format: bytes,
    facts: Facts,
    held: contextlib.ExitStack,
) -> Response:
    """The whole result before the first byte is sent: small in memory, large in a file."""
    file = held.enter_context(
        tempfile.SpooledTemporaryFile(max_size=BUFFERED_IN_MEMORY, dir=config.SPOOL_FOLDER)  # noqa: SIM115
    )
    for chunks in (kept, rest):
        for chunk in chunks:
            file.write(chunk)
    size = file.tell()
    file.seek(0)
    headers = _headers(facts, output_format, Statistics(result_bytes=size))
    return respond.content(iter(lambda: file.read(CHUNK), b""), size, headers, asked.response_encodings)


def _headers(facts: Facts, output_format: bytes | None, statistics: Statistics) -> list[tuple[str, str]]:
    kind = respond.content_type(output_format) if output_format is not None else "text/plain; charset=UTF-8"
    return [("Content-Type", kind), *facts.headers(output_format, statistics)]
