"""The HTTP server of a test, on a free port, and a way to ClickHouse that can be cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_service.http.server import HttpServer
from meterfold_service.http.settings import HttpSettings
from support.waiting import eventually


@contextmanager
def serving(kafka: KafkaSettings, clickhouse: ClickHouseSettings, key: str, **more: object) -> Iterator[HttpServer]:
    """A server in a thread, ready for requests."""
    settings = HttpSettings.model_validate({"port": 0, "token_key": key, "wait_seconds": 1, **more})
    metering = Metering(
        kafka=kafka,
        clickhouse=clickhouse,
        sources=Sources({"HTTP_TOKEN_KEY": key}, {}, None),
        wait_seconds=settings.wait_seconds,
        call_seconds=settings.call_seconds,
    )
    server, stop = HttpServer(settings, metering), threading.Event()
    thread = threading.Thread(target=server.run, args=(stop,), daemon=True)
    thread.start()
    try:
        eventually(lambda: server.ready, what="the server is up")
        yield server
    finally:
        stop.set()
        thread.join(30)


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
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

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
                    threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
