"""Comments of tables, views and columns in ClickHouse, and docs/tables.md, which shows the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from meterfold_local.stack import LocalStack
from meterfold_sink.client import Client
from meterfold_sink.comments import COMMENTS
from meterfold_sink.migrate import migrate
from support.paths import ROOT
from support.sink.database import RULES, database

PAGE = ROOT / "docs" / "tables.md"
COLUMNS = (
    "SELECT table, name, type, comment FROM system.columns WHERE database = currentDatabase() ORDER BY table, position"
)


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        yield client


def relations(client: Client) -> dict[str, str]:
    """table or view -> its comment."""
    rows = client.rows("SELECT name, comment FROM system.tables WHERE database = currentDatabase()")
    return {row["name"]: row["comment"] for row in rows}


def test_every_table_view_and_column_has_a_comment(client: Client) -> None:
    assert [name for name, comment in relations(client).items() if not comment] == []
    columns = client.rows(COLUMNS)
    assert [(row["table"], row["name"]) for row in columns if not row["comment"]] == []


def test_every_comment_belongs_to_something(client: Client) -> None:
    assert COMMENTS.keys() <= relations(client).keys()
    there = {(row["table"], row["name"]) for row in client.rows(COLUMNS)}
    assert {(table, name) for table, described in COMMENTS.items() for name in described.columns} <= there


def test_a_migration_renews_comments_and_only_those_that_differ(client: Client) -> None:
    sent: list[str] = []

    class Watched(Client):
        def command(self, sql: str, *args: Any, **more: Any) -> None:
            sent.append(sql)
            super().command(sql, *args, **more)

    watched = Watched(client._connection, client.database)
    before = client.rows(COLUMNS)
    assert migrate(watched, RULES) == []
    assert [sql for sql in sent if sql.startswith("ALTER")] == []
    # As after a view was created again, or a table was altered by hand.
    client.command("CREATE OR REPLACE VIEW usage_daily AS SELECT * EXCEPT period_type FROM usage_summaries")
    client.command("ALTER TABLE usage_records COMMENT COLUMN quantity 'it''s \\\\ wrong', MODIFY COMMENT ''")
    assert client.rows(COLUMNS) != before
    migrate(watched, RULES)
    assert client.rows(COLUMNS) == before
    assert {name: relations(client)[name] for name in COMMENTS} == {name: d.comment for name, d in COMMENTS.items()}


def test_the_page_describes_every_table_and_view_as_clickhouse_does(client: Client) -> None:
    """A section is headed by the names of what has these columns: `## usage_hourly, usage_daily`."""
    columns: dict[str, list[tuple[str, str, str]]] = {}
    for row in client.rows(COLUMNS):
        columns.setdefault(row["table"], []).append((row["name"], row["type"], row["comment"]))
    described = sections(PAGE.read_text(encoding="utf-8"))
    assert described.keys() == columns.keys()
    for name, comment in relations(client).items():
        text = described[name]
        assert f"`{name}`: {comment}" in text, f"docs/tables.md does not say `{name}`: {comment}"
        listed = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (.+) \|$", text, re.MULTILINE)
        shown = "\n".join(f"| `{column}` | `{kind}` | {words} |" for column, kind, words in columns[name])
        assert listed == columns[name], f"docs/tables.md, {name}: it has\n{shown}"


def sections(page: str) -> Mapping[str, str]:
    """table or view -> its section."""
    found = {}
    for heading, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        for name in re.findall(r"`(\w+)`", heading):
            found[name] = body
    return found
