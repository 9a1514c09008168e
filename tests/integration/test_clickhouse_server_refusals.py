"""The HTTP server in front of ClickHouse's engine: no file of the machine can be read or written through it, no program
run, no connection opened. One test per way; then every layer of defence by itself."""

from __future__ import annotations

import json
import subprocess
import sys
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
            "CREATE TABLE defaults (a String, b String DEFAULT a) ENGINE = Memory",
        )
        yield running


READS = [
    "SELECT * FROM file('{file}', 'LineAsString')",
    "SELECT * FROM FILE('{file}', LineAsString)",
    "SELECT file('{file}')",
    "SELECT `file`('{file}')",
    "SELECT \"file\"('{file}')",
    r"SELECT `fi\x6ce`('{file}')",
    r"SELECT * FROM `fil\u0065`('{file}', 'LineAsString')",
    "SELECT /* ' */ file /* ' */ ('{file}')",
    "SELECT file -- x\n('{file}')",
    "SELECT arrayMap(x -> file(x), ['{file}'])",
    "SELECT * FROM '{file}'",
    "SELECT * FROM `{file}`",
    "SELECT * FROM default.`{file}`",
    "SELECT * FROM view(SELECT * FROM file('{file}', 'LineAsString'))",
    "SELECT * FROM loop(file('{file}', 'LineAsString')) LIMIT 1",
    "SELECT * FROM eval('SELECT file(\\'{file}\\')') SETTINGS allow_experimental_eval_table_function = 1",
    "SELECT * FROM fileCluster('default', '{file}', 'LineAsString')",
    "SELECT * FROM filesystem('{folder}')",
    "SELECT * FROM url('file://{file}', 'LineAsString')",
    "SELECT * FROM executable('cat {file}', 'LineAsString', 'a String')",
    "SELECT * FROM sqlite('{folder}/x.db', 't')",
    "SELECT * FROM icebergLocal('{folder}')",
    "SELECT * FROM deltaLakeLocal('{folder}')",
    "SELECT * FROM paimonLocal('{folder}')",
    "SELECT * FROM python(environ)",
    "SELECT * FROM Python('environ')",
    r"SELECT * FROM `pyt\x68on`(environ)",
    "SELECT * FROM arrowstream('x')",
    "SELECT catboostEvaluate('{file}', 1)",
    "DESCRIBE TABLE file('{file}')",
    "DESCRIBE TABLE file('{file}', 'LineAsString')",
    "EXPLAIN SELECT * FROM file('{file}', 'LineAsString')",
    "INSERT INTO t FROM INFILE '{file}' FORMAT LineAsString",
    "INSERT INTO t SELECT * FROM file('{file}', 'LineAsString')",
    "INSERT INTO t SELECT file('{file}')",
    "INSERT INTO t VALUES (file('{file}'))",
    "INSERT INTO t FORMAT Values (file('{file}'))",
    "INSERT INTO t VALUES ((SELECT * FROM file('{file}', 'LineAsString')))",
    "CREATE TABLE f ENGINE = Memory AS SELECT file('{file}') AS a",
    "CREATE TABLE f (a String) ENGINE = File(LineAsString, '{file}')",
    "CREATE TEMPORARY TABLE f (a String) ENGINE = File(LineAsString, '{file}')",
    "ATTACH TABLE f (a String) ENGINE = File(LineAsString, '{file}')",
    "CREATE TABLE f AS file('{file}', 'LineAsString')",
    "CREATE VIEW f AS SELECT * FROM file('{file}', 'LineAsString')",
    "CREATE VIEW f AS SELECT file('{file}')",
    "CREATE MATERIALIZED VIEW f ENGINE = Memory AS SELECT file(a) AS a FROM t",
    "CREATE TABLE f (a String, b String DEFAULT file(a)) ENGINE = Memory",
    "ALTER TABLE defaults MODIFY COLUMN b String DEFAULT file(a)",
    "CREATE TABLE f (a String) ENGINE = FileLog('{folder}', 'LineAsString')",
    "CREATE TABLE f (a String) ENGINE = SQLite('{folder}/x.db', 't')",
    "CREATE TABLE f (a String) ENGINE = EmbeddedRocksDB(0, '{folder}', 1) PRIMARY KEY a",
    "CREATE TABLE f (a String) ENGINE = Executable('cat {file}', 'LineAsString')",
    "CREATE TABLE f (a String) ENGINE = ExecutablePool('cat {file}', 'LineAsString')",
    "CREATE TABLE f (a String) ENGINE = Python(environ)",
    "CREATE TABLE f (a String) ENGINE = IcebergLocal('{folder}')",
    "CREATE TABLE f (query String, database String, settings Map(String, String)) ENGINE = QueryRunner",
    "CREATE DATABASE f ENGINE = Filesystem('{folder}')",
    "CREATE DATABASE f ENGINE = SQLite('{folder}/x.db')",
    "CREATE DATABASE f ENGINE = Overlay('default', 'system')",
    "CREATE DATABASE f ENGINE = Backup('b', File('{folder}'))",
    "CREATE DICTIONARY f (a UInt64, b String) PRIMARY KEY a SOURCE(FILE(PATH '{csv}' FORMAT 'CSV')) LAYOUT(FLAT())",
    "CREATE DICTIONARY f (a UInt64, b String) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'cat {csv}' FORMAT 'CSV')) "
    "LAYOUT(FLAT()) LIFETIME(0)",
    "CREATE DICTIONARY f (a UInt64, b String) PRIMARY KEY a "
    "SOURCE(CLICKHOUSE(QUERY 'SELECT 1 AS a, file(\\'{file}\\') AS b')) LAYOUT(FLAT()) LIFETIME(0)",
    "CREATE DICTIONARY f (a UInt64, b String) PRIMARY KEY a SOURCE(CLICKHOUSE(DB 'default' TABLE 't')) LAYOUT(FLAT())",
    "CREATE FUNCTION f AS (x) -> file(x)",
    "CREATE NAMED COLLECTION f AS path = '{file}'",
    "ATTACH TABLE f FROM '{folder}' (a Int8) ENGINE = MergeTree ORDER BY a",
    "CREATE TABLE f (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = '{folder}/')",
    "CREATE TABLE f (a Int8) ENGINE = MergeTree ORDER BY a "
    "SETTINGS disk = disk(type = local_blob_storage, path = '{folder}/')",
    r"CREATE TABLE f (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS `dis\x6b` = `dis\x6b`(type = web, endpoint = 'x')",
    "CREATE TABLE f (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = 'other', table_disk = 1",
    "RESTORE TABLE t FROM File('{folder}/backup')",
    "SELECT 1 FORMAT Template SETTINGS format_template_row = '{file}'",
    "SELECT * FROM format('Template', 'x') SETTINGS format_template_row = '{file}'",
    "SELECT 1 AS a FORMAT Protobuf SETTINGS format_schema = '{file}:M'",
    "SELECT * FROM format('CapnProto', 'x') SETTINGS format_schema = '{file}:M'",
    "SELECT * FROM system.stack_trace",
    "SELECT * FROM system.certificates",
    "SELECT * FROM system.symbols",
    "SELECT addressToLine(1)",
    "SYSTEM RELOAD CONFIG",
    "COPY t FROM '{file}'",
]

WRITES = [
    "SELECT 1 INTO OUTFILE '{folder}/written'",
    "SELECT 1 INTO OUTFILE '{folder}/written' FORMAT CSV",
    "SELECT 1 INTO /* x */ OUTFILE '{folder}/written'",
    "SHOW TABLES INTO OUTFILE '{folder}/written'",
    "EXPLAIN SELECT 1 INTO OUTFILE '{folder}/written'",
    "WITH 1 AS x SELECT x INTO OUTFILE '{folder}/written'",
    "INSERT INTO FUNCTION file('{folder}/written', 'CSV', 'a Int8') SELECT 1",
    "INSERT INTO FUNCTION file('{folder}/written', 'CSV', 'a Int8') VALUES (1)",
    "INSERT INTO TABLE FUNCTION file('{folder}/written', 'CSV', 'a Int8') FORMAT CSV 1",
    "CREATE TABLE written (a Int8) ENGINE = File(CSV, '{folder}/written')",
    "BACKUP TABLE t TO File('{folder}/written')",
    "BACKUP TABLE t TO Disk('default', 'written')",
    "BACKUP DATABASE default TO File('{folder}/written')",
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
    answer = server.query(sql)
    assert answer.code != 0, answer.text
    for other in (answer, server.request("GET", target(query=sql)), server.query("", query=sql, session_id="attack")):
        assert SECRET not in other.text
    assert server.query("EXISTS TABLE f").body == b"0\n"
    assert server.query("EXISTS DATABASE f").body == b"0\n"
    assert server.count("t") == 0


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


def test_settings_that_name_files_or_addresses_are_fixed(server: Server, outside: Path) -> None:
    for name in ("format_schema", "format_template_row", "output_format_schema", "format_avro_schema_registry_url"):
        assert server.query("SELECT 1", **{name: str(outside)}).code == 452, name
        assert server.query(f"SET {name} = 'x'", session_id="fixed").code == 452, name
    assert server.query("FROM t | select a", dialect="prql").code == 452
    assert server.query("SELECT demangle('x')", allow_introspection_functions=1).code in (446, 452, 497)


def test_structure_of_an_external_table_is_no_way_in(server: Server, outside: Path) -> None:
    boundary = "b0undary"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="ext"; filename="ext"\r\n\r\n1\r\n--{boundary}--\r\n'
    ).encode()
    for structure in (
        f"a String) ENGINE = File(LineAsString, '{outside}/secret.txt') --",
        f"a String DEFAULT file('{outside}/secret.txt')",
    ):
        answer = server.request(
            target=target(query="SELECT * FROM ext", ext_structure=structure, ext_format="CSV"),
            body=body,
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        assert answer.code == 497, answer.text
        assert SECRET not in answer.text
    described = target(query="SELECT * FROM ext", ext_structure="a UInt8", ext_format="CSV SETTINGS x = 1")
    answer = server.request(
        target=described, body=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    assert answer.code == 73


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
            assert answer.code == 497, (name, answer.text)


def test_words_of_the_guard_are_free_in_names_and_texts(server: Server) -> None:
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


# Each layer by itself: a hole in one is not a hole in the server.

CHILD = """
import json, sys
from pathlib import Path
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.folder import DataFolder

with DataFolder(Path(sys.argv[1])) as folder:
    folder.enter()
    from meterfold_local.clickhouse.engine import Engine
    engine = Engine()
    codes = []
    for sql in json.load(sys.stdin):
        with engine.open() as session:
            try:
                codes.append(session.query(sql.encode()).content().decode())
            except QueryError as error:
                codes.append(error.code)
    print(json.dumps(codes), flush=True)
    import os
    os._exit(0)
"""


def without_guard(folder: Path, statements: list[str]) -> list[int | str]:
    """What the engine alone answers: error codes, or the result. No guard, no sandbox."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answers: list[int | str] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_the_engine_alone_refuses_what_has_a_privilege(tmp_path: Path, outside: Path) -> None:
    statements = [
        "SELECT * FROM file('{file}', 'LineAsString')",
        "SELECT * FROM url('file://{file}', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM filesystem('{folder}')",
        "CREATE TABLE f (a String) ENGINE = File(LineAsString, '{file}')",
        "CREATE DATABASE f ENGINE = Filesystem('{folder}')",
        "CREATE DICTIONARY f (a UInt64) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'cat {csv}' FORMAT 'CSV')) "
        "LAYOUT(FLAT())",
        "CREATE FUNCTION f AS (x) -> x",
        "BACKUP DATABASE default TO File('{folder}/b')",
        "SYSTEM SHUTDOWN",
        "SELECT * FROM remote('127.0.0.1:1', system.one)",
    ]
    assert without_guard(tmp_path / "data", [fill(sql, outside) for sql in statements]) == [497] * len(statements)


def test_the_engine_alone_has_another_file_function(tmp_path: Path, outside: Path) -> None:
    statements = [
        "CREATE TABLE v (a String) ENGINE = Memory",
        "CREATE TABLE d (a String, b String DEFAULT file(a)) ENGINE = Memory",
        "SELECT file('{file}')",
        r"SELECT `fi\x6ce`('{file}')",
        "INSERT INTO v VALUES (file('{file}'))",
        "INSERT INTO d (a) VALUES ('{file}')",
        "SELECT count() FROM v",
        "SELECT count() FROM d",
    ]
    answers = without_guard(tmp_path / "data", [fill(sql, outside) for sql in statements])
    assert answers == ["", "", 800, 800, 800, 800, "0\n", "0\n"]


SANDBOXED = """
import json, os, socket, subprocess, sys
from pathlib import Path
from meterfold_local.clickhouse import sandbox

said = sandbox.enter(Path(sys.argv[1]))
found = {}

def attempt(name, action):
    try:
        action()
        found[name] = "done"
    except PermissionError:
        found[name] = "refused"

attempt("read outside", lambda: open(sys.argv[2]).read())
attempt("list outside", lambda: os.listdir(os.path.dirname(sys.argv[2])))
attempt("write outside", lambda: open(sys.argv[2] + ".new", "w"))
attempt("run", lambda: subprocess.run(["/bin/cat", sys.argv[2]]))
attempt("connect", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[3]))))
attempt("write inside", lambda: open(os.path.join(sys.argv[1], "new"), "w"))
attempt("read python", lambda: open(os.__file__).read())
print(json.dumps([said, found]))
"""


def test_the_kernel_alone_refuses_files_programs_and_connections(
    tmp_path: Path, outside: Path, listener: tuple[str, list[str]]
) -> None:
    arguments = [str(tmp_path), str(outside / "secret.txt"), listener[0].rpartition(":")[2]]
    done = subprocess.run([sys.executable, "-c", SANDBOXED, *arguments], capture_output=True, text=True, check=True)
    said, found = json.loads(done.stdout)
    if said.startswith("no sandbox"):
        pytest.skip(said)
    assert found == {
        **dict.fromkeys(("read outside", "list outside", "write outside", "run"), "refused"),
        "connect": "refused" if "no outgoing TCP" in said else "done",
        "write inside": "done",
        "read python": "done",
    }
