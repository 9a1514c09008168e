"""Finding an INSERT's rows, the output format, and the files that a statement names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_local.clickhouse import statement
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.statement import tokens

FORMATS = frozenset((b"CSV", b"JSON", b"Native", b"TabSeparated"))


@pytest.mark.parametrize(
    ("text", "target", "settings", "name", "rows"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2", b"INSERT INTO t", b"", b"CSV", b"1,2"),
        (b"insert into t format CSV 1,2", b"insert into t", b"", b"CSV", b"1,2"),
        (b"INSERT INTO t FORMAT CSV \t\r\n\n1", b"INSERT INTO t", b"", b"CSV", b"\n1"),
        (b"INSERT INTO t (a, b) VALUES (1, 2)", b"INSERT INTO t (a, b)", b"", b"Values", b" (1, 2)"),
        (
            b"INSERT INTO d.`t(` SETTINGS a = 1, b = 'VALUES' VALUES(1)",
            b"INSERT INTO d.`t(`",
            b"SETTINGS a = 1, b = 'VALUES'",
            b"Values",
            b"(1)",
        ),
        (b"/* x */ INSERT INTO values VALUES (1)", b"/* x */ INSERT INTO values", b"", b"Values", b" (1)"),
        (b"INSERT INTO format FORMAT Native\n\x00\xff", b"INSERT INTO format", b"", b"Native", b"\x00\xff"),
        (b"INSERT INTO {t:Identifier} FORMAT CSV\n", b"INSERT INTO {t:Identifier}", b"", b"CSV", b""),
        (b"INSERT INTO t -- VALUES\nFORMAT CSV\n1", b"INSERT INTO t -- VALUES", b"", b"CSV", b"1"),
        (
            b"INSERT INTO FUNCTION null('a Int8') VALUES (1)",
            b"INSERT INTO FUNCTION null('a Int8')",
            b"",
            b"Values",
            b" (1)",
        ),
        (b"INSERT INTO t(`VALUES`) FORMAT CSV\n", b"INSERT INTO t(`VALUES`)", b"", b"CSV", b""),
    ],
)
def test_insert_with_rows(text: bytes, target: bytes, settings: bytes, name: bytes, rows: bytes) -> None:
    found = statement.insert_of(text)
    assert found is not None
    assert (found.target, found.settings, found.format) == (target, settings, name)
    assert text[found.rows_at :] == rows


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 'INSERT INTO t VALUES (1)'",
        b"INSERT INTO t SELECT 1",
        b"INSERT INTO t (a) WITH 1 AS x SELECT x FORMAT CSV",
        b"INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        b"INSERT INTO t",
        b"-- INSERT INTO t VALUES (1)",
        b"",
    ],
)
def test_no_insert_with_rows(text: bytes) -> None:
    assert statement.insert_of(text) is None


def test_semicolon_before_the_rows() -> None:
    with pytest.raises(QueryError) as wrong:
        statement.insert_of(b"INSERT INTO t FORMAT CSV;\n1")
    assert wrong.value.code == 62


def test_a_comment_cannot_swallow_what_is_added() -> None:
    found = statement.insert_of(b"INSERT INTO t -- end\nSETTINGS a = 1 -- end\nFORMAT CSV\n1")
    assert found is not None
    text = b" ".join(token.text for token in tokens(found.from_file(b"spool/x")))
    assert text == b"INSERT INTO t FROM INFILE 'spool/x' SETTINGS a = 1 FORMAT CSV"


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        (b"SELECT 1 FORMAT CSV", b"CSV"),
        (b"select 1 format JSON;", b"JSON"),
        (b"SELECT 1 FORMAT JSON SETTINGS max_threads = 1", b"JSON"),
        (b"SELECT 1 FORMAT JSON -- FORMAT CSV", b"JSON"),
        (b"SELECT format FORMAT CSV", b"CSV"),
        (b"SELECT 'FORMAT CSV'", None),
        (b"SELECT * FROM (SELECT 1 FORMAT CSV)", None),
        (b"SELECT 1 /* FORMAT CSV */", None),
        (b"SELECT 1 AS format", None),
        (b"SELECT 1 FORMAT Unknown", None),
        (b"SELECT " + b"1, " * 100_000 + b"1 FORMAT Native", b"Native"),
    ],
)
def test_output_format(sql: bytes, name: bytes | None) -> None:
    assert statement.output_format(sql, FORMATS) == name


@given(st.binary(max_size=300))
def test_every_byte_is_in_one_token_or_gap(text: bytes) -> None:
    end = 0
    for token in tokens(text):
        assert token.start >= end
        assert text[token.start : token.end] == token.text
        end = token.end
    assert end <= len(text)


@given(st.text(st.sampled_from("a'\\\"`$-#/*\n ;("), max_size=40))
def test_quoted_text_is_one_token(inside: str) -> None:
    literal = "'" + inside.replace("\\", "\\\\").replace("'", "\\'") + "'"
    found = list(tokens(f"SELECT {literal} FORMAT CSV".encode()))
    assert [token.text for token in found] == [b"SELECT", literal.encode(), b"FORMAT", b"CSV"]
    assert found[1].kind == "string"


@pytest.mark.parametrize(
    ("sql", "clause"),
    [
        (b"SELECT 1 INTO OUTFILE '/tmp/x'", "OUTFILE"),
        (b"INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV", "INFILE"),
        (b"INSERT INTO outfile FORMAT CSV", None),
        (b"SELECT outfile, 'INTO OUTFILE' FROM infile", None),
        (b"SELECT `OUTFILE` 'x'", None),
    ],
)
def test_file_clause(sql: bytes, clause: str | None) -> None:
    assert statement.file_clause(sql) == clause


def test_types_of_an_external_table() -> None:
    assert statement.split_types(b"UInt8, Decimal(38, 9),Map(String, Array(Tuple(a Int8, b Int8)))") == [
        b"UInt8",
        b"Decimal(38, 9)",
        b"Map(String, Array(Tuple(a Int8, b Int8)))",
    ]
