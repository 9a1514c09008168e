"""The HTTP server on a thread of the test, and a token for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import httpx

from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_service.http.server import HttpServer
from meterfold_service.http.settings import HttpSettings
from support.waiting import eventually

KEY = "k" * 32


@dataclass(frozen=True)
class Served:
    """A server that answers at `url`. `metering` is its own."""

    url: str
    metering: Metering

    def client(self, *scopes: str, org_id: str | None = None) -> httpx.Client:
        """With a new token."""
        created = self.metering.tokens.create(name="test", scopes=scopes, org_id=org_id)
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {created.text}"}, timeout=60)


@contextmanager
def served(kafka: KafkaSettings, clickhouse: ClickHouseSettings, **http: Any) -> Iterator[Served]:
    """`http`: settings of [http]."""
    settings = HttpSettings(port=0, token_key=KEY, **http)
    given = {f"HTTP_{name.upper()}": str(value) for name, value in {"token_key": KEY, **http}.items()}
    metering = Metering(kafka=kafka, clickhouse=clickhouse, sources=Sources(given, {}, None), wait_seconds=30)
    server = HttpServer(settings, metering)
    stop, failures = Event(), list[BaseException]()

    def run() -> None:
        try:
            server.run(stop)
        except BaseException as failure:
            failures.append(failure)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.ready or failures, 60, "the server is ready")
        assert not failures, failures
        yield Served(server.url, metering)
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive(), "the server does not stop"
    assert not failures, failures
