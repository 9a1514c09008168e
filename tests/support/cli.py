"""The `meterfold` command in tests: as processes of their own, and inside of the test where only the answer matters."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from meterfold_cli import main
from meterfold_cli.local_run import command
from meterfold_local.process import ManagedProcess


def meterfold(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 90
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, as a process."""
    first, *rest = map(str, arguments)
    return subprocess.run(
        [*command(first), *rest],
        env=None if env is None else dict(env),
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )


def inside(*arguments: str | Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The same inside of this process: a new one imports for a second or more."""
    words = [str(argument) for argument in arguments]
    root = logging.getLogger()
    before = root.handlers[:], root.level
    out, err = io.StringIO(), io.StringIO()
    try:
        with mock.patch.dict(os.environ, env, clear=True), redirect_stdout(out), redirect_stderr(err):
            code = main.run(words)
    finally:
        root.handlers[:], root.level = before
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def answer(*arguments: str | Path, env: Mapping[str, str], code: int | None = 0) -> Any:
    """The JSON that a command prints; AssertionError with its words when it ends with another code (None: any)."""
    done = inside(*arguments, "--json", env=env)
    assert code is None or done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


@contextmanager
def running(
    name: str, *arguments: str, env: Mapping[str, str], folder: Path, ready: str | None = None, deadline: float = 60
) -> Iterator[ManagedProcess]:
    """A command in the background, its output in a file of `folder`; killed at the end if it still runs."""
    process = ManagedProcess(name, [*command(name), *arguments], folder / f"{name}.log", env=env)
    process.start()
    try:
        if ready is not None:
            process.wait_for_line(ready, deadline)
        yield process
    finally:
        process.kill()
