"""A program in another language: the tools that it needs, how its libraries are fetched, and how it is run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FETCH_SECONDS = 240
TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Program:
    """`fetch` brings its libraries here; it is run in a copy of its folder, so that nothing is left in the tree."""

    name: str
    source: Path
    tools: tuple[str, ...]
    fetch: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        return [tool for tool in self.tools if shutil.which(tool) is None]

    def copied(self, folder: Path) -> Path:
        ignored = shutil.ignore_patterns("node_modules", "target")
        return Path(shutil.copytree(self.source, folder / self.name, ignore=ignored))

    def fetched(self, folder: Path) -> bool:
        """Whether its libraries are here."""
        try:
            return subprocess.run(self.fetch, cwd=folder, timeout=FETCH_SECONDS, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False


def run(command: tuple[str, ...], folder: Path, environment: Mapping[str, str], *, shown: bool = False) -> str:
    """The program's standard output. Raises Failed with what it printed if it fails or hangs."""
    # In a group of its own: `go run` and `mvn` start the program as a child, which would outlive them.
    running = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        encoding="utf-8",
        stdout=None if shown else subprocess.PIPE,
        start_new_session=True,
    )
    try:
        printed, _ = running.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        printed, _ = running.communicate()
        raise Failed(f"{' '.join(command)} did not end in {TIMEOUT_SECONDS} s: {printed}") from None
    if running.returncode != 0:
        raise Failed(f"{' '.join(command)} failed with status {running.returncode}: {printed}")
    return printed or ""


class Failed(Exception):
    """A program failed, or did something else than it should."""


def expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)
