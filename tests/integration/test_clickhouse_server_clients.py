"""What drivers of other languages ask of the ClickHouse server: compressed blocks (clickhouse-jdbc), and Native of a
newer protocol revision (clickhouse-go). `make test-clients` runs the drivers themselves."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from meterfold_local.clickhouse import blocks
from support.clickhouse_server import PASSWORD, USER, Server

REVISION = 54485
BLOCK_INFO = bytes((1, 0, 2, 255, 255, 255, 255, 0))

COLUMNS = {
    "toUInt8(number)": "UInt8",
    "toInt256(number)": "Int256",
    "number % 2 = 0": "UInt8",
    "toFloat64(number)": "Float64",
    "toDate(number)": "Date",
    "toDateTime64(number, 6, 'UTC')": "DateTime64(6, 'UTC')",
    "toDecimal32(number, 2)": "Decimal(9, 2)",
    "toDecimal64(number, 2)": "Decimal(18, 2)",
    "toDecimal128(number, 9)": "Decimal(38, 9)",
    "toDecimal256(number, 9)": "Decimal(76, 9)",
    "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')": "UUID",
    "toIPv4('127.0.0.1')": "IPv4",
    "toFixedString('abc', 5)": "FixedString(5)",
    "CAST(number % 2 + 1 AS Enum8('a,(' = 1, 'b' = 2))": "Enum8('a,(' = 1, 'b' = 2)",
    "repeat('x', number * 40)": "String",
    "if(number % 2 = 0, NULL, 'abc')": "Nullable(String)",
    "NULL": "Nullable(Nothing)",
    "range(number)": "Array(UInt64)",
    "arrayMap(x -> range(x), range(number))": "Array(Array(UInt64))",
    "map('k', toString(number))": "Map(String, String)",
    "tuple(number, toString(number))": "Tuple(UInt64, String)",
    "CAST((number, 'x') AS Tuple(a UInt64, `b c` String))": "Tuple(a UInt64, `b c` String)",
    "toLowCardinality(toString(number % 3))": "LowCardinality(String)",
    "CAST(range(number) AS Array(LowCardinality(String)))": "Array(LowCardinality(String))",
    "CAST(if(number = 1, NULL, 'x') AS LowCardinality(Nullable(String)))": "LowCardinality(Nullable(String))",
    "toIntervalDay(number)": "IntervalDay",
    "(1.5, 2.5)::Point": "Point",
    "[(1.5, 2.5), (1.5, 3.5)]::Ring": "Ring",
}
"""Expressions over `number`, with the types of their results."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("data") / "server") as running:
        yield running


def native(server: Server, columns: list[str], rows: int, **params: str | int) -> bytes:
    selected = ", ".join(f"{expression} AS c" for expression in columns) if len(columns) == 1 else ", ".join(columns)
    answer = server.query(f"SELECT {selected} FROM numbers({rows})", default_format="Native", **params)
    assert answer.status == 200, answer.text
    return answer.body


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("expression", COLUMNS)
def test_native_of_a_newer_revision(server: Server, expression: str, rows: int) -> None:
    """A block begins with its info, and a zero stands between the type of a column and its data."""
    kind = COLUMNS[expression].encode()
    head = bytes((1, rows, 1)) + b"c" + bytes((len(kind),)) + kind
    old = native(server, [expression], rows)
    assert old.startswith(head)
    assert native(server, [expression], rows, client_protocol_version=REVISION) == (
        BLOCK_INFO + head + b"\0" + old[len(head) :]
    )


def test_native_of_a_newer_revision_with_many_columns(server: Server) -> None:
    """A column is as many bytes in a wide block as it is alone."""
    body = native(server, list(COLUMNS), 5, client_protocol_version=REVISION)
    assert body.startswith(BLOCK_INFO + bytes((len(COLUMNS), 5)))
    at = len(BLOCK_INFO) + 2
    for expression, kind in COLUMNS.items():
        at += 1 + body[at]  # the name, shorter than 128 bytes
        alone = native(server, [expression], 5, client_protocol_version=REVISION)[len(BLOCK_INFO) + 4 :]
        assert alone[1 : 1 + len(kind)] == kind.encode()
        assert body[at : at + len(alone)] == alone
        at += len(alone)
    assert at == len(body)


def test_native_of_a_newer_revision_is_streamed_block_by_block(server: Server) -> None:
    sql = "SELECT toString(number) AS c FROM numbers(300000)"
    body = server.query(sql, default_format="Native", client_protocol_version=REVISION).body
    parts = body.split(BLOCK_INFO)[1:]
    assert len(parts) > 3
    assert sum(len(part) for part in parts) - len(parts) == len(server.query(sql, default_format="Native").body)


def test_older_clients_and_other_formats_are_not_concerned(server: Server) -> None:
    assert native(server, ["number"], 3, client_protocol_version=54405) == native(server, ["number"], 3)
    assert server.query("SELECT 1 FORMAT CSV", client_protocol_version=REVISION).body == b"1\n"
    assert server.query("CREATE DATABASE IF NOT EXISTS x", client_protocol_version=REVISION).body == b""
    assert server.query("SELECT 1", client_protocol_version="x").code == 36


def test_a_type_that_cannot_be_rewritten_is_named(server: Server) -> None:
    answer = server.query(
        "SELECT sumState(number) AS c FROM numbers(3) FORMAT Native", client_protocol_version=REVISION
    )
    assert (answer.status, answer.code) == (501, 48)
    assert "AggregateFunction(sum, UInt64)" in answer.text
    assert "toString()" in answer.text


@pytest.mark.parametrize("output_format", ["TabSeparated", "Native", "RowBinaryWithNamesAndTypes", "JSON"])
@pytest.mark.parametrize("rows", [0, 3, 300_000])
def test_results_in_compressed_blocks(server: Server, output_format: str, rows: int) -> None:
    sql = f"SELECT number, toString(number) FROM numbers({rows}) SETTINGS output_format_write_statistics = 0"
    answer = server.query(sql, default_format=output_format, compress=1)
    assert answer.status == 200
    assert b"".join(blocks.decoded([answer.body])) == server.query(sql, default_format=output_format).body


def test_compressed_blocks_inside_of_http_compression(server: Server) -> None:
    import gzip

    answer = server.query("SELECT 1", {"Accept-Encoding": "gzip"}, compress=1)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert b"".join(blocks.decoded([gzip.decompress(answer.body)])) == b"1\n"


def test_rows_in_compressed_blocks(server: Server) -> None:
    server.run("CREATE OR REPLACE TABLE packed (a UInt64) ENGINE = MergeTree ORDER BY a")
    rows = b"".join(b"%d\n" % n for n in range(300_000))
    body = blocks.encoded(rows)
    answer = server.query(body, query="INSERT INTO packed FORMAT TSV", decompress=1)
    assert answer.summary["written_rows"] == "300000"
    assert server.query(blocks.encoded(b"INSERT INTO packed VALUES (7)"), decompress=1).status == 200
    assert server.rows("SELECT count(), sum(a) FROM packed") == [["300001", str(sum(range(300_000)) + 7)]]


def test_damaged_blocks_insert_nothing(server: Server) -> None:
    server.run("CREATE OR REPLACE TABLE damaged (a UInt64) ENGINE = MergeTree ORDER BY a")
    body = blocks.encoded(b"1\n" * 1_000_000)
    for content, code in ((body[:-1], 271), (body[:-1] + b"x", 40), (b"1\n2\n", 271)):
        assert server.query(content, query="INSERT INTO damaged FORMAT TSV", decompress=1).code == code
    assert server.count("damaged") == 0


def test_errors_of_a_request_for_compressed_blocks(server: Server) -> None:
    """Before the first block the error is plain text; behind the first blocks it is a block of its own."""
    answer = server.query("SELECT * FROM no_such_table", compress=1)
    assert (answer.status, answer.code) == (404, 60)
    assert answer.text.startswith("Code: 60. ")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(
        "POST",
        "/?compress=1",
        body="SELECT number, throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 10000",
        headers={"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD.encode().decode("latin-1")},
    )
    response = connection.getresponse()
    assert response.status == 200
    with pytest.raises(http.client.IncompleteRead) as broken:
        response.read()
    connection.close()
    content = b"".join(blocks.decoded([broken.value.partial]))
    assert content.startswith(b"0\t0\n")
    assert b"\r\n__exception__\r\n" in content
    assert b"Code: 395." in content
