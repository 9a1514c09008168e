"""The HTTP server in front of ClickHouse's engine: what is acknowledged is there, what is not whole is not."""

from __future__ import annotations

import http.client
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import lz4.frame
import pyarrow as pa
import pytest
import zstandard
from clickhouse_connect.driver.exceptions import DatabaseError

from support.clickhouse_server import Server

HEAD = "POST /?query=INSERT+INTO+t+FORMAT+TSV HTTP/1.1\nHost: x\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("data") / "server") as running:
        yield running


@pytest.fixture
def table(server: Server) -> str:
    server.run("CREATE OR REPLACE TABLE t (a UInt64, b String DEFAULT 'none') ENGINE = MergeTree ORDER BY a")
    return "t"


# The ways rows come


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("INSERT INTO t VALUES", b"(1, 'x'), (2, 'y')"),
        ("INSERT INTO t (a, b) VALUES (1, 'x'), (1 + 1, lower('Y'));", b""),
        ("insert into default.t(b,a)settings max_insert_block_size=1 format TSV", b"x\t1\ny\t2\n"),
        ("INSERT INTO TABLE -- the table\n`t` FORMAT CSV", b'1,"x"\n2,y'),
        ("INSERT INTO t FORMAT JSONEachRow", b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}'),
        ("INSERT INTO {table:Identifier} FORMAT TSV", b"1\tx\n2\ty\n"),
        ("INSERT INTO t /* FORMAT CSV */ FORMAT TSV", b"1\tx\n2\ty\n"),
        ("INSERT INTO t SELECT * FROM VALUES('a UInt64, b String', (1, 'x'), (2, 'y'))", b""),
        ("INSERT INTO t WITH 1 AS one SELECT number + one, char(120 + number) FROM numbers(2)", b""),
    ],
)
@pytest.mark.parametrize("statement_in", ["url", "body"])
def test_statements(server: Server, table: str, statement: str, rows: bytes, statement_in: str) -> None:
    if statement_in == "url":
        answer = server.query(rows, query=statement, param_table=table)
    else:
        answer = server.query(statement.encode() + b"\n" + rows, param_table=table)
    assert answer.status == 200, answer.text
    assert (answer.body, answer.summary["written_rows"]) == (b"", "2")
    assert server.rows("SELECT * FROM t ORDER BY a") == [["1", "x"], ["2", "y"]]


def test_omitted_columns_take_their_defaults(server: Server, table: str) -> None:
    server.run("INSERT INTO t (a) VALUES (1)", 'INSERT INTO t FORMAT JSONEachRow\n{"a":2}')
    assert server.rows("SELECT * FROM t ORDER BY a") == [["1", "none"], ["2", "none"]]


def test_insert_without_rows(server: Server, table: str) -> None:
    for statement in ("INSERT INTO t FORMAT TSV", "INSERT INTO t FORMAT JSONEachRow\n", "INSERT INTO t VALUES"):
        answer = server.query(statement)
        assert (answer.status, answer.summary["written_rows"]) == (200, "0"), answer.text


def test_rows_that_look_like_sql(server: Server, table: str) -> None:
    """Rows are never read as statements, whatever stands in them."""
    text = "x; DROP TABLE t;\\n\\n-- /* ' FORMAT CSV VALUES INTO OUTFILE file('/etc/passwd')"
    server.run(f"INSERT INTO t FORMAT TSV\n1\t{text}\n2\t\n")
    assert server.rows("SELECT a, length(b) > 50 FROM t ORDER BY a") == [["1", "1"], ["2", "0"]]


def test_name_of_a_table_may_be_a_keyword(server: Server) -> None:
    for name in ("`values`", "format", "`select`"):
        server.run(f"CREATE OR REPLACE TABLE {name} (a UInt8) ENGINE = Memory", f"INSERT INTO {name} FORMAT TSV\n7\n")
        assert server.rows(f"SELECT a FROM {name}") == [["7"]]


@pytest.mark.parametrize("encoding", ["", "lz4", "zstd"])
@pytest.mark.parametrize("chunked", [False, True])
def test_arrow_stream_bodies(server: Server, table: str, encoding: str, chunked: bool) -> None:
    rows = pa.table({"a": pa.array(range(100_000), pa.uint64()), "b": [f"row {n}" for n in range(100_000)]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=10_000)
    content = sink.getvalue().to_pybytes()
    match encoding:
        case "lz4":
            content = lz4.frame.compress(content)
        case "zstd":
            # A frame per block, as clickhouse-connect sends it.
            content = b"".join(zstandard.compress(content[at : at + 99_999]) for at in range(0, len(content), 99_999))
    headers = {"Content-Encoding": encoding} if encoding else {}
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    answer = server.request(
        target="/?query=INSERT+INTO+t+FORMAT+ArrowStream",
        body=(content[at : at + 65_536] for at in range(0, len(content), 65_536)) if chunked else content,
        headers=headers,
        encode_chunked=chunked,
    )
    assert answer.summary["written_rows"] == "100000"
    assert server.rows("SELECT count(), sum(a), countIf(b = concat('row ', toString(a))) FROM t") == [
        ["100000", str(sum(range(100_000))), "100000"]
    ]


# A body that is not whole


def test_body_shorter_than_its_length_inserts_nothing(server: Server, table: str) -> None:
    rows = b"".join(b"%d\tx\n" % n for n in range(1000))
    answer = server.raw(f"{HEAD}Content-Length: {len(rows) + 5}\n", rows)
    assert b"400 Bad Request" in answer or b"500 Internal" in answer
    assert b"nothing was inserted" in answer
    assert server.count("t") == 0
    assert server.raw(f"{HEAD}Content-Length: {len(rows)}\n", rows).startswith(b"HTTP/1.1 200")
    assert server.count("t") == 1000


def test_statement_shorter_than_its_length_is_not_run(server: Server, table: str) -> None:
    head = "POST / HTTP/1.1\nHost: x\n"
    server.raw(f"{head}Content-Length: 100\n", b"INSERT INTO t VALUES (1, 'x')")
    server.raw(f"{head}Content-Length: 100\n", b"INSERT INTO t SELECT 1, 'x'")
    server.raw(f"{head}Content-Length: 100\n", b"DROP TABLE t")
    assert server.count("t") == 0


@pytest.mark.parametrize(
    "parts",
    [
        (b"8\r\n1\tx\n2\ty\n\r\n",),  # no last chunk
        (b"8\r\n1\tx\n2\ty\n\r\n", b"ff\r\n3\tz\n"),  # a chunk that ends early
        (b"8\r\n1\tx\n2\ty\n\r\n", b"no length\r\n3\tz\n\r\n0\r\n\r\n"),
        (b"8\r\n1\tx\n2\ty\nXX0\r\n\r\n",),  # no end of line behind a chunk
    ],
)
def test_broken_chunks_insert_nothing(server: Server, table: str, parts: tuple[bytes, ...]) -> None:
    answer = server.raw(f"{HEAD}Transfer-Encoding: chunked\n", *parts)
    assert not answer.startswith(b"HTTP/1.1 200")
    assert server.count("t") == 0
    whole = server.raw(f"{HEAD}Transfer-Encoding: chunked\n", b"8\r\n1\tx\n2\ty\n\r\n0\r\n\r\n")
    assert whole.startswith(b"HTTP/1.1 200")
    assert server.count("t") == 2


@pytest.mark.parametrize(("encoding", "pack"), [("lz4", lz4.frame.compress), ("zstd", zstandard.compress)])
def test_compressed_body_that_ends_early_inserts_nothing(
    server: Server, table: str, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    content = pack(b"".join(b"%d\tx\n" % n for n in range(100_000)))
    for damaged in (content[:-10], content[: len(content) // 2], b"no frame at all"):
        answer = server.query(damaged, {"Content-Encoding": encoding}, query="INSERT INTO t FORMAT TSV")
        assert answer.code == 271, answer.text
    assert server.query(content, {"Content-Encoding": "snail"}, query="INSERT INTO t FORMAT TSV").status == 501
    assert server.count("t") == 0


def test_connection_stays_in_step_after_an_error(server: Server, table: str) -> None:
    """The body of a refused request is not taken for the next one."""
    with server.client() as client:
        for _ in range(3):
            with pytest.raises(DatabaseError):
                client.raw_insert("no_such_table", insert_block=b"1\tx\n" * 100_000, fmt="TSV")
            assert client.raw_insert("t", insert_block=b"1\tx\n", fmt="TSV").written_rows == 1
    assert server.count("t") == 3


# Rows that are refused


@pytest.mark.parametrize("content", [b"1\tx\nnot a number\ty\n", b"1\tx\n2", b"1\tx\ty\tz\n"])
def test_rows_that_cannot_be_parsed_insert_nothing(server: Server, table: str, content: bytes) -> None:
    answer = server.query(content, query="INSERT INTO t (a, b) FORMAT TSV")
    assert answer.status == 400
    assert str(server.folder) not in answer.text
    assert "spool" not in answer.text
    assert server.count("t") == 0


def test_what_the_table_refuses_is_no_success(server: Server) -> None:
    """chDB's streaming insert answers "2 rows written" in each of these cases, and nothing is there."""
    server.run(
        "CREATE OR REPLACE TABLE checked (a Int64, CONSTRAINT small CHECK a < 10) ENGINE = MergeTree ORDER BY a",
        "CREATE OR REPLACE TABLE computed (a Int64, b Int64 DEFAULT intDiv(1, a)) ENGINE = MergeTree ORDER BY a",
        "CREATE OR REPLACE TABLE parted (a Int64) ENGINE = MergeTree ORDER BY a PARTITION BY a",
        "CREATE OR REPLACE TABLE viewed (a Int64) ENGINE = MergeTree ORDER BY a",
        "CREATE TABLE view_target (a Int64) ENGINE = MergeTree ORDER BY a",
        "CREATE MATERIALIZED VIEW view_on TO view_target AS SELECT intDiv(1, a) AS a FROM viewed",
    )
    for table, content, code in (
        ("checked", b"1\n20\n", 469),
        ("computed", b"1\n0\n", 153),
        ("parted", b"".join(b"%d\n" % n for n in range(11)), 252),
        ("viewed", b"1\n0\n", 153),
    ):
        statement = f"INSERT INTO {table} (a) SETTINGS max_partitions_per_insert_block = 10 FORMAT TSV"
        assert server.query(content, query=statement).code == code, table
        # As in every ClickHouse, rows can be there although a view of theirs failed: the client has to repeat them.
        assert server.count(table) == 0 or table == "viewed", table


def test_insert_into_more_partitions_than_the_engine_allows_by_itself(server: Server) -> None:
    server.run("CREATE OR REPLACE TABLE months (a Int64) ENGINE = MergeTree ORDER BY a PARTITION BY a")
    rows = b"".join(b"%d\n" % n for n in range(110))
    assert server.query(rows, query="INSERT INTO months FORMAT TSV").summary["written_rows"] == "110"
    assert server.count("months") == 110


def test_no_room_for_the_rows(server: Server, table: str) -> None:
    spool = server.folder / "spool"
    spool.rename(server.folder / "away")
    try:
        assert server.query("INSERT INTO t VALUES (1, 'x')").status == 500
    finally:
        (server.folder / "away").rename(spool)
    server.run("INSERT INTO t VALUES (1, 'x')")
    assert server.count("t") == 1


def test_nothing_is_left_in_the_spool(server: Server, table: str) -> None:
    server.run("INSERT INTO t VALUES (1, 'x')")
    server.query("INSERT INTO t VALUES (1, ")
    assert list((server.folder / "spool").iterdir()) == []


# kill -9


def test_kill_loses_no_acknowledged_insert(tmp_path: Path) -> None:
    """Several clients insert until the server is killed: every batch that was acknowledged is there, and whole; one
    that was under way is there whole or not at all."""
    server = Server(tmp_path / "server")
    server.start()
    server.run("CREATE TABLE k (client UInt8, batch UInt32, n UInt32) ENGINE = MergeTree ORDER BY (client, batch)")
    acknowledged: list[set[int]] = [set() for _ in range(3)]
    enough = threading.Event()

    def insert(client: int) -> None:
        for batch in itertools.count():
            rows = b"".join(b"%d\t%d\t%d\n" % (client, batch, n) for n in range(500))
            try:
                if server.query(rows, query="INSERT INTO k FORMAT TSV").status != 200:
                    return
            except (OSError, http.client.HTTPException):
                return
            acknowledged[client].add(batch)
            if len(acknowledged[client]) >= 15:
                enough.set()

    threads = [threading.Thread(target=insert, args=(client,)) for client in range(3)]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    server.kill()
    for thread in threads:
        thread.join(30)
    with server:
        found = server.rows("SELECT client, batch, count() FROM k GROUP BY client, batch")
        assert {count for _, _, count in found} == {"500"}
        there = {(int(client), int(batch)) for client, batch, _ in found}
        assert {(client, batch) for client in range(3) for batch in acknowledged[client]} <= there
        assert len(there) <= sum(map(len, acknowledged)) + 3


def test_session_free_database_survives_restarts(tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    for run in range(1, 4):
        with server:
            server.run(
                "CREATE TABLE IF NOT EXISTS r (a UInt8) ENGINE = MergeTree ORDER BY a",
                "CREATE DATABASE IF NOT EXISTS d",
                "CREATE TABLE IF NOT EXISTS d.r (a UInt8) ENGINE = MergeTree ORDER BY a",
                "INSERT INTO r VALUES (1)",
                "INSERT INTO d.r VALUES (1)",
            )
            assert (server.count("r"), server.count("d.r")) == (run, run)
