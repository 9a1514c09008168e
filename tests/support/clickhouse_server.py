"""The ClickHouse server as a real process on a folder of a test's own, and plain HTTP to talk to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import clickhouse_connect
from clickhouse_connect.driver.client import Client

USER = "meter"
PASSWORD = "p'ss w\u00f6rd"
START_SECONDS = 60.0
_READY = re.compile(r"^ready http://127\.0\.0\.1:(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """A whole HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def code(self) -> int:
        """ClickHouse's error code, 0 without one."""
        return int(self.headers.get("X-ClickHouse-Exception-Code", "0"))

    @property
    def summary(self) -> dict[str, str]:
        summary: dict[str, str] = json.loads(self.headers["X-ClickHouse-Summary"])
        return summary


class Server:
    """Started by `with`; `kill` and `start` as often as wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder.with_name(folder.name + ".log")
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def start(self, port: int = 0) -> None:
        """Start it and wait until it says that it answers."""
        before = len(self.log.read_text()) if self.log.exists() else 0
        self.process = launch(self.folder, self.log, "--port", str(port))
        deadline = time.monotonic() + START_SECONDS
        while not (ready := _READY.findall(self.log.read_text()[before:])):
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        self.port = int(ready[0])

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def request(
        self,
        method: str = "POST",
        target: str = "/",
        body: Any = b"",
        headers: dict[str, str] | None = None,
        *,
        authenticated: bool = True,
        encode_chunked: bool = False,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        account = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD.encode().decode("latin-1")}
        try:
            connection.request(
                method,
                target,
                body=body,
                headers={**(account if authenticated else {}), **(headers or {})},
                encode_chunked=encode_chunked,
            )
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def query(self, sql: str | bytes, headers: dict[str, str] | None = None, /, **params: str | int) -> Answer:
        """A statement in the body of a POST, parameters in the URL."""
        return self.request(
            target=target(**params), body=sql.encode() if isinstance(sql, str) else sql, headers=headers
        )

    def rows(self, sql: str) -> list[list[str]]:
        """A result in TabSeparated, split; the statement must succeed."""
        answer = self.query(sql)
        assert answer.status == 200, answer.text
        return [line.split("\t") for line in answer.text.splitlines()]

    def count(self, table: str) -> int:
        return int(self.rows(f"SELECT count() FROM {table}")[0][0])

    def run(self, *statements: str) -> None:
        for statement in statements:
            answer = self.query(statement)
            assert answer.status == 200, answer.text

    def client(self, **arguments: Any) -> Client:
        """clickhouse-connect."""
        return clickhouse_connect.get_client(
            host="127.0.0.1", port=self.port, username=USER, password=PASSWORD, **arguments
        )

    def raw(self, head: str, *parts: bytes) -> bytes:
        """Send these very bytes (the account is added to `head`), close our side, return what comes back."""
        account = f"X-ClickHouse-User: {USER}\r\nX-ClickHouse-Key: ".encode() + PASSWORD.encode()
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(head.replace("\n", "\r\n").encode() + account + b"\r\n\r\n")
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer


def target(**params: str | int) -> str:
    """A URL's path and query string."""
    return "/?" + urlencode(params) if params else "/"


def launch(folder: Path, log: Path, *arguments: str, password: str | None = PASSWORD) -> subprocess.Popen[bytes]:
    """The server's process, its output in `log`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("METERFOLD_")}
    if password is not None:
        environment["METERFOLD_CLICKHOUSE_PASSWORD"] = password
    with log.open("ab") as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "meterfold_local.clickhouse"),
                *("--data-dir", str(folder), "--user", USER, *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
