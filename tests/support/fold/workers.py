"""Fold workers: on a thread of the test, where a test may replace a part of one, and as processes of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from meterfold_cli.local_run import command
from meterfold_local.process import ManagedProcess
from meterfold_local.stack_settings import write_settings
from meterfold_processor.fold.opening import Opening
from meterfold_processor.fold.settings import FoldSettings
from meterfold_processor.fold.worker import FoldWorker
from support import eventually
from support.fold.installation import DEADLINE, Installation

FAST = {"batch_seconds": 0.05}


class Running:
    """A worker on a thread of this process."""

    def __init__(
        self,
        installation: Installation,
        *,
        opening: Callable[..., Opening] = Opening,
        drive: Any = None,
        consumer: Callable[[], Any] | None = None,
        **settings: Any,
    ) -> None:
        self.worker = FoldWorker(
            FoldSettings(**{**FAST, **settings}),
            installation.kafka,
            opening(installation.kafka, installation.clickhouse),
            consumer=consumer,
            **({} if drive is None else {"drive": drive}),
        )
        self.status = self.worker.status
        self.failure: BaseException | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def require_running(self) -> None:
        assert self.failure is None, f"the worker ended: {self.failure!r}"

    def wait_for_partitions(self, count: int) -> Running:
        def owns() -> bool:
            self.require_running()
            assert len(self.status.partitions) == count, self.status
            return True

        eventually(owns, DEADLINE, f"the worker has {count} partitions")
        return self

    def wait_for_failure(self, kind: type[BaseException]) -> str:
        """The words of the error that ends the worker."""
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), f"the worker goes on: {self.status}"
        assert isinstance(self.failure, kind), repr(self.failure)
        return str(self.failure)

    def end(self) -> None:
        """A clean stop."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the worker does not stop"

    def _run(self) -> None:
        try:
            self.worker.run(self._stop)
        except BaseException as failure:
            self.failure = failure


@contextmanager
def running(installation: Installation, **more: Any) -> Iterator[Running]:
    """A worker that must still be well at the end."""
    one = Running(installation, **more)
    try:
        yield one
        one.require_running()
    finally:
        one.end()
    one.require_running()


def fold_environment(installation: Installation, folder: Path, base: dict[str, str], **settings: Any) -> dict[str, str]:
    """The environment of a `meterfold fold` process; `settings` are those of the fold."""
    path = folder / "fold" / "meterfold.toml"
    write_settings(path, installation.kafka, installation.clickhouse)
    given = {f"METERFOLD_FOLD_{name.upper()}": str(value) for name, value in {**FAST, **settings}.items()}
    return {**base, "METERFOLD_CONFIG": str(path), **given}


def dying_worker(signal_name: str, when: str, step: str) -> list[str]:
    """The program that sends itself a signal before or after a step."""
    return [sys.executable, "-P", str(Path(__file__).with_name("dying_worker.py")), signal_name, when, step]


@contextmanager
def started(
    name: str, environment: dict[str, str], folder: Path, program: list[str] | None = None
) -> Iterator[ManagedProcess]:
    """A `meterfold fold` process that has its partitions (or another program, just started); killed at the end."""
    process = ManagedProcess(name, program or command("fold"), folder / f"{name}.log", env=environment)
    process.start()
    try:
        if program is None:
            process.wait_for_line("fold: ready", DEADLINE)
        yield process
    finally:
        process.kill()
