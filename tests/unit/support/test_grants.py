"""What a role of ClickHouse may do, as roles.sql says."""

from __future__ import annotations

import pytest

from support.grants import missing_grant, role_of


@pytest.mark.parametrize(
    ("role", "sql", "missing"),
    [
        ("serve", "SELECT 1", None),
        ("serve", "\n(SELECT * FROM usage_records FINAL)", None),
        ("serve", "WITH a AS (SELECT 1) SELECT * FROM a", None),
        ("serve", "SELECT name FROM system.tables", None),
        ("serve", "SELECT name FROM system.columns", "SELECT ON system.columns"),
        ("serve", "INSERT INTO api_tokens", None),
        ("serve", "INSERT INTO usage_records (a) SELECT 1", "INSERT ON meterfold.usage_records"),
        ("serve", "CREATE TABLE IF NOT EXISTS closing_1 (a Int8) ENGINE = Memory", None),
        ("serve", "DROP TABLE IF EXISTS verify_1", None),
        ("serve", "DROP TABLE usage_records", "DROP TABLE ON meterfold.usage_records"),
        ("serve", "ALTER TABLE usage_records DELETE WHERE 1", "ALTER TABLE ON meterfold.usage_records"),
        ("serve", "OPTIMIZE TABLE usage_records FINAL", "OPTIMIZE TABLE usage_records FINAL"),
        ("migrate", "ALTER TABLE notification_tries ADD INDEX a b TYPE minmax", None),
        ("redrive", "INSERT INTO `rejected_redrives`", None),
        ("redrive", "INSERT INTO api_tokens", "INSERT ON meterfold.api_tokens"),
    ],
)
def test_what_a_statement_needs(role: str, sql: str, missing: str | None) -> None:
    assert missing_grant(role_of(f"meterfold_{role}"), sql) == missing
