"""Runs the clients of other languages in this folder against the local ClickHouse server: `make test-clients`.

clickhouse-go needs Go, clickhouse-jdbc needs Java 17 and Maven; a client whose tools are not installed is skipped. Exit
status 1 when one fails.
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
TIMEOUT_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Client:
    """A program that connects to $METERFOLD_CLICKHOUSE_URL as `default` with $METERFOLD_CLICKHOUSE_PASSWORD."""

    folder: str
    tools: tuple[str, ...]
    command: tuple[str, ...]


CLIENTS = (
    Client("go", ("go",), ("go", "run", ".")),
    Client("java", ("java", "mvn"), ("mvn", "-q", "-B", "compile", "exec:java")),
)


def main() -> int:
    failed = False
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
                missing = [tool for tool in client.tools if shutil.which(tool) is None]
                if missing:
                    print(f"{client.folder}: skipped, {' and '.join(missing)} not found", flush=True)
                    continue
                done = subprocess.run(
                    client.command, cwd=Path(__file__).parent / client.folder, env=environment, timeout=TIMEOUT_SECONDS
                )
                failed |= done.returncode != 0
        finally:
            server.stop()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
