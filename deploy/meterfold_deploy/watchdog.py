"""A small process that outlives its parent by a few seconds: it stops the parent's children when the parent is gone.

The parent holds the writing end of a pipe. However the parent ends, also by SIGKILL, the kernel closes that end; the
watchdog then ends every process that was registered and not taken off again. Linux' parent-death signal would not do:
it fires when the *thread* that started the child ends, and other systems have none.

Protocol: one JSON line per change, `{"add": pid, "created": seconds}` or `{"remove": pid}`. A process is only ever
signalled if it still has the creation time it was registered with, so that a reused pid is left alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import psutil

GRACE_SECONDS = 8.0
"""Between SIGTERM and SIGKILL for orphans."""


class Watchdog:
    """The parent's side: starts the helper on first use, one per process (a forked child starts its own)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[bytes] | None = None
        self._owner = 0

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
            if self._helper is None or self._owner != os.getpid():
                self._helper = subprocess.Popen(
                    [sys.executable, "-m", "meterfold_deploy.watchdog"],
                    stdin=subprocess.PIPE,
                    # A session of its own: Ctrl-C in the terminal is for the parent.
                    start_new_session=True,
                )
                self._owner = os.getpid()
            assert self._helper.stdin is not None
            self._helper.stdin.write(json.dumps(message).encode() + b"\n")
            self._helper.stdin.flush()


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
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    main()
