"""The HTTP server in front of ClickHouse's engine: queries and results; curl, http.client and clickhouse-connect."""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import lz4.frame
import psutil
import pyarrow as pa
import pytest
import zstandard
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

from support import eventually
from support.clickhouse_server import PASSWORD, USER, Server, target

LOGIN = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD.encode().decode("latin-1")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Characters that mean something in connection strings, statements and file patterns.
    with Server(tmp_path_factory.mktemp("data") / "a b=%41&'#ä") as running:
        yield running


# Who asks


def test_ping_needs_no_password(server: Server) -> None:
    answer = server.request("GET", "/ping", authenticated=False)
    assert (answer.status, answer.body) == (200, b"Ok.\n")


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), ("default", PASSWORD), (USER, ""), ("", "")])
def test_wrong_password_is_refused(server: Server, user: str, password: str) -> None:
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    answer = server.request(
        body=b"CREATE TABLE stolen (a Int8) ENGINE = Memory",
        headers={"Authorization": f"Basic {token}"},
        authenticated=False,
    )
    assert (answer.status, answer.code) == (401, 516)
    assert "AUTHENTICATION_FAILED" in answer.text
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert server.query("SELECT * FROM stolen").code == 60


def test_no_password_is_refused(server: Server) -> None:
    assert server.request(body=b"SELECT 1", authenticated=False).status == 401


def test_basic_authentication_and_parameters(server: Server) -> None:
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    basic = server.request(body=b"SELECT 1", headers={"Authorization": f"Basic {token}"}, authenticated=False)
    params = server.request(target=target(user=USER, password=PASSWORD), body=b"SELECT 1", authenticated=False)
    assert (basic.body, params.body) == (b"1\n", b"1\n")


def test_two_ways_to_authenticate_at_once_are_refused(server: Server) -> None:
    assert server.query("SELECT 1", user=USER, password=PASSWORD).code == 516


# Where the statement stands


def test_statement_in_url_and_body(server: Server) -> None:
    assert server.request("GET", target(query="SELECT 'ä', 1")).text == "ä\t1\n"
    assert server.query("SELECT 2").body == b"2\n"
    assert server.query("+ 3", query="SELECT 2").body == b"5\n"
    assert server.query("SELECT 1;").body == b"1\n"


def test_head_answers_without_a_body(server: Server) -> None:
    answer = server.request("HEAD", target(query="SELECT 1 FORMAT JSON"))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["X-ClickHouse-Format"] == "JSON"


def test_get_never_writes(server: Server) -> None:
    for statement in ("CREATE TABLE by_get (a Int8) ENGINE = Memory", "INSERT INTO by_get VALUES (1)", "DROP TABLE t"):
        assert server.request("GET", target(query=statement)).code == 164, statement
    assert server.request("GET", target(query="SELECT 1", readonly=0)).code == 164
    assert server.query("EXISTS TABLE by_get").body == b"0\n"


def test_post_without_length_is_refused(server: Server) -> None:
    assert b"HTTP/1.1 411" in server.raw("POST / HTTP/1.1\nHost: x\n")


def test_several_statements_are_refused(server: Server) -> None:
    for sql in ("SELECT 1; SELECT 2", "CREATE TABLE m (a Int8) ENGINE=Memory; INSERT INTO m VALUES (1)"):
        answer = server.query(sql)
        assert (answer.status, answer.code) == (400, 62)
        assert "Multi-statements are not allowed" in answer.text
    assert server.query("EXISTS TABLE m").body == b"0\n"


def test_client_commands_are_no_sql(server: Server) -> None:
    for text in ("exit", "quit", "\\i /etc/passwd", "?? which tables are there", "foo", "1 + 1", ";", ""):
        assert server.query(text).code == 62, text
    assert server.query("SELECT 1").status == 200


def test_two_megabytes_of_hashes(server: Server) -> None:
    server.run(
        "CREATE OR REPLACE TABLE hashes ENGINE = MergeTree ORDER BY h AS SELECT number * 7 AS h FROM numbers(1000)"
    )
    hashes = ", ".join(str(7 * number if number < 500 else 10**17 + number) for number in range(110_000))
    sql = f"SELECT count() FROM hashes WHERE h IN ({hashes})"
    assert len(sql) > 2_000_000
    assert server.query(sql).code == 62
    assert server.query(sql, max_query_size=10_000_000).body == b"500\n"
    with_backslash = sql.replace("WHERE", r"WHERE '\'' != '' AND")
    assert server.query(with_backslash, max_query_size=10_000_000).body == b"500\n"


# Parameters, settings, database, formats


def test_bound_parameters(server: Server) -> None:
    sql = "SELECT {x:UInt64} + 1, {s:String}, {d:Decimal(38, 9)}, {t:DateTime64(6, 'UTC')}, {a:Array(String)}"
    answer = server.query(
        sql,
        param_x=41,
        param_s="it's \\\\ here",
        param_d="-1.000000001",
        param_t="2026-01-02 03:04:05.000006",
        param_a="['a','b']",
    )
    assert answer.text == "42\tit\\'s \\\\ here\t-1.000000001\t2026-01-02 03:04:05.000006\t['a','b']\n"
    assert server.query("SELECT {x:UInt64}", param_x="no number").code == 457
    assert server.query("SELECT {missing:UInt64}").code == 456


def test_parameters_do_not_reach_the_next_request(server: Server) -> None:
    assert server.query("SELECT {left:UInt8}", param_left=1).status == 200
    assert server.query("SELECT {left:UInt8}").code == 456


def test_settings_reach_one_request_only(server: Server) -> None:
    sql = "SELECT getSetting('max_threads'), getSetting('max_insert_block_size')"
    assert server.query(sql, max_threads=3, max_insert_block_size=77).body == b"3\t77\n"
    assert not server.query(sql).body.startswith(b"3\t77")
    assert server.query("SELECT 1", no_such_setting=1).code == 115
    assert server.query("SELECT 1", **{"max_threads = 1, readonly": "1"}).code == 115


def test_defaults_of_this_server(server: Server) -> None:
    sql = "SELECT getSetting('async_insert'), getSetting('max_partitions_per_insert_block')"
    assert server.query(sql).body == b"false\t1000\n"


def test_database(server: Server) -> None:
    server.run(
        "CREATE DATABASE IF NOT EXISTS other", "CREATE OR REPLACE TABLE other.here ENGINE=Memory AS SELECT 5 AS a"
    )
    assert server.query("SELECT a FROM here", database="other").body == b"5\n"
    assert server.query("SELECT a FROM here", {"X-ClickHouse-Database": "other"}).body == b"5\n"
    assert server.query("SELECT 1", database="no`such").code == 81
    assert server.query("SELECT currentDatabase()").body == b"default\n"


def test_format_by_clause_parameter_and_header(server: Server) -> None:
    assert server.query("SELECT 1 AS a", default_format="JSONEachRow").body == b'{"a":1}\n'
    assert server.query("SELECT 1 AS a", {"X-ClickHouse-Format": "CSV"}).body == b"1\n"
    clause = server.query("SELECT 1 AS format FORMAT JSONCompact -- FORMAT CSV", default_format="CSV")
    assert json.loads(clause.body)["data"] == [[1]]
    assert clause.headers["X-ClickHouse-Format"] == "JSONCompact"
    assert clause.headers["Content-Type"].startswith("application/json")
    assert server.query("SELECT 1 FORMAT Nope").code == 73
    assert server.query("SELECT 1", default_format="Nope").code == 73
    assert server.query("CREATE DATABASE IF NOT EXISTS other").headers["X-ClickHouse-Format"] is None


def test_headers_of_an_answer(server: Server) -> None:
    answer = server.query("SELECT * FROM numbers(10)", query_id="my-id")
    assert answer.headers["X-ClickHouse-Query-Id"] == "my-id"
    assert answer.headers["X-ClickHouse-Timezone"]
    assert answer.summary["result_rows"] == "10"
    assert all(isinstance(value, str) for value in answer.summary.values())
    injected = server.query("SELECT 1", query_id="a\r\nX-Evil: 1")
    assert injected.headers["X-Evil"] is None


@pytest.mark.parametrize("name", ["Native", "Arrow", "ArrowStream", "Parquet", "JSON", "TabSeparatedWithNames", "CSV"])
def test_whole_results(server: Server, name: str) -> None:
    """More than one block of the engine, so that formats with a head or an end show whether it is there once."""
    content = server.query(f"SELECT number AS n, toString(number) AS s FROM numbers(200000) FORMAT {name}").body
    assert server.query(content, query=f"INSERT INTO FUNCTION null('n UInt64, s String') FORMAT {name}").status == 200
    server.run("CREATE OR REPLACE TABLE back (n UInt64, s String) ENGINE = Memory")
    assert server.query(content, query=f"INSERT INTO back FORMAT {name}").summary["written_rows"] == "200000"
    assert server.rows("SELECT sum(n), uniqExact(s), countIf(toString(n) != s) FROM back") == [
        [str(sum(range(200000))), "200000", "0"]
    ]


# Compression


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip", "deflate"])
@pytest.mark.parametrize("rows", [3, 300_000])
def test_compressed_results(server: Server, encoding: str, rows: int) -> None:
    answer = server.query(
        f"SELECT number FROM numbers({rows})", {"Accept-Encoding": encoding}, enable_http_compression=1
    )
    assert answer.headers["Content-Encoding"] == encoding
    plain = server.query(f"SELECT number FROM numbers({rows})")
    assert decode(encoding, answer.body) == plain.body
    assert plain.headers["Content-Encoding"] is None


def test_compression_can_be_turned_off(server: Server) -> None:
    answer = server.query("SELECT 1", {"Accept-Encoding": "gzip"}, enable_http_compression=0)
    assert answer.body == b"1\n"


def decode(encoding: str, content: bytes) -> bytes:
    match encoding:
        case "lz4":
            return bytes(lz4.frame.decompress(content))
        case "zstd":
            return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()
        case "gzip":
            return gzip.decompress(content)
        case _:
            import zlib

            return zlib.decompress(content)


# Errors


@pytest.mark.parametrize(
    ("sql", "code", "status"),
    [
        ("SELECT * FROM no_such_table", 60, 404),
        ("SELEC 1", 62, 400),
        ("SELECT no_such_column FROM numbers(1)", 47, 404),
        ("SELECT 1 FROM no_such_database.t", 81, 404),
        ("SELECT no_such_function(1)", 46, 404),
        ("SELECT toUInt8('x')", 6, 400),
        ("CREATE TABLE t (a NoSuchType) ENGINE = Memory", 50, 404),
        ("SELECT throwIf(1)", 395, 500),
        ("SELECT sleepEachRow(0.1) FROM numbers(50) SETTINGS max_execution_time = 0.2, max_block_size = 1", 159, 408),
    ],
)
def test_errors_with_their_codes(server: Server, sql: str, code: int, status: int) -> None:
    answer = server.query(sql)
    assert (answer.code, answer.status) == (code, status), answer.text
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    assert answer.text.endswith(")\n")
    assert answer.text.count("DB::Exception") == 1


def test_error_in_mid_stream(server: Server) -> None:
    """The head is out: a tag in it, and the error behind the rows, between the marks."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(
        "POST",
        "/",
        body="SELECT number, throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 10000",
        headers={"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD.encode().decode("latin-1")},
    )
    response = connection.getresponse()
    assert response.status == 200
    tag = response.headers["X-ClickHouse-Exception-Tag"].encode()
    with pytest.raises(http.client.IncompleteRead) as broken:
        response.read()
    connection.close()
    body = broken.value.partial
    rows, mark, rest = body.partition(b"\r\n__exception__\r\n" + tag + b"\r\n")
    assert mark
    assert rows.splitlines()[0] == b"0\t0"
    message, end, _ = rest.rpartition(b" " + tag + b"\r\n__exception__\r\n")
    assert end
    text, _, length = message.rpartition(b"\n")
    assert b"Code: 395." in text
    assert int(length) == len(text) + 1


def test_clickhouse_connect_sees_an_error_in_mid_stream(server: Server) -> None:
    with server.client() as client:
        sql = "SELECT number, throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 10000"
        with pytest.raises(StreamFailureError, match="395"), client.query_rows_stream(sql) as stream:
            for _ in stream:
                pass
        with pytest.raises(DatabaseError, match="395"):
            client.query(sql)
        assert client.command("SELECT 1") == 1


def test_early_error_of_a_streamed_result_has_its_status(server: Server) -> None:
    answer = server.query("SELECT throwIf(number = 20000) FROM numbers(100000) SETTINGS max_block_size = 1000")
    assert (answer.status, answer.code) == (500, 395)


def test_buffered_result_has_its_status(server: Server) -> None:
    sql = "SELECT number, throwIf(number = 9000000) FROM numbers(10000000) FORMAT RowBinary"
    assert server.query(sql, wait_end_of_query=1).status == 500


def test_buffered_result_larger_than_memory_is_whole(server: Server) -> None:
    answer = server.query("SELECT number FROM numbers(6000000) FORMAT RowBinary", wait_end_of_query=1)
    assert int(answer.headers["Content-Length"]) == len(answer.body) == 48_000_000
    assert list((server.folder / "spool").iterdir()) == []


def test_path_that_is_none(server: Server) -> None:
    assert server.request("GET", "/play").status == 404
    assert server.request("PUT", "/").status == 405


# Sessions


def test_session_keeps_settings_and_temporary_tables(server: Server) -> None:
    session = {"session_id": "kept"}
    assert server.query("CREATE TEMPORARY TABLE seen (a Int8)", **session).status == 200
    assert server.query("INSERT INTO seen VALUES (1), (2)", **session).status == 200
    assert server.query("SELECT sum(a) FROM seen", **session).body == b"3\n"
    assert server.query("SET max_threads = 3", **session).status == 200
    assert server.query("SELECT getSetting('max_threads')", **session).body == b"3\n"
    assert server.query("SELECT getSetting('max_threads')", max_threads=5, **session).body == b"5\n"
    assert server.query("SELECT getSetting('max_threads')", **session).body == b"3\n"
    assert server.request("GET", target(query="SELECT sum(a) FROM seen", **session)).body == b"3\n"
    assert server.request("GET", target(query="DROP TABLE seen", **session)).code == 164
    assert server.query("SELECT * FROM seen").code == 60
    assert server.query("SELECT * FROM seen", session_id="another").code == 60


def test_session_ends_after_its_time(server: Server) -> None:
    server.query("CREATE TEMPORARY TABLE short (a Int8)", session_id="short", session_timeout=0)
    deadline = time.monotonic() + 60
    while (code := server.query("SELECT 1", session_id="short", session_check=1).code) == 373:
        assert time.monotonic() < deadline, "the first request never let go of its session"
    assert code == 372
    assert server.query("SELECT 1", session_id="long", session_timeout=100_000).code == 374


def test_session_serves_one_request_at_a_time(server: Server) -> None:
    sql = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleep(1.5)%'"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.query, "SELECT sleep(1.5)", session_id="busy")
        deadline = time.monotonic() + 60
        while server.rows(sql) != [["1"]]:
            assert time.monotonic() < deadline
        assert server.query("SELECT 1", session_id="busy").code == 373
        assert first.result().status == 200
    assert server.query("SELECT 1", session_id="busy").status == 200


# Many at once


def test_requests_run_side_by_side(server: Server) -> None:
    def work(number: int) -> list[bytes]:
        return [server.query("SELECT {n:UInt64} * 2", param_n=number * 100 + i).body for i in range(20)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert results == [[b"%d\n" % (2 * (n * 100 + i)) for i in range(20)] for n in range(8)]
    # And none waits for another: six that take half a minute each are seen at once.
    lasting = "SELECT 'beside' FROM numbers(30) WHERE NOT ignore(sleepEachRow(1)) SETTINGS max_block_size = 1"
    beside = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT \\'beside\\'%'"
    connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(6)]
    for connection in connections:
        connection.request("POST", "/", body=lasting, headers=LOGIN)
    eventually(lambda: server.rows(beside) == [["6"]], 60)
    for connection in connections:
        connection.close()
    eventually(lambda: server.rows(beside) == [["0"]], 120)


def test_hundred_idle_connections_hold_no_thread(server: Server) -> None:
    connections = []
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", "/ping")
        connection.getresponse().read()
        connections.append(connection)
    assert server.query("SELECT 1").body == b"1\n"
    connections[0].request("GET", "/ping")
    assert connections[0].getresponse().read() == b"Ok.\n"
    for connection in connections:
        connection.close()


def test_streamed_result_takes_constant_memory(server: Server) -> None:
    """480 MB through a server that grows by less than a fifth of that."""
    process = psutil.Process(server.pid)
    for name, row in (("Native", 16), ("RowBinary", 16)):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request(
            "POST",
            "/",
            body=f"SELECT number, number * 2 FROM numbers(15000000) FORMAT {name}",
            headers=LOGIN,
        )
        response = connection.getresponse()
        before = process.memory_info().rss
        size = peak = 0
        while piece := response.read(1 << 20):
            size += len(piece)
            peak = max(peak, process.memory_info().rss - before)
        connection.close()
        assert size >= 15_000_000 * row
        assert peak < 100e6, f"{name}: grew by {peak / 1e6:.0f} MB"


def test_client_that_goes_away_ends_its_statement(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(
        "POST",
        "/",
        body="SELECT number, 'gone' FROM system.numbers",
        headers=LOGIN,
    )
    connection.getresponse().read(1 << 20)
    sql = "SELECT count() FROM system.processes WHERE query LIKE '%gone%' AND query NOT LIKE '%processes%'"
    assert server.rows(sql) == [["1"]]
    connection.close()
    eventually(lambda: server.rows(sql) == [["0"]], 60, "the statement has ended")


# Clients


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_clickhouse_connect(server: Server, compress: bool | str) -> None:
    with server.client(compress=compress) as client:
        client.command(
            "CREATE OR REPLACE TABLE cc (a String, n UInt64, l LowCardinality(String), d Decimal(38, 9)) "
            "ENGINE = MergeTree ORDER BY n"
        )
        rows = [[f"ä{n}", n, "low", Decimal(n) / 8] for n in range(5000)]
        assert client.insert("cc", rows, column_names=["a", "n", "l", "d"]).written_rows == 5000
        arrow = pa.table({"a": ["arrow"], "n": pa.array([9999], pa.uint64())})
        assert client.insert_arrow("cc", arrow).written_rows == 1
        found = client.query("SELECT * FROM cc WHERE n < {below:UInt64} ORDER BY n", parameters={"below": 5000})
        assert found.result_rows == [tuple(row) for row in rows]
        assert client.query_arrow("SELECT sum(n) AS s FROM cc")["s"].to_pylist() == [sum(range(5000)) + 9999]
        with client.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
            assert sum(len(block) for block in stream) == 300_000
        assert client.query("SELECT * FROM cc LIMIT 0").column_names == ("a", "n", "l", "d")
        with pytest.raises(DatabaseError) as missing:
            client.query("SELECT * FROM no_such_table")
        assert missing.value.code == 60
        assert client.ping()


def test_clickhouse_connect_form_fields_and_external_data(server: Server) -> None:
    external = ExternalData(file_name="ext.csv", data=b'1,"a"\n2,b\n', fmt="CSV", structure="x UInt8, y String")
    external.add_file(file_name="typed.tsv", data=b"5\t0.5\n", fmt="TSV", types="UInt8,Decimal(38, 9)")
    with server.client(form_encode_query_params=True) as client:
        found = client.query(
            "SELECT x + {add:UInt8}, y, _2 FROM ext, typed ORDER BY x", parameters={"add": 10}, external_data=external
        )
        assert found.result_rows == [(11, "a", Decimal("0.5")), (12, "b", Decimal("0.5"))]
    with server.client() as client, pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        client.query("SELECT * FROM ext")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server: Server, tmp_path: Path) -> None:
    def curl(*arguments: str, content: bytes = b"") -> bytes:
        command = ["curl", "-sS", "--user", f"{USER}:{PASSWORD}", *arguments]
        return subprocess.run(command, input=content, capture_output=True, check=True).stdout

    server.run("CREATE OR REPLACE TABLE curled (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    assert curl(server.url, "--data-binary", "SELECT 1") == b"1\n"
    assert curl(server.url + "/?query=SELECT%202") == b"2\n"
    assert curl(server.url + "/?query=INSERT%20INTO%20curled%20VALUES", "--data-binary", "(1,'x'),(2,'y')") == b""
    rows = tmp_path / "rows.tsv.gz"
    rows.write_bytes(gzip.compress(b"3\tz\n"))
    target_url = server.url + "/?query=INSERT%20INTO%20curled%20FORMAT%20TSV"
    curl(target_url, "-H", "Content-Encoding: gzip", "--data-binary", f"@{rows}")
    curl(target_url, "-T", "-", "-X", "POST", content=b"4\tchunked\n")
    table = server.url + "/?enable_http_compression=1"
    assert curl(table, "--compressed", "-d", "SELECT * FROM curled ORDER BY a FORMAT CSV") == (
        b'1,"x"\n2,"y"\n3,"z"\n4,"chunked"\n'
    )
    assert b"Code: 60." in curl(server.url, "-d", "SELECT * FROM no_such_table")
    fields = ("-F", "query=SELECT sum(a) FROM t2", "-F", "t2=@-;filename=t2")
    assert curl(server.url + "/?t2_structure=a%20UInt8&t2_format=CSV", *fields, content=b"1\n2\n") == b"3\n"
