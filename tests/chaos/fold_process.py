"""A fold worker that can be told to end at a step.

The worker is the shipped one. Replaced from outside: the loop that performs the steps of a flush (it looks at the
points), the time-out of ClickHouse connections (short, so that "slower than the time-out" takes seconds), and, for a
run that must fail, a rule that `broken` names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from chaos import broken, clocks
from chaos.points import Points
from meterfold_cli.commands.fold import snapshot
from meterfold_cli.logs import configure
from meterfold_cli.workers import run_worker
from meterfold_processor.fold import opening
from meterfold_processor.fold.flush import Operation
from meterfold_processor.fold.settings import FoldSettings
from meterfold_processor.fold.worker import FoldWorker
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings, Sources, load_settings
from meterfold_sink.client import connect


def main(arguments: dict[str, Any]) -> None:
    configure(as_json=False, verbose=False)
    points = Points(Path(arguments["points"]), arguments["name"])

    def drive(operations: Iterator[Operation], perform: Callable[[Operation], None]) -> None:
        for operation in operations:
            points.reached("before", operation.step)
            perform(operation)
            points.reached("after", operation.step)

    sources = Sources.read()
    kafka = KafkaSettings.load(sources=sources)
    settings = load_settings(FoldSettings, "fold", sources=sources)
    impatient = partial(connect, timeout_seconds=arguments["timeout"])
    stepping = clocks.accepted() if arguments.get("clocks") else nullcontext()
    with mock.patch.object(opening, "connect", impatient), stepping, broken.fold(arguments.get("broken")):
        made = opening.Opening(kafka, ClickHouseSettings.load(sources=sources))
        worker = FoldWorker(settings, kafka, made, drive=drive)
        run_worker("fold", worker.run, lambda: snapshot(worker.status))
