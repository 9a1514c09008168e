"""Run one worker until it is stopped, and print a ready line, progress, and the end.

The worker has its own thread, so that the main thread answers signals while the worker waits. If a stop takes longer
than STOP_SECONDS, the process ends anyway; the next worker reads again what was not flushed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meterfold_cli import console, exits
from meterfold_cli.signals import ShutdownSignals
from meterfold_schemas.errors import Fatal, MeterfoldError
from meterfold_schemas.plurals import plural
from meterfold_schemas.settings import KafkaSettings, load_settings

if TYPE_CHECKING:
    from meterfold_cli.installation import Installation
    from meterfold_processor.checker.worker import CheckerWorker
    from meterfold_processor.fold.worker import FoldWorker
    from meterfold_processor.probes.vitals import WorkerKind
    from meterfold_service.notify.worker import NotifyWorker
    from meterfold_sink.client import Client

_LOG = logging.getLogger("meterfold.workers")

STOP_SECONDS = 9.5
PROGRESS_SECONDS = 5.0
QUIET_SECONDS = 60.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a worker: `values` for JSON, `text` for people, `troubles` that it is retrying."""

    ready: bool
    text: str
    values: Mapping[str, Any]
    troubles: Sequence[str] = field(default=())


class Reporter:
    """Prints `worker: ...` lines, or JSON lines with `event` (ready, progress, stopping, stopped)."""

    def __init__(self, worker: str, as_json: bool) -> None:
        self._worker = worker
        self._as_json = as_json
        self._last: Snapshot | None = None
        self._said = time.monotonic()

    def say(self, event: str, snapshot: Snapshot) -> None:
        self._last, self._said = snapshot, time.monotonic()
        if self._as_json:
            console.emit(
                {"event": event, "worker": self._worker, **snapshot.values, "troubles": list(snapshot.troubles)}
            )
            return
        trouble = f"; trouble: {'; '.join(snapshot.troubles)}" if snapshot.troubles else ""
        text = f"{snapshot.text}{trouble}"
        console.say(f"{self._worker}: {text if event == 'progress' else f'{event}, {text}'}")

    def progress(self, snapshot: Snapshot) -> None:
        """Every few seconds while there is progress, less often otherwise."""
        changed = self._last is None or (snapshot.values, snapshot.troubles) != (self._last.values, self._last.troubles)
        if time.monotonic() - self._said >= (PROGRESS_SECONDS if changed else QUIET_SECONDS):
            self.say("progress", snapshot)


def run_worker(
    name: str,
    run: Callable[[threading.Event], None],
    look: Callable[[], Snapshot],
    *,
    as_json: bool = False,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Returns after a clean stop; raises what the worker raised. `on_ready` is called once, after the ready line."""
    reporter = Reporter(name, as_json)
    failures: list[BaseException] = []
    ended = threading.Event()
    with ShutdownSignals() as ending:

        def body() -> None:
            try:
                run(ending.event)
            except BaseException as error:
                failures.append(error)
            finally:
                ended.set()

        threading.Thread(target=body, name=name, daemon=True).start()
        ready = False
        while not ended.wait(_LOOK_SECONDS) and not ending.event.is_set():
            snapshot = look()
            if snapshot.ready and not ready:
                ready = True
                reporter.say("ready", snapshot)
                on_ready()
            else:
                reporter.progress(snapshot)
        asked = ending.event.is_set()
        if asked:
            reporter.say("stopping", look())
            if not ended.wait(STOP_SECONDS):
                console.fail(
                    f"{name} did not stop within {STOP_SECONDS:g} s and was killed; the next worker reads again "
                    "what was not flushed"
                )
                os._exit(exits.FAILED)
    if failures:
        raise failures[0]
    if not asked:
        raise Fatal(f"the {name} worker ended unexpectedly; see its log")
    reporter.say("stopped", look())


def run_probed(
    name: str,
    worker: FoldWorker | CheckerWorker | NotifyWorker,
    subject: WorkerKind,
    look: Callable[[], Snapshot],
    installation: Installation,
    *,
    as_json: bool,
    also: Callable[[Client], None] | None = None,
) -> None:
    """`run_worker`, with the probes and metrics of the settings [health]. `also`: what the check of ClickHouse does
    after each success."""
    from meterfold_processor.probes.server import serving
    from meterfold_processor.probes.settings import HealthSettings
    from meterfold_processor.probes.store import StoreCheck, ping_clickhouse
    from meterfold_service.status.groups import group_names, notify_group

    health = load_settings(HealthSettings, "health", sources=installation.sources)
    store = StoreCheck(ping_clickhouse(installation.clickhouse(), also), worker.status.errors.of("store"))
    kafka = installation.kafka()
    groups = dict(zip(("fold", "check"), group_names(installation.sources, kafka), strict=True))
    groups["notify"] = notify_group(installation.sources, kafka)
    with serving(health, subject, store):
        run_worker(name, worker.run, look, as_json=as_json, on_ready=lambda: _name_others(name, kafka, groups[name]))


def _name_others(name: str, kafka: KafkaSettings, group_id: str) -> None:
    """Log how many other workers share the partitions: a second one may have been started by mistake."""
    from meterfold_processor.kafka.groups import members

    try:
        others = len(members(kafka, group_id)) - 1
    except MeterfoldError:  # only information
        return
    if others > 0:
        _LOG.info("%s in group %s; they share the partitions", plural(others, "more worker"), group_id)
