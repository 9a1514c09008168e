"""Plain HTTP to the ClickHouse server, without the client library that production uses."""

from __future__ import annotations

import urllib.error
import urllib.request

from meterfold_schemas.settings import ClickHouseSettings


def http_query(settings: ClickHouseSettings, sql: str, *, password: str | None = None) -> str:
    """Send one statement as the body of a POST, outside of any database; AssertionError with the server's words."""
    request = urllib.request.Request(
        settings.url + "/",
        data=sql.encode(),
        headers={
            "X-ClickHouse-User": settings.username,
            "X-ClickHouse-Key": settings.password.get_secret_value() if password is None else password,
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"HTTP {error.code}: {error.read().decode(errors='replace')}") from None
