"""The server and the database themselves: version, tables."""

from __future__ import annotations

from meterfold_sink.client import Client

__all__ = ["ping", "server_now", "server_version", "table_names"]


def ping(client: Client) -> None:
    """Log in and run a statement in the database. Raises Retryable or Fatal."""
    client.command("SELECT 1")


def server_version(client: Client) -> str:
    return str(client.value("SELECT version()"))


def table_names(client: Client) -> frozenset[str]:
    """The tables and views of the database."""
    rows = client.rows("SELECT name FROM system.tables WHERE database = {name:String}", {"name": client.database})
    return frozenset(row["name"] for row in rows)


def server_now(client: Client) -> int:
    """The server's clock in UTC microseconds."""
    return int(client.value("SELECT toUnixTimestamp64Micro(now64(6))"))
