"""The ClickHouse server of the local stack as a child process: its port, its password, when it is ready."""

from __future__ import annotations

import http.client
import json
import os
import sys
from pathlib import Path

from meterfold_local.errors import StackError
from meterfold_local.ports import HOST, choose_port
from meterfold_local.private_files import write_private
from meterfold_local.process import ManagedProcess

READY_SECONDS = 60.0
STOP_SECONDS = 8.0
DEFAULT_PORT = 8123
USERNAME = "default"
EXIT_PORT_TAKEN = 4
_ALLOCATOR = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(256 << 10)}
"""For response bodies, whose memory comes from glibc. With its defaults glibc kept 50 MB more after each restart of a
worker that read its windows. With these settings, blocks of 256 KiB and more go back to the operating system when they
are freed. The engine has an allocator of its own (jemalloc)."""


class ClickHouseProcess:
    """`python -m meterfold_local.clickhouse` on one folder. `port` is the first to try, 0 a random one."""

    def __init__(self, folder: Path, password: str, *, port: int = DEFAULT_PORT, logs: Path | None = None) -> None:
        self.folder = folder
        self._password = password
        self._wanted = port
        self._port = 0
        self.process = ManagedProcess("ClickHouse server", [], (logs or folder.parent / "logs") / "clickhouse.log")

    @property
    def url(self) -> str:
        """Known once started."""
        return f"http://{HOST}:{self._port}"

    def start(self, deadline: float = READY_SECONDS) -> None:
        """Start it and wait until it answers a query; the port it had before is preferred."""
        self.begin()
        self.wait_ready(deadline)

    def begin(self) -> None:
        """Start it without waiting, on the first free port."""
        remembered = self.folder.with_name("clickhouse.json")
        before = json.loads(remembered.read_text(encoding="utf-8"))["port"] if remembered.exists() else 0
        self._port = choose_port(before or self._wanted)
        write_private(remembered, json.dumps({"port": self._port}) + "\n")
        self._launch()

    def restart(self, deadline: float = READY_SECONDS) -> None:
        """Start it again after a kill, on the very same port."""
        self._launch()
        self.wait_ready(deadline)

    def wait_ready(self, deadline: float = READY_SECONDS) -> None:
        """Wait for an answer to an authenticated query; StackError when it dies or time runs out."""
        for attempt in (1, 2, 3):
            try:
                self.process.wait_until(self._answers, deadline)
                return
            except StackError:
                # Between our look at the port and the server's bind somebody else may have taken it.
                if attempt == 3 or self.process.exit_code != EXIT_PORT_TAKEN:
                    raise
                self.begin()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()

    def stop(self, deadline: float = STOP_SECONDS) -> None:
        self.process.terminate(deadline)

    def _launch(self) -> None:
        if not self._port:
            raise StackError("the ClickHouse server was not started yet")
        self.process.command = [
            sys.executable,
            "-m",
            "meterfold_local.clickhouse",
            "--data-dir",
            str(self.folder.resolve()),
            "--port",
            str(self._port),
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("METERFOLD_")}
        self.process.env = {**_ALLOCATOR, **environment, "METERFOLD_CLICKHOUSE_PASSWORD": self._password}
        self.process.start()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=2)
        try:
            connection.request(
                "POST",
                "/",
                body="SELECT 1",
                headers={"X-ClickHouse-User": USERNAME, "X-ClickHouse-Key": self._password},
            )
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if response.status in (401, 403):
            raise StackError(f"{self.url} refuses the stack's password; something else listens there")
        return response.status == 200 and body.strip() == b"1"
