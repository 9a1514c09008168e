"""The server and the database themselves: version, tables."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.client import Client
from meterfold_sink.errors import mapped
from meterfold_sink.small import proxy_of

__all__ = ["ping", "reach", "server_now", "server_version", "table_names"]


def ping(client: Client) -> None:
    """Log in and run a statement in the database. Raises Retryable or Fatal."""
    client.command("SELECT 1")


def reach(settings: ClickHouseSettings, seconds: float) -> None:
    """Open a connection and close it: a busy server accepts one long before it answers a statement. Raises Retryable
    where the server, or the proxy before it, accepts none within this time."""
    proxy = proxy_of(settings.url)
    parts = urlsplit(proxy or settings.url)
    plain, secure = (80, 443) if proxy else (8123, 8443)
    port = parts.port or (secure if parts.scheme == "https" else plain)
    with mapped(f"opening a connection to {parts.hostname}:{port}"):
        socket.create_connection((parts.hostname or "", port), seconds).close()


def server_version(client: Client) -> str:
    return str(client.value("SELECT version()"))


def table_names(client: Client) -> frozenset[str]:
    """The tables and views of the database."""
    rows = client.rows("SELECT name FROM system.tables WHERE database = {name:String}", {"name": client.database})
    return frozenset(row["name"] for row in rows)


def server_now(client: Client) -> int:
    """The server's clock in UTC microseconds."""
    return int(client.value("SELECT toUnixTimestamp64Micro(now64(6))"))
