"""Worker processes that begin where their imports end.

A fresh interpreter imports for a second or more, which on a busy machine is most of what a recovery takes. So a server
process imports everything once and computes nothing, and each worker is a fork of it: a process of its own in
every respect, with its own environment, log and process group.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from meterfold_local import watchdog
from meterfold_local.errors import StackError
from meterfold_local.process import POLL_SECONDS, ManagedProcess
from support.paths import TESTS

PROGRAMS = ("chaos.fold_process", "chaos.checker_process", "chaos.notify_process", "chaos.producer_process")

_context = multiprocessing.get_context("forkserver")
_starting = threading.Lock()
_UNKNOWN = 255


class ForkedProcess(ManagedProcess):
    """`program` is a module of this package with a function `main(arguments)`."""

    program: str
    arguments: dict[str, Any]

    def __init__(self, name: str, log_file: Path) -> None:
        super().__init__(name, [], log_file)

    def start(self) -> None:
        if self.running:
            raise StackError(f"{self.name} runs already (pid {self.pid}); stop it first")
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
        child = _context.Process(
            target=_body, args=(self.program, self.arguments, self.env or {}, str(self.log_file)), name=self.name
        )
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        with _starting, mock.patch.dict(os.environ, {"PYTHONPATH": path}):
            _context.set_forkserver_preload(list(PROGRAMS))
            child.start()
        self._process = _Child(child)  # type: ignore[assignment]  # what is needed of Popen
        watchdog.shared.add(self.pid)


class _Child:
    """A multiprocessing process with the methods of subprocess.Popen, for any thread."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        self._lock = threading.Lock()
        assert process.pid is not None
        self.pid = process.pid
        self._created = psutil.Process(self.pid).create_time()

    def poll(self) -> int | None:
        with self._lock:
            code = self._process.exitcode
        # The server tells how its forks end; without it (it was ended, too) only that they ended can be seen.
        if code == _UNKNOWN and watchdog.find(self.pid, self._created) is not None:
            return None
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # as Popen: it may end in between
                os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        until = math.inf if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
            time.sleep(POLL_SECONDS)
        return code


def _body(program: str, arguments: dict[str, Any], environment: Mapping[str, str], log_file: str) -> None:
    os.setsid()
    log = os.open(log_file, os.O_WRONLY | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    os.environ.clear()
    os.environ.update(environment)
    from chaos import entry

    entry.run(lambda: importlib.import_module(program).main(arguments))
