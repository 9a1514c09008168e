"""`meterfold verify` over a folded backlog, in a process of its own: with and without each row against its message."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

import machine
from meterfold_cli.local_run import command

WAYS = {"each row against its message as well": (), "--no-contents": ("--no-contents",)}
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Run:
    """`cpu` in seconds, of verify and of ClickHouse; `peak` memory of verify in bytes, looked at ten times a second."""

    way: str
    seconds: float
    cpu: tuple[float, float]
    peak: int


def measure(environment: dict[str, str], clickhouse_pid: int, log: Path) -> Iterator[Run]:
    """`environment`: names the installation. Ends the benchmark if verify finds a difference."""
    for way, options in WAYS.items():
        before = machine.sample(clickhouse_pid).cpu
        begun, peak, used = time.monotonic(), 0, 0.0
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command("verify"), *options],
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            while process.poll() is None:
                with suppress(psutil.Error):  # it may have ended
                    sample = machine.sample(process.pid)
                    peak, used = max(peak, sample.memory), sample.cpu
                time.sleep(LOOK_SECONDS)
        seconds = time.monotonic() - begun
        if process.returncode:
            raise SystemExit(f"verify, {way}, ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        yield Run(way, seconds, (used, machine.sample(clickhouse_pid).cpu - before), peak)
