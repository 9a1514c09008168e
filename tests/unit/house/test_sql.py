"""Every SQL statement is in meterfold_sink. (meterfold_local is a server that reads SQL; it sends none.)"""

from __future__ import annotations

import re

import pytest

from support.sources import PACKAGES, modules

ELSEWHERE = sorted(set(PACKAGES) - {"meterfold_sink", "meterfold_local"})

SQL = re.compile(
    # Keywords of statements and clauses, as SQL here is written: in capitals.
    r"\b(SELECT|WHERE|PREWHERE|INSERT\s+INTO|DELETE\s+FROM|GROUP\s+BY|ORDER\s+BY|LIMIT\s+\S+\s+BY|UNION\s+ALL)\b"
    r"|\b(ALTER|CREATE|DROP|TRUNCATE|OPTIMIZE|RENAME|ATTACH|DETACH|DESCRIBE|EXISTS)\s+"
    r"(OR\s+REPLACE\s+)?(MATERIALIZED\s+)?(TABLE|DATABASE|VIEW|DICTIONARY|FUNCTION|USER)\b"
    r"|\b(FROM|JOIN)\s+(\w|\{)\S*\s+(AS\s+\w+\s+)?FINAL\b|\bSYSTEM\s+(FLUSH|SYNC|RELOAD|STOP|START)\b"
    # Or a whole statement, however it is written.
    r"|^\s*(?i:select\s.*\sfrom\s+\S|insert\s+into\s+\S+\s*\(|with\s+\w+\s+as\s*\()",
    re.DOTALL,
)


def statements() -> dict[str, list[str]]:
    """Path -> line and text of each string literal that is SQL, outside of the sink."""
    found: dict[str, list[str]] = {}
    for package in ELSEWHERE:
        for module in modules(package):
            for line, text in module.strings:
                if SQL.search(text):
                    found.setdefault(module.path, []).append(f"line {line}: {' '.join(text.split())[:80]}")
    return found


def test_sql_is_in_the_sink_only() -> None:
    found = statements()
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "\nSELECT a\nFROM t",
        "select a from t where b",
        "INSERT INTO t (a) VALUES",
        "ALTER TABLE t ADD COLUMN a Int8",
        "CREATE MATERIALIZED VIEW v AS",
        "WHERE has({ids:Array(String)}, id)",
        "{} ORDER BY a",
        "FROM {} FINAL",
        "{} LIMIT {n:UInt64} BY a",
        "OPTIMIZE TABLE t FINAL",
    ],
)
def test_what_counts_as_sql(text: str) -> None:
    assert SQL.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "read the rows from the file",
        "FROM is a time with a zone",
        "Create a table of numbers",
        "the row was inserted into usage_windows",
        "LIMIT",
    ],
)
def test_what_does_not(text: str) -> None:
    assert not SQL.search(text)
