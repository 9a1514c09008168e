"""Requests, bodies, compression, sessions, accounts and errors of the ClickHouse server, without a server."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zlib
from collections.abc import Iterator

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from meterfold_local.clickhouse import compression, config, errors, multipart, request, respond
from meterfold_local.clickhouse.auth import Account
from meterfold_local.clickhouse.body import Body, Head, ShortBody
from meterfold_local.clickhouse.engine import Statistics, quote_identifier, quote_string
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.lexer import tokens
from meterfold_local.clickhouse.request import SessionWish
from meterfold_local.clickhouse.respond import Facts
from meterfold_local.clickhouse.sessions import Sessions

PACK = {
    "lz4": lz4.frame.compress,
    "zstd": zstandard.compress,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


# Compression


@given(st.lists(st.binary(max_size=500), max_size=4), st.sampled_from(sorted(PACK)), st.integers(1, 700))
def test_frames_behind_each_other_in_any_pieces(parts: list[bytes], encoding: str, size: int) -> None:
    body = b"".join(PACK[encoding](part) for part in parts)
    assert b"".join(compression.decompress(pieces(body, size), encoding)) == b"".join(parts)


@pytest.mark.parametrize("encoding", sorted(PACK))
@pytest.mark.parametrize("cut", [1, 5, 40])
def test_body_that_ends_inside_of_a_frame(encoding: str, cut: int) -> None:
    body = PACK[encoding](bytes(range(256)) * 20)[:-cut]
    with pytest.raises(QueryError) as damaged:
        list(compression.decompress([body], encoding))
    assert damaged.value.code == 271


def test_unknown_encoding() -> None:
    with pytest.raises(QueryError, match="lz4, zstd, gzip, deflate"):
        list(compression.decompress([b"x"], "snail"))


@pytest.mark.parametrize("encoding", compression.CHOICES)
@pytest.mark.parametrize("chunks", [[], [b""], [b"a"], [b"one", b"", b"two" * 10_000]])
def test_encoder_writes_one_frame(encoding: str, chunks: list[bytes]) -> None:
    content = b"".join(respond.encoded(chunks, encoding))
    assert b"".join(compression.decompress([content], encoding)) == b"".join(chunks)


@pytest.mark.parametrize(
    ("accepted", "choice"),
    [
        ("", None),
        ("identity", None),
        ("gzip, deflate, br", "gzip"),
        ("zstd;q=0.5, LZ4", "lz4"),
        ("lz4;q=0,gzip", "gzip"),
    ],
)
def test_choice_of_an_encoding(accepted: str, choice: str | None) -> None:
    assert compression.choose(accepted) == choice


# Bodies


def test_body_of_a_known_length() -> None:
    assert b"".join(Body(io.BytesIO(b"12345"), 5, chunked=False)) == b"12345"
    short = Body(io.BytesIO(b"1234"), 5, chunked=False)
    with pytest.raises(ShortBody, match="4 of 5 bytes"):
        list(short)
    assert short.broken
    assert list(Body(io.BytesIO(b"x"), 0, chunked=False)) == []


def test_body_whose_connection_breaks() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionResetError("peer")

    body = Body(Broken(), 5, chunked=False)
    with pytest.raises(ShortBody):
        list(body)
    body.drain()
    assert body.broken


def test_head_shows_the_start_and_loses_nothing() -> None:
    head = Head(b"ab", iter([b"cd", b"ef", b"gh"]))
    head.want(3)
    assert (head.seen, head.ended) == (b"abcd", False)
    assert b"".join(head.rest(1)) == b"bcdefgh"
    whole = Head(b"", iter([b"x"]))
    whole.want(10)
    assert (whole.seen, whole.ended) == (b"x", True)


# Requests


def test_parameters_are_sorted() -> None:
    params = request.url_parameters(
        "query=SELECT+1%3B&param_x=a%26b&max_threads=2&database=d&query_id=q&&wait_end_of_query=1"
    )
    asked = request.parse("POST", {"accept-encoding": "lz4"}, params)
    assert asked.query == "SELECT 1;"
    assert asked.parameters == {"x": "a&b"}
    assert asked.settings == {"max_threads": "2"}
    assert (asked.database, asked.buffered, asked.readonly, asked.session) == ("d", True, False, None)
    assert asked.response_encodings == "lz4"
    assert request.parse("POST", {"accept-encoding": "lz4"}, {"enable_http_compression": "0"}).response_encodings == ""
    assert request.parse("GET", {}, {}).readonly


def test_headers_go_before_parameters() -> None:
    asked = request.parse(
        "POST",
        {"x-clickhouse-database": "h", "x-clickhouse-format": "CSV"},
        {"database": "p", "default_format": "JSON"},
    )
    assert (asked.database, asked.default_format) == ("h", "CSV")


def test_bytes_that_are_no_utf8_survive() -> None:
    params = request.url_parameters("query=%ff%fe")
    assert params["query"].encode(errors="surrogateescape") == b"\xff\xfe"


def test_session_wish() -> None:
    asked = request.parse("POST", {}, {"session_id": "s", "session_timeout": "5", "session_check": "1"})
    assert asked.session == SessionWish("s", 5, True, False)
    for timeout in ("-1", "x", "3601", "\u0661"):
        with pytest.raises(QueryError) as wrong:
            request.parse("POST", {}, {"session_id": "s", "session_timeout": timeout})
        assert wrong.value.code == 374


def test_role_that_nobody_granted() -> None:
    with pytest.raises(QueryError) as wrong:
        request.parse("POST", {}, {"role": "admin"})
    assert wrong.value.code == 512


# Accounts


def basic(text: bytes) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text).decode()}


@pytest.mark.parametrize(
    ("headers", "params"),
    [
        ({"x-clickhouse-user": "u", "x-clickhouse-key": "p:ä"}, {}),
        (basic("u:p:ä".encode()), {}),
        ({}, {"user": "u", "password": "p:ä"}),
    ],
)
def test_right_password(headers: dict[str, str], params: dict[str, str]) -> None:
    Account("u", "p:ä").check(headers, params)


@pytest.mark.parametrize(
    ("headers", "params"),
    [
        ({}, {}),
        ({"x-clickhouse-user": "u"}, {}),
        ({"x-clickhouse-user": "u", "x-clickhouse-key": "p:a"}, {}),
        ({"x-clickhouse-user": "U", "x-clickhouse-key": "p:ä"}, {}),
        (basic(b"u"), {}),
        (basic(b"\xff:\xff"), {}),
        ({"authorization": "Basic %%%"}, {}),
        ({"authorization": "Bearer p:ä"}, {}),
        ({"authorization": ""}, {}),
        ({**basic("u:p:ä".encode()), "x-clickhouse-user": "u", "x-clickhouse-key": "p:ä"}, {}),
        (basic("u:p:ä".encode()), {"user": "u"}),
    ],
)
def test_wrong_password(headers: dict[str, str], params: dict[str, str]) -> None:
    with pytest.raises(QueryError) as refused:
        Account("u", "p:ä").check(headers, params)
    assert (refused.value.code, refused.value.status) == (516, 401)
    assert "p:" not in refused.value.text


def test_password_is_not_shown() -> None:
    assert "secret" not in repr(Account("u", "secret"))


# Sessions


class FakeConnection:
    closed = False

    def close(self) -> None:
        self.closed = True


def test_session_times_out_after_its_last_use() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    wish = SessionWish("s", 10, False, False)
    connection = FakeConnection()
    with sessions.lease(wish) as session:
        session.connection = connection  # type: ignore[assignment]
        now[0] = 100
    now[0] = 109
    with sessions.lease(wish) as again:
        assert again is session
    now[0] = 118
    sessions.expire()
    assert (len(sessions), connection.closed) == (1, False)
    now[0] = 119
    sessions.expire()
    assert (len(sessions), connection.closed) == (0, True)
    with pytest.raises(QueryError) as gone, sessions.lease(SessionWish("s", 10, True, False)):
        pass
    assert gone.value.code == 372


def test_session_is_locked_while_in_use() -> None:
    sessions = Sessions()
    wish = SessionWish("s", 10, False, False)
    with sessions.lease(wish):
        with pytest.raises(QueryError) as busy, sessions.lease(wish):
            pass
        assert busy.value.code == 373
    with sessions.lease(wish):
        pass


def test_session_can_be_closed_by_its_last_request() -> None:
    sessions = Sessions()
    connection = FakeConnection()
    with sessions.lease(SessionWish("s", 10, False, True)) as session:
        session.connection = connection  # type: ignore[assignment]
    assert (len(sessions), connection.closed) == (0, True)


# Errors and responses


@pytest.mark.parametrize(
    ("text", "code", "message", "name"),
    [
        (
            "Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)",
            60,
            "Table x does not exist.",
            "UNKNOWN_TABLE",
        ),
        (
            "Code: 452. DB::Exception: Code: 452. DB::Exception: No. (S_C_V) (version 26.9.2.1). (S_C_V)",
            452,
            "No.",
            "S_C_V",
        ),
        (
            "Code: 279. DB::NetException: Refused (NETWORK_ERROR) (version 26.9 (official build))",
            279,
            "Refused",
            "NETWORK_ERROR",
        ),
        (
            "Streaming query failed: Code: 395. DB::Exception: x: while executing f (1 2). (THROWN)",
            395,
            "x: while executing f (1 2).",
            "THROWN",
        ),
        ("no code", 1002, "no code", "UNKNOWN_EXCEPTION"),
    ],
)
def test_errors_of_the_engine(text: str, code: int, message: str, name: str) -> None:
    error = errors.from_engine(text)
    assert (error.code, error.text, error.name) == (code, message, name)


def test_place_of_the_rows_is_not_told() -> None:
    text = (
        "Code: 117. DB::Exception: Bad row: (in file/uri /home/me/data/spool/ab12): While executing File: "
        "data for INSERT was parsed from file. (INCORRECT_DATA)"
    )
    assert errors.from_engine(text).message("26.9") == (
        "Code: 117. DB::Exception: Bad row. (INCORRECT_DATA) (version 26.9)"
    )


def test_error_response() -> None:
    facts = Facts("id\r\nX: 1", "host", "UTC", "26.9")
    response = respond.error(QueryError(60, "No table"), facts)
    headers = dict(response.headers)
    assert response.status == 404
    assert headers["X-ClickHouse-Exception-Code"] == "60"
    assert headers["X-ClickHouse-Query-Id"] == "id??X: 1"
    assert b"".join(response.body) == b"Code: 60. DB::Exception: No table (UNKNOWN_EXCEPTION) (version 26.9)\n"


def test_summary_has_numbers_as_strings() -> None:
    summary = json.loads(respond.summary(Statistics(written_rows=3, written_bytes=30), 0.5))
    assert summary["written_rows"] == "3"
    assert summary["elapsed_ns"] == "500000000"


@pytest.mark.parametrize("accepted", ["", "lz4", "zstd", "gzip"])
def test_trailer_of_a_stream_that_fails(accepted: str) -> None:
    def fails() -> Iterator[bytes]:
        yield b"second"
        raise QueryError(395, "thrown")

    response = respond.stream([b"first"], fails(), [], accepted, "26.9")
    headers = dict(response.headers)
    sent: list[bytes] = []
    with pytest.raises(respond.BrokenOff):
        sent.extend(response.body)
    content = b"".join(compression.decompress([b"".join(sent)], headers.get("Content-Encoding", "")))
    tag = headers["X-ClickHouse-Exception-Tag"].encode()
    message = b"Code: 395. DB::Exception: thrown (UNKNOWN_EXCEPTION) (version 26.9)\n"
    assert content == b"firstsecond\r\n__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n" % (
        tag,
        message,
        len(message),
        tag,
    )


# Multipart


def test_multipart() -> None:
    body = (
        b'--B\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT 1\r\n'
        b'--B\r\nContent-Disposition: form-data; name="ext"; filename="e.csv"\r\nContent-Type: text/csv\r\n\r\n'
        b"1\r\n\r\n2\r\n"
        b"--B--\r\n"
    )
    query, ext = multipart.parse("multipart/form-data; boundary=B", body)
    assert (query.name, query.is_file, query.content) == ("query", False, b"SELECT 1")
    assert (ext.name, ext.is_file, ext.content) == ("ext", True, b"1\r\n\r\n2")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--B--\r\n"),
        ("multipart/form-data; boundary=B", b'--B\r\nContent-Disposition: form-data; name="q"\r\n\r\nSELECT'),
        ("multipart/form-data; boundary=B", b"--B\r\nno headers\r\n--B--\r\n"),
        ("multipart/form-data; boundary=B", b"--B\r\nContent-Type: x/y\r\n\r\nx\r\n--B--\r\n"),
    ],
)
def test_multipart_that_is_none(content_type: str, body: bytes) -> None:
    with pytest.raises(QueryError):
        multipart.parse(content_type, body)


def test_types_of_an_external_table() -> None:
    assert multipart.split_types(b"UInt8, Decimal(38, 9),Map(String, Array(Tuple(a Int8, b Int8)))") == [
        b"UInt8",
        b"Decimal(38, 9)",
        b"Map(String, Array(Tuple(a Int8, b Int8)))",
    ]


# Quoting and configuration


@given(st.text(max_size=30))
def test_quoted_values_stay_one_token(value: str) -> None:
    for quoted in (quote_string(value), quote_identifier(value)):
        found = list(tokens(b"SET a = " + quoted + b", b = 1"))
        assert [token.text for token in found] == [b"SET", b"a", b"=", quoted, b",", b"b", b"=", b"1"]


def test_configuration_grants_no_source_and_no_reading_engine() -> None:
    granted = f"{config.PRIVILEGES} {config.TABLE_ENGINES} {config.DATABASE_ENGINES}".upper()
    for word in ("ALL", "SOURCES", "FILE", "URL", "S3", "REMOTE", "DICTIONARY", "FUNCTION", "BACKUP", "INTROSPECTION"):
        assert word not in granted.replace("MATERIALIZEDVIEW", "").replace(",", " ").split(), word
        assert f"'{word}'" not in granted
