"""The HTTP server in front of ClickHouse's engine: no file of the machine can be read or written through it, no program
run, no connection opened. One test per way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from support.clickhouse_server import Server, target

SECRET = "s3cr3t-of-the-machine"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is none of the server's, with a file in it."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.txt").write_text(SECRET + "\n")
    (folder / "secret.csv").write_text(f"1,{SECRET}\n")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("data") / "server") as running:
        running.run(
            "CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY a",
            "CREATE TABLE paths (a String) ENGINE = Memory",
        )
        yield running


READS = [
    "SELECT * FROM file('{file}', 'LineAsString')",
    "SELECT file('{file}')",
    r"SELECT `fi\x6ce`('{file}')",
    "SELECT /* ' */ file -- x\n('{file}')",
    "SELECT arrayMap(x -> file(x), ['{file}'])",
    "SELECT * FROM '{file}'",
    "SELECT * FROM `{file}`",
    "SELECT * FROM default.`{file}`",
    "SELECT * FROM loop(file('{file}', 'LineAsString')) LIMIT 1",
    "SELECT * FROM eval('SELECT file(\\'{file}\\')') SETTINGS allow_experimental_eval_table_function = 1",
    "SELECT * FROM filesystem('{folder}')",
    "SELECT * FROM url('file://{file}', 'LineAsString')",
    "SELECT * FROM executable('cat {file}', 'LineAsString', 'a String')",
    "SELECT * FROM sqlite('{folder}/x.db', 't')",
    "SELECT * FROM python(environ)",
    "DESCRIBE TABLE file('{file}')",
    "EXPLAIN SELECT * FROM file('{file}', 'LineAsString')",
    "INSERT INTO t FROM INFILE '{file}' FORMAT LineAsString",
    "insert into t from /* ' */ infile -- '\n'{file}' format LineAsString",
    "INSERT INTO t SELECT * FROM file('{file}', 'LineAsString')",
    "INSERT INTO t SELECT file('{file}')",
    "INSERT INTO t VALUES (file('{file}'))",
    "INSERT INTO t VALUES ((SELECT * FROM file('{file}', 'LineAsString')))",
    "CREATE TABLE f ENGINE = Memory AS SELECT file('{file}') AS a",
    "CREATE TABLE f (a String) ENGINE = File(LineAsString, '{file}')",
    "CREATE TEMPORARY TABLE f (a String) ENGINE = File(LineAsString, '{file}')",
    "ATTACH TABLE f (a String) ENGINE = File(LineAsString, '{file}')",
    "CREATE TABLE f AS file('{file}', 'LineAsString')",
    "CREATE VIEW f AS SELECT * FROM file('{file}', 'LineAsString')",
    "CREATE TABLE f (a String) ENGINE = FileLog('{folder}', 'LineAsString')",
    "CREATE TABLE f (a String) ENGINE = SQLite('{folder}/x.db', 't')",
    "CREATE TABLE f (a String) ENGINE = EmbeddedRocksDB(0, '{folder}', 1) PRIMARY KEY a",
    "CREATE TABLE f (a String) ENGINE = Python(environ)",
    "CREATE TABLE f (a String) ENGINE = IcebergLocal('{folder}')",
    "CREATE DATABASE f ENGINE = Filesystem('{folder}')",
    "CREATE DATABASE f ENGINE = SQLite('{folder}/x.db')",
    "CREATE DATABASE f ENGINE = Overlay('default', 'system')",
    "CREATE DATABASE f ENGINE = Backup('b', File('{folder}'))",
    "CREATE DICTIONARY f (a UInt64, b String) PRIMARY KEY a SOURCE(FILE(PATH '{csv}' FORMAT 'CSV')) LAYOUT(FLAT())",
    "CREATE DICTIONARY f (a UInt64, b String) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'cat {csv}' FORMAT 'CSV')) "
    "LAYOUT(FLAT()) LIFETIME(0)",
    "CREATE FUNCTION f AS (x) -> file(x)",
    "CREATE NAMED COLLECTION f AS path = '{file}'",
    "ATTACH TABLE f FROM '{folder}' (a Int8) ENGINE = MergeTree ORDER BY a",
    "CREATE TABLE f (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = '{folder}/')",
    "CREATE TABLE f (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = 'backups'",
    "RESTORE TABLE t FROM Disk('backups', '{folder}/backup')",
    r"CREATE TABLE f (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS `dis\x6b` = `dis\x6b`(type = web, endpoint = 'x')",
    "RESTORE TABLE t FROM File('{folder}/backup')",
    "SELECT 1 FORMAT Template SETTINGS format_template_row = '{file}'",
    "SELECT 1 AS a FORMAT Protobuf SETTINGS format_schema = '{file}:M'",
    "SELECT addressToLine(1)",
    "SYSTEM RELOAD CONFIG",
    "COPY t FROM '{file}'",
]

LATE = [
    # The engine refuses these only when the table is used.
    ("CREATE TABLE f (a String) ENGINE = Executable('cat {file}', 'LineAsString')", "SELECT * FROM f"),
    ("CREATE VIEW f AS SELECT file(a) AS a FROM paths", "SELECT * FROM f"),
    ("CREATE TABLE f (a String, b String DEFAULT file(a)) ENGINE = Memory", "INSERT INTO f (a) VALUES ('{file}')"),
    ("CREATE MATERIALIZED VIEW f ENGINE = Memory AS SELECT file(a) AS b FROM t", "INSERT INTO t VALUES ('{file}')"),
]

WRITES = [
    "SELECT 1 INTO OUTFILE '{folder}/written'",
    "select 1 into /* x */ outfile -- '\n'{folder}/written' format CSV",
    "SHOW TABLES INTO OUTFILE '{folder}/written'",
    "EXPLAIN SELECT 1 INTO OUTFILE '{folder}/written'",
    "WITH 1 AS x SELECT x INTO OUTFILE '{folder}/written'",
    "SELECT 'a\\'' INTO OUTFILE $tag${folder}/written$tag$",
    "INSERT INTO FUNCTION file('{folder}/written', 'CSV', 'a Int8') SELECT 1",
    "INSERT INTO FUNCTION file('{folder}/written', 'CSV', 'a Int8') VALUES (1)",
    "CREATE TABLE written (a Int8) ENGINE = File(CSV, '{folder}/written')",
    "BACKUP TABLE t TO File('{folder}/written')",
    "BACKUP TABLE t TO Disk('default', 'written')",
    "BACKUP TABLE t TO Disk('backups', '../written')",
    "BACKUP TABLE t TO Disk('backups', '{folder}/written')",
    "COPY t TO '{folder}/written'",
    "SELECT 1 AS a FORMAT CapnProto SETTINGS output_format_schema = '{folder}/written'",
    "SYSTEM SHUTDOWN",
    "SYSTEM KILL",
]

CONNECTIONS = [
    "SELECT * FROM url('http://{address}/', 'LineAsString')",
    "SELECT * FROM urlCluster('default', 'http://{address}/', 'LineAsString')",
    "SELECT * FROM s3('http://{address}/bucket/key', 'LineAsString')",
    "SELECT * FROM remote('{address}', system.one)",
    "SELECT * FROM remoteSecure('{address}', system.one)",
    "SELECT * FROM cluster('default', system.one)",
    "SELECT * FROM mysql('{address}', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('{address}', 'a', 'b', 'c', 'd')",
    "SELECT * FROM mongodb('{address}', 'a', 'b', 'c', 'd', 'x Int8')",
    "SELECT * FROM redis('{address}', 'a', 'a Int8')",
    "SELECT * FROM hdfs('hdfs://{address}/a', 'CSV', 'a Int8')",
    "SELECT * FROM deltaLake('http://{address}/bucket/table/')",
    "SELECT * FROM azureBlobStorage('http://{address}/', 'a', 'b', 'c', 'CSV', 'a Int8')",
    "CREATE TABLE f (a String) ENGINE = URL('http://{address}/', CSV)",
    "CREATE TABLE f (a String) ENGINE = S3('http://{address}/bucket/key', 'CSV')",
    "CREATE TABLE f (a String) ENGINE = Kafka('{address}', 't', 'g', 'CSV')",
    "CREATE TABLE f (a String) ENGINE = Distributed('default', 'default', 't')",
    "CREATE DATABASE f ENGINE = MySQL('{address}', 'a', 'b', 'c')",
    "CREATE DATABASE f ENGINE = URL('http://{address}/')",
    "CREATE DATABASE f ENGINE = DataLakeCatalog('http://{address}/') SETTINGS warehouse = 'x', catalog_type = 'rest'",
    "CREATE DICTIONARY f (a UInt64, b String) PRIMARY KEY a SOURCE(HTTP(URL 'http://{address}/' FORMAT 'TSV')) "
    "LAYOUT(FLAT()) LIFETIME(0)",
    "SELECT * FROM format('AvroConfluent', 'x') SETTINGS format_avro_schema_registry_url = 'http://{address}/'",
    "CREATE TABLE f (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = web, endpoint = 'http://{address}/')",
    "BACKUP TABLE t TO S3('http://{address}/bucket/key', 'a', 'b')",
]


def fill(statement: str, outside: Path, address: str = "") -> str:
    for name, value in (
        ("file", outside / "secret.txt"),
        ("csv", outside / "secret.csv"),
        ("folder", outside),
        ("address", address),
    ):
        statement = statement.replace("{" + name + "}", str(value))
    return statement


@pytest.mark.parametrize("statement", READS)
def test_no_file_is_read(server: Server, outside: Path, statement: str) -> None:
    sql = fill(statement, outside)
    for answer in (
        server.query(sql),
        server.request("GET", target(query=sql)),
        server.query("", query=sql, session_id="s"),
    ):
        assert answer.code != 0, answer.text
        assert SECRET not in answer.text
    assert server.query("EXISTS TABLE f").body == b"0\n"
    assert server.query("EXISTS DATABASE f").body == b"0\n"
    assert server.count("t") == 0


@pytest.mark.parametrize(("create", "use"), LATE)
def test_no_file_is_read_through_a_table(server: Server, outside: Path, create: str, use: str) -> None:
    server.run(f"INSERT INTO paths VALUES ('{outside}/secret.txt')")
    server.query(fill(create, outside))
    try:
        answer = server.query(fill(use, outside))
        assert answer.code != 0
        assert SECRET not in answer.text
        assert SECRET not in server.query("SELECT * FROM f").text
    finally:
        server.run("DROP TABLE IF EXISTS f", "TRUNCATE TABLE t")


@pytest.mark.parametrize("statement", WRITES)
def test_no_file_is_written(server: Server, outside: Path, statement: str) -> None:
    before = sorted(outside.iterdir())
    assert server.query(fill(statement, outside)).code != 0
    assert sorted(outside.iterdir()) == before
    assert server.query("SELECT 1").body == b"1\n"


@pytest.fixture(scope="module")
def listener() -> Iterator[tuple[str, list[str]]]:
    """An HTTP server that remembers who came: its address and the requests."""
    seen: list[str] = []

    class Remember(BaseHTTPRequestHandler):
        def handle(self) -> None:
            seen.append("connected")

    with HTTPServer(("127.0.0.1", 0), Remember) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield f"127.0.0.1:{running.server_port}", seen
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("statement", CONNECTIONS)
def test_no_connection_is_opened(
    server: Server, outside: Path, listener: tuple[str, list[str]], statement: str
) -> None:
    address, seen = listener
    assert server.query(fill(statement, outside, address)).code != 0
    assert seen == []
    assert server.query("EXISTS TABLE f").body == b"0\n"


def test_a_refusal_says_what_is_not_available(server: Server, outside: Path) -> None:
    for statement, text in (
        ("SELECT 1 INTO OUTFILE '/x'", "OUTFILE is not available on this server"),
        ("INSERT INTO t FROM INFILE '/x' FORMAT CSV", "INFILE is not available on this server"),
        ("SELECT * FROM file('/x', 'CSV', 'a Int8')", "Not enough privileges"),
    ):
        answer = server.query(statement)
        assert (answer.code, answer.status) == (497, 403)
        assert text in answer.text
    assert "file() is not available on this server" in server.query("SELECT file('/x')").text


def test_settings_that_name_files_or_addresses_are_fixed(server: Server, outside: Path) -> None:
    for name in ("format_schema", "format_template_row", "output_format_schema", "format_avro_schema_registry_url"):
        assert server.query("SELECT 1", **{name: str(outside)}).code == 452, name
        assert server.query(f"SET {name} = 'x'", session_id="fixed").code == 452, name
    assert server.query("FROM t | select a", dialect="prql").code == 452


def test_structure_of_an_external_table_is_no_way_in(server: Server, outside: Path) -> None:
    boundary = "b0undary"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="ext"; filename="ext"\r\n\r\n1\r\n--{boundary}--\r\n'
    ).encode()
    for structure, input_format, code in (
        (f"a String) ENGINE = File(LineAsString, '{outside}/secret.txt') --", "CSV", 497),
        (f"a String, b String DEFAULT file('{outside}/secret.txt')", "CSV", 800),
        ("a UInt8", "CSV SETTINGS x = 1", 73),
    ):
        answer = server.request(
            target=target(query="SELECT * FROM ext", ext_structure=structure, ext_format=input_format),
            body=body,
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        assert answer.code == code, answer.text
        assert SECRET not in answer.text


def test_every_table_function_of_the_engine_is_either_known_or_refused(server: Server, outside: Path) -> None:
    """A newer engine's new source would show up here."""
    harmless = {
        *("dictionary", "format", "fuzzJSON", "fuzzQuery", "generateRandom", "generateSeries", "generate_series"),
        *("input", "loop", "merge", "mergeTreeAnalyzeIndexes", "mergeTreeAnalyzeIndexesUUID", "mergeTreeIndex"),
        *("mergeTreeCodecBlockCounts", "mergeTreeProjection", "mergeTreeTextIndex", "null", "numbers", "numbers_mt"),
        *("primes", "SQLStandardValues", "timeSeriesData", "timeSeriesMetricFamilies", "timeSeriesMetrics"),
        *("timeSeriesSamples", "timeSeriesSelector", "timeSeriesTags", "values", "view", "viewExplain"),
        *("viewIfPermitted", "zeros", "zeros_mt"),
    }
    names = {row[0] for row in server.rows("SELECT name FROM system.table_functions")}
    assert len(names) > 50
    for name in sorted(names - harmless):
        for arguments in (f"'{outside}/secret.txt', 'LineAsString'", "", "x"):
            answer = server.query(f"SELECT * FROM {name}({arguments})")
            assert answer.code != 0, (name, answer.text)
            assert SECRET not in answer.text


def test_words_of_refused_clauses_are_free_in_names_and_texts(server: Server) -> None:
    server.run(
        "CREATE TABLE file (disk String, url String, engine UInt8) ENGINE = MergeTree ORDER BY disk",
        "INSERT INTO file (disk, url) VALUES ('file(1)', 'into outfile \\'x\\'')",
        r"INSERT INTO file SELECT 'a\'b', 'python(x)', 1",
    )
    assert server.rows("SELECT count() FROM file WHERE disk IN ('file(1)', 'x') AND url LIKE 'into outfile %'") == [
        ["1"]
    ]
    assert server.rows("SELECT 'file(' || 'disk(' AS outfile -- file('x')\n") == [["file(disk("]]
    server.run("DROP TABLE file")
