"""Runs the clients of other languages in this folder against the local ClickHouse server: `make test-clients`.

clickhouse-go needs Go, clickhouse-jdbc needs Java 17 and Maven; a client whose tools are not installed is skipped. Exit
status 1 when one fails, 3 when the libraries of one could not be fetched and no other failed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from meterfold_local.clickhouse_process import ClickHouseProcess

PASSWORD = "p'ss w+rd"
FETCH_SECONDS = 240
TIMEOUT_SECONDS = 240
UNAVAILABLE = 3


@dataclass(frozen=True, slots=True)
class Client:
    """A program that connects to $METERFOLD_CLICKHOUSE_URL as `default` with $METERFOLD_CLICKHOUSE_PASSWORD."""

    folder: str
    tools: tuple[str, ...]
    fetch: tuple[str, ...]
    command: tuple[str, ...]

    @property
    def path(self) -> Path:
        return Path(__file__).parent / self.folder

    @property
    def missing(self) -> list[str]:
        return [tool for tool in self.tools if shutil.which(tool) is None]

    def fetched(self) -> bool:
        """Whether its libraries are here."""
        try:
            return subprocess.run(self.fetch, cwd=self.path, timeout=FETCH_SECONDS).returncode == 0
        except subprocess.TimeoutExpired:
            return False


CLIENTS = (
    Client("go", ("go",), ("go", "mod", "download"), ("go", "run", ".")),
    Client(
        "java",
        ("java", "mvn"),
        ("mvn", "-q", "-B", "compile", "dependency:resolve", "dependency:resolve-plugins"),
        ("mvn", "-q", "-B", "compile", "exec:java"),
    ),
)


def main() -> int:
    failed = unavailable = False
    with tempfile.TemporaryDirectory() as folder:
        server = ClickHouseProcess(Path(folder) / "clickhouse", PASSWORD, port=0)
        server.start()
        try:
            environment = {
                **os.environ,
                "METERFOLD_CLICKHOUSE_URL": server.url,
                "METERFOLD_CLICKHOUSE_PASSWORD": PASSWORD,
            }
            for client in CLIENTS:
                if client.missing:
                    print(f"{client.folder}: skipped, {' and '.join(client.missing)} not found", flush=True)
                elif not client.fetched():
                    print(f"{client.folder}: NOT RUN, its libraries could not be fetched", flush=True)
                    unavailable = True
                else:
                    done = subprocess.run(client.command, cwd=client.path, env=environment, timeout=TIMEOUT_SECONDS)
                    failed |= done.returncode != 0
        finally:
            server.stop()
    if failed:
        return 1
    return UNAVAILABLE if unavailable else 0


if __name__ == "__main__":
    sys.exit(main())
