"""A fold worker that sends itself a signal at a named step of its first flush: a program of its own.

    python -P dying_worker.py SIGKILL before windows     (or SIGSTOP, or after)

It finds its servers as `meterfold fold` does. Signal and step are arguments of this test program; the shipped loop that
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


def main(name: str, when: str, step: str) -> None:
    once: list[tuple[str, str]] = [(when, step)]

    def reached(*point: str) -> None:
        if point in once:
            once.clear()
            os.kill(os.getpid(), signal.Signals[name])

    def drive(operations: Iterator[Operation], perform: Callable[[Operation], None]) -> None:
        for operation in operations:
            reached("before", operation.step)
            perform(operation)
            reached("after", operation.step)

    sources = Sources.read()
    kafka = KafkaSettings.load(sources=sources)
    settings = load_settings(FoldSettings, "fold", sources=sources)
    opening = Opening(kafka, ClickHouseSettings.load(sources=sources))
    FoldWorker(settings, kafka, opening, drive=drive).run(Event())


if __name__ == "__main__":
    main(*sys.argv[1:])
