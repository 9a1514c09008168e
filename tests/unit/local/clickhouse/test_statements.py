"""Finding an INSERT's rows, the output format, and what a canonical statement touches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_local.clickhouse import guard, statement
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.lexer import Kind, tokens

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


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        (b" ((select 1))", b"SELECT"),
        (b"-- x\nWITH 1 AS x SELECT x", b"WITH"),
        (b"`select`", b""),
        (b"", b""),
        (b"1", b""),
    ],
)
def test_first_word(sql: bytes, word: bytes) -> None:
    assert statement.first_word(sql) == word


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
    assert found[1].kind is Kind.STRING


# The guard's look at a canonical statement


@pytest.mark.parametrize(
    "sql",
    [
        b"SELECT file('/etc/passwd')",
        b"SELECT `file`('/etc/passwd')",
        b"SELECT \"FILE\"('/etc/passwd')",
        b"SELECT * FROM Python(x)",
        b"CREATE TABLE t (`a` Int8) ENGINE = File(CSV)",
        b"CREATE TABLE t (`a` Int8) ENGINE = `File`(CSV)",
        b"CREATE DATABASE d ENGINE = Filesystem('/')",
        b"SELECT 1 INTO OUTFILE '/tmp/x'",
        b"INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV",
        b"CREATE TABLE t ENGINE = MergeTree SETTINGS disk = disk(type = local)",
        b"SELECT * FROM system.stack_trace",
        b"SELECT * FROM stack_trace",
    ],
)
def test_refused(sql: bytes) -> None:
    with pytest.raises(QueryError) as refused:
        guard.check_canonical(sql)
    assert (refused.value.code, refused.value.status) == (497, 403)


@pytest.mark.parametrize(
    "sql",
    [
        b"SELECT 'file(1)', \"x\" AS file",
        b"INSERT INTO file (a) FORMAT CSV",
        b"SELECT * FROM file WHERE file IN ('x')",
        b"INSERT INTO outfile FORMAT CSV",
        b"SELECT outfile, 'x' FROM t",
        b"CREATE TABLE t (`a` Int8) ENGINE = ReplacingMergeTree(v) ORDER BY a",
        b"CREATE TABLE t (`a` Int8) ENGINE = Memory",
        b"SELECT engine = 'File' FROM system.tables",
        b"SELECT url FROM t",
    ],
)
def test_allowed(sql: bytes) -> None:
    guard.check_canonical(sql)


def test_every_forbidden_call_is_looked_at_closely() -> None:
    for name in guard.FORBIDDEN_CALLS:
        assert guard.is_suspicious(b"SELECT * FROM " + name.upper() + b"('x')"), name
    for sql in (b"x INTO OUTFILE 'y'", b"FROM INFILE 'y'", b"ENGINE = X", rb"`fil\x65`('x')", b"system.stack_trace"):
        assert guard.is_suspicious(sql), sql
    assert not guard.is_suspicious(
        b"SELECT org_id, sum(quantity) FROM usage_records WHERE hash IN (1, 2) FORMAT Native"
    )
