"""Whose data folder it is: the lock of a running stack, and `stack.json`, where others find its processes.

The lock is held by the supervisor through the kernel, so it is gone with the supervisor however that ends.
`stack.json` then stays behind; it is recognised as stale, and processes left over from it are ended first.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from meterfold_local import watchdog
from meterfold_local.errors import AlreadyRunning
from meterfold_local.private_files import write_private

STATE_FILE = "stack.json"
LOCK_FILE = "stack.lock"


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process as others can recognise it: the pid together with its creation time (seconds since 1970)."""

    name: str
    pid: int
    created: float

    @classmethod
    def of(cls, name: str, pid: int) -> ProcessInfo:
        try:
            return cls(name, pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return cls(name, pid, 0.0)

    @property
    def alive(self) -> bool:
        return watchdog.find(self.pid, self.created) is not None


@dataclass(frozen=True, slots=True)
class StackState:
    """What `stack.json` says."""

    supervisor: ProcessInfo
    processes: tuple[ProcessInfo, ...]
    bootstrap_servers: str
    clickhouse_url: str


def write_state(data_dir: Path, state: StackState) -> None:
    write_private(data_dir / STATE_FILE, json.dumps(asdict(state), indent=2) + "\n")


def read_state(data_dir: Path) -> StackState | None:
    """The last state written there, stale or not; None when there is none that can be read."""
    try:
        document = json.loads((data_dir / STATE_FILE).read_text(encoding="utf-8"))
        return StackState(
            supervisor=ProcessInfo(**document["supervisor"]),
            processes=tuple(ProcessInfo(**process) for process in document["processes"]),
            bootstrap_servers=document["bootstrap_servers"],
            clickhouse_url=document["clickhouse_url"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def running_stack(data_dir: Path) -> StackState | None:
    """The stack that runs on this data folder now, None if there is none or its supervisor was killed."""
    state = read_state(data_dir)
    return state if state is not None and state.supervisor.alive else None


class FolderLock:
    """Exclusive use of a data folder by one supervisor."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Raises AlreadyRunning if another process holds it."""
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (self._data_dir / LOCK_FILE).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            state = running_stack(self._data_dir)
            where = f"pid {state.supervisor.pid}, Kafka {state.bootstrap_servers}" if state else "still starting"
            raise AlreadyRunning(
                f"a stack runs on {self._data_dir} already ({where}); use that one, stop it, or name another folder"
            ) from None
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def end_leftovers(data_dir: Path) -> Sequence[ProcessInfo]:
    """After a supervisor was killed: end what is left of its processes, remove the stale file.

    Only for the holder of the folder's lock. Returns the processes that were still there.
    """
    state = read_state(data_dir)
    left = [process for process in state.processes if process.alive] if state else []
    watchdog.end_all({process.pid: process.created for process in left})
    (data_dir / STATE_FILE).unlink(missing_ok=True)
    return left


def describe_self() -> ProcessInfo:
    """This process, as the supervisor of a stack."""
    return ProcessInfo.of("supervisor", os.getpid())
