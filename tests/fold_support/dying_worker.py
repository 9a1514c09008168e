"""A fold worker that kills itself with SIGKILL at a named step of its flush: run as a program of its own.

    python -P dying_worker.py before windows     (or: after windows)

It finds its servers as `meterfold fold` does. The step is an argument of this test program; the shipped loop that
performs the steps is replaced from outside.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from threading import Event

from meterfold_processor.fold.flush import Operation
from meterfold_processor.fold.opening import Opening
from meterfold_processor.fold.settings import FoldSettings
from meterfold_processor.fold.worker import FoldWorker
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings, Sources, load_settings


def main(when: str, step: str) -> None:
    def drive(operations: Iterator[Operation], perform: Callable[[Operation], None]) -> None:
        for operation in operations:
            if (when, step) == ("before", operation.step):
                os.kill(os.getpid(), signal.SIGKILL)
            perform(operation)
            if (when, step) == ("after", operation.step):
                os.kill(os.getpid(), signal.SIGKILL)

    sources = Sources.read()
    kafka = KafkaSettings.load(sources=sources)
    settings = load_settings(FoldSettings, "fold", sources=sources)
    opening = Opening(kafka, ClickHouseSettings.load(sources=sources))
    FoldWorker(settings, kafka, opening, drive=drive).run(Event())


if __name__ == "__main__":
    main(*sys.argv[1:])
