"""The HTTP server of a test, on a free port, and a way to ClickHouse that can be cut."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import httpx

from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_service.http.server import HttpServer
from meterfold_service.http.settings import HttpSettings
from support.grants import limit
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
    """A server on a thread of the test, ready for requests, with the rights of its role on ClickHouse; `http`: settings
    of [http]. It stops cleanly, or the test fails."""
    given = {"token_key": KEY, "wait_seconds": 30, **http}
    settings = HttpSettings.model_validate({"port": 0, **given})
    metering = limit(
        Metering(
            kafka=kafka,
            clickhouse=clickhouse,
            sources=Sources({f"HTTP_{name.upper()}": str(value) for name, value in given.items()}, {}, None),
            wait_seconds=settings.wait_seconds,
            call_seconds=settings.call_seconds,
        ),
        "meterfold_serve",
    )
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


class Forwarder:
    """Passes connections of a local port on to another one, while it is `open`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._connections: list[socket.socket] = []
        self._listening: socket.socket | None = None
        self.port = 0
        self.open()

    def open(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def close(self) -> None:
        """Cut what is connected, and refuse what comes."""
        assert self._listening is not None
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in self._connections:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._connections.clear()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(self._target)
                self._connections += [near, far]
                for one, other in ((near, far), (far, near)):
                    Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
