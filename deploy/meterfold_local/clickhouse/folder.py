"""The data folder: one process at a time, and the working directory of that process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from meterfold_local.clickhouse import config
from meterfold_local.clickhouse.errors import StartError

PATTERNS = ("*", "?", "{", "}", "::")
EXIT_IN_USE = 3
EXIT_DATA = 6


class DataFolder:
    """Locked while the `with` lasts; the lock ends with the process, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Make and lock it. StartError (3) when another process has it, (6) when it can't be used."""
        if any(pattern in str(self.path) for pattern in PATTERNS):
            raise StartError(
                EXIT_DATA,
                f"can't use {self.path}: the engine takes {' '.join(PATTERNS)} in a path for patterns and would insert "
                "nothing; choose another folder",
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.path / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(EXIT_DATA, f"can't use {self.path}: {error}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise StartError(
                EXIT_IN_USE,
                f"another server (process {owner}) runs on {self.path}; a data folder belongs to one process: "
                "stop that one first, or use another folder",
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        return self

    def enter(self) -> None:
        """Write the engine's configuration and make the folder the working directory. The engine looks for config.xml
        there, and a caller's own must not be found."""
        try:
            config.prepare(self.path)
            os.chdir(self.path)
            # chDB opens an engine in a temporary folder when it is imported, and looks for a configuration in HOME.
            os.environ["TMPDIR"] = str(self.path / config.SPOOL_FOLDER)
            os.environ["HOME"] = str(self.path / config.CONFIG_FOLDER)
        except OSError as error:
            raise StartError(EXIT_DATA, f"can't use {self.path}: {error}") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
