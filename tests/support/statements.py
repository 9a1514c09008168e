"""What this process asks ClickHouse, and how many rows each statement read."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

__all__ = ["Statement", "statements"]


@dataclass(frozen=True)
class Statement:
    """`sql` on one line; `rows`: those that were read of tables."""

    sql: str
    rows: int


@contextmanager
def statements() -> Iterator[list[Statement]]:
    """The statements that are answered meanwhile, of every thread."""
    found: list[Statement] = []
    request, getresponse = http.client.HTTPConnection.request, http.client.HTTPConnection.getresponse

    def asked(self: Any, method: str, url: str, body: Any = None, *more: Any, **options: Any) -> None:
        self.asked_sql = body
        request(self, method, url, body, *more, **options)

    def answered(self: Any) -> http.client.HTTPResponse:
        answer = getresponse(self)
        summary = answer.headers.get("X-ClickHouse-Summary")
        if summary is not None and isinstance(getattr(self, "asked_sql", None), bytes):
            rows = int(json.loads(summary)["read_rows"])
            found.append(Statement(" ".join(self.asked_sql.decode(errors="replace").split()), rows))
        return answer

    with (
        mock.patch.object(http.client.HTTPConnection, "request", asked),
        mock.patch.object(http.client.HTTPConnection, "getresponse", answered),
    ):
        yield found
