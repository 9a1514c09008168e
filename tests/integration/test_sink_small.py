"""A few rows without Arrow: the same values, the same errors, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from meterfold_local.stack import LocalStack
from meterfold_schemas.errors import Fatal, Retryable
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.client import Client, connect
from meterfold_sink.errors import code_of
from support.sink.database import database

NASTY = [
    "",
    "'",
    "\\",
    "\\'",
    "a\tb\nc\rd\0e",
    "ünï\u2028\u0085\x0b\x1f",
    '"},{"',
    "{x:String}",
    "\\N",
    "🙂",
    "a%20b+c&d=e#f",
]


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        yield client


def both(client: Client, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The rows, which are those of Arrow; in the very same Python types."""
    small = client.rows(sql, parameters)
    large = client.query(sql, parameters).to_pylist()
    assert small == large
    assert [[type(value) for value in row.values()] for row in small] == [
        [type(value) for value in row.values()] for row in large
    ]
    return small


def test_every_table_and_view_reads_the_same(client: Client) -> None:
    tables = client.rows("SELECT name, engine FROM system.tables WHERE database = currentDatabase() ORDER BY name")
    for table in tables:
        if table["engine"] != "View":
            columns = client.rows(
                "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {t:String}",
                {"t": table["name"]},
            )
            structure = ", ".join(f"`{column['name']}` {column['type']}" for column in columns).replace("'", "\\'")
            # A view may take a period for what it is.
            period = next((column for column in columns if column["name"] == "period_type"), None)
            some = "* REPLACE ('daily' AS period_type)" if period and "String" in period["type"] else "*"
            client.command(
                f"INSERT INTO {table['name']} SELECT {some} FROM generateRandom('{structure}', 7, 30) LIMIT 4"
            )
    seen = {table["name"]: len(both(client, f"SELECT * FROM {table['name']} ORDER BY ALL LIMIT 5")) for table in tables}
    assert seen["metric_definitions"] == seen["thresholds"] == 4
    for name in ("metric_definitions", "thresholds", "threshold_events", "fold_settings", "mirror_progress"):
        assert client._connection.small.select(f"SELECT * FROM {name}", None, None) is not None  # not left to Arrow


def test_values_of_every_listed_type(client: Client) -> None:
    sql = """
    SELECT toInt8(-128) AS a, toUInt64(18446744073709551615) AS b, toInt64(-9223372036854775808) AS c, true AS d,
        toDecimal128('99999999999999999999999999999.123456789', 9) AS e, toDecimal64('-0.5', 9) AS f,
        toDateTime64('2026-02-28 23:59:59.000001', 6, 'UTC') AS g, toDateTime64('1970-01-01 00:00:00', 6, 'UTC') AS h,
        CAST(NULL AS Nullable(String)) AS i, CAST(toDecimal64(3, 2) AS Nullable(Decimal(18, 2))) AS j,
        toLowCardinality('word') AS k, ['x', 'y\\'z'] AS l, CAST([] AS Array(Int32)) AS m, NULL AS n
    """
    assert both(client, sql) == [
        {
            "a": -128,
            "b": 2**64 - 1,
            "c": -(2**63),
            "d": True,
            "e": Decimal("99999999999999999999999999999.123456789"),
            "f": Decimal("-0.500000000"),
            "g": datetime(2026, 2, 28, 23, 59, 59, 1, UTC),
            "h": datetime(1970, 1, 1, tzinfo=UTC),
            "i": None,
            "j": Decimal("3.00"),
            "k": "word",
            "l": ["x", "y'z"],
            "m": [],
            "n": None,
        }
    ]


@pytest.mark.parametrize("text", NASTY)
def test_text_travels_unchanged_in_both_directions(client: Client, text: str) -> None:
    sql = "SELECT {one:String} AS one, {some:Array(String)} AS some, {number:Int64} AS number"
    answer = both(client, sql, {"one": text, "some": [text, text], "number": -7})
    assert answer == [{"one": text, "some": [text, text], "number": -7}]


def test_a_type_that_is_not_listed_is_left_to_arrow(client: Client) -> None:
    assert client.rows("SELECT toDate('2026-03-01') AS day, map('a', 1) AS words")[0]["words"] == [("a", 1)]
    assert client.rows("SELECT 0.1 AS third") == [{"third": 0.1}]


def test_many_rows_and_none(client: Client) -> None:
    rows = both(client, "SELECT number, toString(number) AS text FROM numbers(20000) ORDER BY number")
    assert (len(rows), rows[-1]) == (20_000, {"number": 19_999, "text": "19999"})
    assert client.rows("SELECT 1 AS one WHERE 0") == []
    with pytest.raises(Fatal, match="answered 0 rows"):
        client.value("SELECT 1 AS one WHERE 0")


def test_errors_have_clickhouses_code_and_advice(client: Client, clickhouse_settings: ClickHouseSettings) -> None:
    with pytest.raises(Fatal, match="meterfold migrate") as missing:
        client.rows("SELECT * FROM nothing_here")
    assert code_of(missing.value) == 60
    with pytest.raises(Retryable, match="boom"):
        client.rows("SELECT throwIf(number = 15000, 'boom') FROM numbers(20000)")
    wrong = clickhouse_settings.model_copy(update={"password": SecretStr("not this one")})
    with pytest.raises(Fatal, match="check the username and password"):
        connect(wrong)
    with pytest.raises(Fatal, match="meterfold migrate"):
        connect(clickhouse_settings.model_copy(update={"database": "nowhere_at_all"}))
    with pytest.raises(Retryable, match=r"could not be reached connecting to http://127\.0\.0\.1:1"):
        connect(clickhouse_settings.model_copy(update={"url": "http://127.0.0.1:1"}))


def test_a_connection_that_the_server_closed_meanwhile_is_opened_again(client: Client) -> None:
    client.rows("SELECT 1")
    connection = client._connection.small._connection
    assert connection is not None
    connection.sock.shutdown(2)
    assert client.rows("SELECT 2 AS two") == [{"two": 2}]
