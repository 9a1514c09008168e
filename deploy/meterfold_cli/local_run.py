"""What `meterfold up` runs on the local stack, and supervises: the migration, a fold worker, a checker, and the HTTP
server with the console."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from meterfold_cli import console, exits
from meterfold_local.errors import StackError
from meterfold_local.private_files import write_private
from meterfold_local.process import ManagedProcess
from meterfold_local.stack import LocalStack
from meterfold_local.stack_state import read_state
from meterfold_processor.fold.settings import SchemaRegistrySettings
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.settings import ClickHouseSettings, load_settings

READY_SECONDS = 60.0
_LOOK_SECONDS = 0.3
WORKERS = ("fold", "check", "serve")
CURL_SETTINGS = "curl.conf"
SLOT_TAKEN = "[CHECKER_SLOT_TAKEN]"
"""Ends the last line of a checker whose slot another one has taken (meterfold_processor/checker/slots.py)."""
TAKEN_AGAIN = 3
TAKEN_AGAIN_SECONDS = 300.0
"""How often a checker is restarted for that reason, and within which time."""


class LocalRun:
    """The workers of a started stack. The stack stops them before its servers."""

    def __init__(self, stack: LocalStack, *, migrate: bool = True, workers: bool = True) -> None:
        self._stack = stack
        self._migrate = migrate
        self._names = WORKERS if workers else ()
        self._workers: list[ManagedProcess] = []
        self._taken: list[float] = []

    @property
    def workers(self) -> tuple[str, ...]:
        """Name and pid of each."""
        return tuple(f"{worker.name} (pid {worker.pid})" for worker in self._workers)

    def start(self) -> None:
        """Raises what the migration raises, and StackError when a worker does not come up."""
        write_curl_settings(self._stack.data_dir / CURL_SETTINGS, self._stack.clickhouse_settings())
        if self._migrate:
            copies = len(self._stack.kafka.brokers)
            registry = load_settings(SchemaRegistrySettings, "schema_registry", environ=_registry_variables())
            wanted = MigrationOptions(replication=copies, schema_registry=bool(registry.url))
            rules = migrate_all(self._stack.kafka_settings(), self._stack.clickhouse_settings(), wanted).rules
            # With these settings `record` refuses an event that the fold would reject.
            self._stack.write_settings(
                horizon_seconds=rules.horizon_seconds, future_tolerance_seconds=rules.future_tolerance_seconds
            )
        self._workers = [self._stack.spawn(name, command(name), _registry_variables()) for name in self._names]
        for worker in self._workers:
            worker.wait_for_line(f"{worker.name}: ready", READY_SECONDS)

    def sign_in_link(self) -> str | None:
        """A link that signs in to the console, once. None where the console does not run, or has no tables yet."""
        if "serve" not in self._names:
            return None
        from meterfold_schemas.errors import MeterfoldError
        from meterfold_schemas.settings_sources import Sources
        from meterfold_service.console.links import local_name, sign_in_link
        from meterfold_service.metering import Metering

        with Metering(sources=Sources.read(config=self._stack.config_file, environ={})) as metering:
            try:
                return sign_in_link(metering, self._stack.http_url, name=local_name(), now=datetime.now(UTC))
            except MeterfoldError:
                return None

    def hold(self, stop: threading.Event) -> None:
        """Supervise until `stop` is set. Raises StackError when a server or worker has ended.

        A worker that was killed is restarted, as a supervisor does in production. A checker that lost its slot to
        another one is restarted a limited number of times. A worker that ends with any other error is not restarted.
        """
        while not stop.wait(_LOOK_SECONDS):
            try:
                self._stack.check()
            except StackError:
                if not self._start_again():
                    raise

    def _start_again(self) -> bool:
        """Whether a worker that had ended was restarted."""
        started = False
        for worker in self._workers:
            if worker.exit_code is not None and (why := self._why_again(worker)):
                console.note(f"{worker.name} {why}; restarting it", "yellow")
                worker.start()
                self._stack.write_state()
                started = True
        return started

    def _why_again(self, worker: ManagedProcess) -> str:
        """Why a worker that has ended is restarted; "" if it is not."""
        if _killed(worker):
            return f"was killed (status {worker.exit_code})"
        if not _lost_its_slot(worker):
            return ""
        now = time.monotonic()
        self._taken = [moment for moment in self._taken if now - moment < TAKEN_AGAIN_SECONDS]
        if len(self._taken) >= TAKEN_AGAIN:
            return ""
        self._taken.append(now)
        return "lost its slot to another checker"


def command(name: str) -> list[str]:
    """A `meterfold` command as a child process of this interpreter; -P keeps the working directory out of its path."""
    return [sys.executable, "-P", "-m", "meterfold_cli", name]


def _registry_variables() -> dict[str, str]:
    """The variables of a Schema Registry, the only ones of ours that the stack's workers inherit."""
    start = "METERFOLD_SCHEMA_REGISTRY_"
    return {name: value for name, value in os.environ.items() if name.startswith(start)}


def write_curl_settings(path: Path, settings: ClickHouseSettings) -> None:
    """The settings of `curl -K`, so that the password is in no command line and in no shell history."""
    write_private(
        path,
        f'url = "{settings.url}/?database={settings.database}"\n'
        f'header = "X-ClickHouse-User: {settings.username}"\n'
        f'header = "X-ClickHouse-Key: {settings.password.get_secret_value()}"\n',
    )


def kill_all(data_dir: Path) -> None:
    """SIGKILL every process of the stack; the watchdog ends those that stack.json does not contain yet."""
    state = read_state(data_dir.absolute())
    for process in state.processes if state else ():
        if process.alive:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _killed(worker: ManagedProcess) -> bool:
    return worker.exit_code is not None and worker.exit_code < 0


def _lost_its_slot(worker: ManagedProcess) -> bool:
    return worker.exit_code == exits.FAILED and worker.output().rstrip().endswith(SLOT_TAKEN)
