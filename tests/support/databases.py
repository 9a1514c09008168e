"""Databases with all tables, made once and emptied for each test: migrating a new one takes the server two seconds.

A test that needs a database without tables, or other rules about retention, makes its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from meterfold_local.stack import LocalStack
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.client import Client, connect
from meterfold_sink.migrate import applied, migrate
from meterfold_sink.rules import FoldRules
from support.clickhouse import http_query
from support.waiting import eventually

__all__ = ["migrated_database"]

_RULES: Final = FoldRules(cluster_id="cluster", topic_id="topic", partition_count=1)
"""Only the retention of records is part of the tables, and that is the default."""

_free: Final[dict[str, list[tuple[ClickHouseSettings, dict[str, str]]]]] = {}
"""URL of a server -> databases that no test uses, each with what its tables are."""


@contextmanager
def migrated_database(stack: LocalStack, again: Callable[[], bool] = lambda: True) -> Iterator[ClickHouseSettings]:
    """Tables without a row, and no settings stored. `again`: whether the next test may have the database."""
    free = _free.setdefault(stack.clickhouse.url, [])
    settings, tables = free.pop() if free else _made(stack)
    try:
        yield settings
    finally:
        with connect(settings) as client:
            reusable = again() and _tables(client) == tables
            if reusable:
                _empty(client)
        if reusable:
            free.append((settings, tables))
        else:
            http_query(settings, f"DROP DATABASE IF EXISTS {settings.database}")


def _made(stack: LocalStack) -> tuple[ClickHouseSettings, dict[str, str]]:
    settings = stack.clickhouse_settings(f"shared_{secrets.token_hex(4)}")
    with connect(settings, create_database=True) as client:
        migrate(client, _RULES)
        return settings, _tables(client)


def _tables(client: Client) -> dict[str, str]:
    rows = client.rows(
        "SELECT name, create_table_query FROM system.tables WHERE database = {database:String}",
        {"database": client.database},
    )
    return {row["name"]: row["create_table_query"] for row in rows} | {"applied migrations": str(applied(client))}


def _empty(client: Client) -> None:
    """Whatever a killed worker still had on its way has ended before."""
    running = (
        "SELECT count() AS n FROM system.processes WHERE current_database = {database:String} "
        "AND query NOT LIKE '%system.processes%'"
    )
    eventually(lambda: client.rows(running, {"database": client.database})[0]["n"] == 0, 60, "statements have ended")
    filled = client.rows(
        "SELECT name FROM system.tables WHERE database = {database:String} AND total_rows > 0",
        {"database": client.database},
    )
    for row in filled:
        if row["name"] != "schema_migrations":
            client.command(f"TRUNCATE TABLE {row['name']}")
