"""A small process that outlives its parent by a few seconds: it stops the parent's children when the parent is gone.

The parent holds the writing end of a pipe. However the parent ends, also by SIGKILL, the kernel closes that end; the
watchdog then ends every process that was registered and not taken off again. Linux' parent-death signal would not do:
it fires when the *thread* that started the child ends, and other systems have none.

Protocol: one JSON line per change, `{"add": pid, "created": seconds}` or `{"remove": pid}`. A process is only ever
signalled if it still has the creation time it was registered with, so that a reused pid is left alone.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import psutil

GRACE_SECONDS = 8.0
"""Between SIGTERM and SIGKILL for orphans."""


class Watchdog:
    """The parent's side: starts the helper on first use, one per process (a forked child starts its own)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[bytes] | None = None
        # A forked child would hold the pipe open when its parent is killed.
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self._close)

    def add(self, pid: int) -> None:
        """Have this child ended when the calling process is gone."""
        try:
            created = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            return
        self._tell({"add": pid, "created": created})

    def remove(self, pid: int) -> None:
        """This child has ended and was waited for."""
        self._tell({"remove": pid})

    def _tell(self, message: dict[str, float]) -> None:
        with self._lock:
            if self._helper is None:
                self._helper = subprocess.Popen(
                    [sys.executable, "-m", "meterfold_local.watchdog"],
                    stdin=subprocess.PIPE,
                    bufsize=0,
                    # A session of its own: Ctrl-C in the terminal is for the parent.
                    start_new_session=True,
                )
            assert self._helper.stdin is not None
            self._helper.stdin.write(json.dumps(message).encode() + b"\n")

    def _forget(self) -> None:
        if self._helper is not None and self._helper.stdin is not None:
            self._helper.stdin.close()
            self._helper.returncode = 0  # not ours to wait for
        self._helper = None
        self._lock = threading.Lock()

    def _close(self) -> None:
        if self._helper is not None:
            assert self._helper.stdin is not None
            self._helper.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                # It ends at once unless children were left running.
                self._helper.wait(1)


shared = Watchdog()
"""The watchdog of this process."""


def main() -> None:
    """The helper's side: read until the pipe closes, then end what is still registered."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    children: dict[int, float] = {}
    for line in sys.stdin.buffer:
        if not line.endswith(b"\n"):
            break  # the parent was killed while it wrote
        message = json.loads(line)
        if "add" in message:
            children[message["add"]] = message["created"]
        else:
            children.pop(message["remove"], None)
    end_all(children)


def end_all(children: dict[int, float], grace: float = GRACE_SECONDS) -> None:
    """SIGTERM, then after `grace` seconds SIGKILL, to every process in `children` (pid -> creation time)."""
    alive = [process for pid, created in children.items() if (process := find(pid, created)) is not None]
    for process in reversed(alive):
        _signal(process, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(alive, timeout=grace)
    for process in stubborn:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=grace)


def find(pid: int, created: float) -> psutil.Process | None:
    """The process with this pid if it is the same that was created then, and no zombie."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if same else None


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


if __name__ == "__main__":
    main()
