"""The workers of a run, and the clock that watches how long events wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Self

from meterfold_cli.local_run import command
from meterfold_local.process import ManagedProcess
from meterfold_service.status.look import Inspector
from rolling.versions import Version

__all__ = ["Crew", "Watch"]

READY_SECONDS = 180.0
STOP_SECONDS = 20.0
_LOOK_SECONDS = 0.5


@dataclass(slots=True)
class Crew:
    """Fold workers and checkers as processes of their own, by name."""

    folder: Path
    environment: dict[str, str]
    processes: dict[str, ManagedProcess] = field(default_factory=dict)

    def start(self, name: str, version: Version) -> None:
        """Start `fold-N` or `check-N`, whose N is its slot, and wait until it has partitions."""
        kind, _, number = name.partition("-")
        slot = {"METERFOLD_CHECKER_SLOT": number} if kind == "check" else {}
        env = {**version.environment(self.environment), **slot}
        process = ManagedProcess(name, command(kind), self.folder / f"{name}.{version.label}.log", env=env)
        process.start()
        self.processes[name] = process
        process.wait_for_line(f"{kind}: ready", READY_SECONDS)

    def stop(self, name: str) -> None:
        """SIGTERM, as a rolling update does; AssertionError unless it ends well."""
        code = self.processes.pop(name).terminate(STOP_SECONDS)
        assert code == 0, f"{name} ended with {code} after SIGTERM"

    def require_running(self) -> None:
        for name, process in self.processes.items():
            assert process.running, f"{name} ended with {process.exit_code}: {process.quote()}"

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()


class Watch:
    """How long the oldest event has waited for the fold, and the oldest window for the checker: the longest of all
    looks, in seconds. `step` names what happens meanwhile."""

    def __init__(self, inspector: Inspector, tell: Callable[[str], None]) -> None:
        self._inspector = inspector
        self._tell = tell
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self.step = "start"
        self.longest: dict[str, tuple[float, float]] = {}
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def during(self, step: str) -> None:
        self._tell(step)
        self.step = step

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            step, begun = self.step, time.monotonic()
            report = self._inspector.look()
            late = time.monotonic() - begun  # a look on a busy machine makes events older, not the workers
            fold = max((one.waiting_seconds or 0.0 for one in report.partitions), default=0.0)
            check = max((one.checker_waiting_seconds or 0.0 for one in report.partitions), default=0.0)
            before = self.longest.get(step, (0.0, 0.0))
            self.longest[step] = (max(before[0], fold - late), max(before[1], check - late))
            self.looks += 1
