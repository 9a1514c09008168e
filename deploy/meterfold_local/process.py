"""One child process: started with its output in a file, awaited by condition, ended by a deadline.

Servers of the local stack and the workers of a demo or a test are all run this way. A child dies with its parent
(see watchdog.py), and an error about it shows the end of its log.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from meterfold_local import watchdog
from meterfold_local.errors import StackError

POLL_SECONDS = 0.03


class ManagedProcess:
    """A command with its log file. Not for use from several threads at once.

    `env` is the child's whole environment (None: a copy of ours). Its standard output and error are appended to
    `log_file`; `more_logs` are other files that it writes and that errors should quote, too.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_file: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        more_logs: Sequence[Path] = (),
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log_file = log_file
        self.env = None if env is None else dict(env)
        self.cwd = cwd
        self.more_logs = tuple(more_logs)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __repr__(self) -> str:
        return f"ManagedProcess({self.name!r}, pid={self.pid if self._process else None})"

    @property
    def pid(self) -> int:
        """The child's process id; StackError before `start`."""
        return self._started().pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Exit status, -N after signal N, None while it runs or before it was started."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the command; again after it ended, if wanted."""
        if self.running:
            raise StackError(f"{self.name} runs already (pid {self.pid}); stop it first")
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            try:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.env,
                    cwd=self.cwd,
                    # Ctrl-C in the terminal reaches the supervisor alone, which then stops its children in order.
                    start_new_session=True,
                )
            except OSError as error:
                raise StackError(f"{self.name} can't be started: {error}") from error
        watchdog.shared.add(self._process.pid)

    def wait_until(self, condition: Callable[[], bool], deadline: float, what: str = "ready") -> None:
        """Wait up to `deadline` seconds for the condition; StackError if the child ends or time runs out first."""
        end = time.monotonic() + deadline
        while not condition():
            if not self.running:
                raise StackError(f"{self.name} ended with status {self.exit_code} before it was {what}{self.quote()}")
            if time.monotonic() > end:
                raise StackError(f"{self.name} was not {what} within {deadline:g} s{self.quote()}")
            time.sleep(POLL_SECONDS)

    def wait_for_line(self, text: str, deadline: float) -> str:
        """Wait until a line that it printed since its start contains `text`; returns that line."""
        found: list[str] = []

        def printed() -> bool:
            found.extend(line for line in self.output().splitlines() if text in line)
            return bool(found)

        self.wait_until(printed, deadline, f"at {text!r}")
        return found[0]

    def output(self) -> str:
        """What it has printed since its last start (whole lines only)."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            text = log.read()
        return text[: text.rfind(b"\n") + 1].decode(errors="replace")

    def wait(self, deadline: float) -> int:
        """Wait for its end; returns the exit status, StackError when time runs out."""
        process = self._started()
        try:
            code = process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise StackError(f"{self.name} still runs after {deadline:g} s{self.quote()}") from None
        watchdog.shared.remove(process.pid)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.running:
            self._started().send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self.wait(10)

    def terminate(self, deadline: float = 10.0) -> int | None:
        """SIGTERM, after `deadline` seconds SIGKILL; returns the exit status (None: was never started)."""
        if self._process is None:
            return None
        self.signal(signal.SIGTERM)
        try:
            return self.wait(deadline)
        except StackError:
            self.kill()
            return self.exit_code

    def quote(self, lines: int = 20) -> str:
        """The ends of its log files, ready to be put behind an error message."""
        parts = []
        for path in (*self.more_logs, self.log_file):
            if last := tail(path, lines):
                parts.append(f"\n--- end of {path}\n{last}")
        return "".join(parts) or f" (nothing in {self.log_file})"

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise StackError(f"{self.name} was not started")
        return self._process


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a text file, "" when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 32 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
