"""Compression, requests, accounts, errors and responses of the ClickHouse server, without a server."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Iterator

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from meterfold_local.clickhouse import compression, config, errors, request, respond, statement
from meterfold_local.clickhouse.auth import ServerUser
from meterfold_local.clickhouse.engine import quote_identifier, quote_string
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.request import SessionRequest

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


# Requests


def test_headers_go_before_parameters() -> None:
    asked = request.parse(
        "POST",
        {"x-clickhouse-database": "h", "x-clickhouse-format": "CSV"},
        {"database": "p", "default_format": "JSON"},
    )
    assert (asked.database, asked.default_format) == ("h", "CSV")


def test_bytes_that_are_no_utf8_survive() -> None:
    params = request.url_parameters(b"query=%ff%fe")
    assert params["query"].encode(errors="surrogateescape") == b"\xff\xfe"


def test_session_of_a_request() -> None:
    asked = request.parse("POST", {}, {"session_id": "s", "session_timeout": "5", "session_check": "1"})
    assert asked.session == SessionRequest("s", 5, True, False)
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
        ServerUser("u", "p:ä").check(headers, params)
    assert (refused.value.code, refused.value.status) == (516, 401)
    assert "p:" not in refused.value.text


def test_password_is_not_shown() -> None:
    assert "secret" not in repr(ServerUser("u", "secret"))


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


@pytest.mark.parametrize("accepted", ["", "lz4", "zstd", "gzip"])
def test_trailer_of_a_stream_that_fails(accepted: str) -> None:
    def fails() -> Iterator[bytes]:
        yield b"second"
        raise QueryError(395, "thrown")

    response = respond.stream([b"first"], fails(), (), accepted, "26.9")
    headers = dict(response.headers)
    sent: list[bytes] = []
    with pytest.raises(respond.BrokenOff):
        sent.extend(response.body)  # type: ignore[arg-type]
    content = b"".join(compression.decompress([b"".join(sent)], headers.get("Content-Encoding", "")))
    tag = headers["X-ClickHouse-Exception-Tag"].encode()
    message = b"Code: 395. DB::Exception: thrown (UNKNOWN_EXCEPTION) (version 26.9)\n"
    assert content == b"firstsecond\r\n__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n" % (
        tag,
        message,
        len(message),
        tag,
    )


# Quoting and configuration


@given(st.text(max_size=30))
def test_quoted_values_stay_one_token(value: str) -> None:
    for quoted in (quote_string(value), quote_identifier(value)):
        found = list(statement.tokens(b"SET a = " + quoted + b", b = 1"))
        assert [token.text for token in found] == [b"SET", b"a", b"=", quoted, b",", b"b", b"=", b"1"]


def test_configuration_grants_no_source_and_no_reading_engine() -> None:
    granted = f"{config.PRIVILEGES} {config.TABLE_ENGINES} {config.DATABASE_ENGINES}".upper()
    for word in ("ALL", "SOURCES", "FILE", "URL", "S3", "REMOTE", "DICTIONARY", "FUNCTION", "INTROSPECTION"):
        assert word not in granted.replace("MATERIALIZEDVIEW", "").replace(",", " ").split(), word
        assert f"'{word}'" not in granted
