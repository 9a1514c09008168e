"""A checker that can be told to end at an operation. See fold_process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from chaos import broken
from chaos.points import ALONE, Points
from meterfold_cli.commands.check import snapshot
from meterfold_cli.logs import configure
from meterfold_cli.workers import run_worker
from meterfold_processor.checker import mirror, stored
from meterfold_processor.checker import operations as ops
from meterfold_processor.checker.group import CheckerGroup
from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.checker.worker import CheckerWorker
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings, Sources, load_settings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import connect


def main(arguments: dict[str, Any]) -> None:
    configure(as_json=False, verbose=False)
    points = Points(Path(arguments["points"]), arguments["name"])

    sources = Sources.read()
    kafka, clickhouse = KafkaSettings.load(sources=sources), ClickHouseSettings.load(sources=sources)
    exceeded = Topics(kafka.topic_prefix).threshold_exceeded

    def drive(steps: ops.Steps[Any], perform: Callable[[ops.Operation], Any]) -> Any:
        alone = False

        def watched(operation: ops.Operation) -> Any:
            nonlocal alone
            name = type(operation).__name__
            points.reached("before", name)
            if isinstance(operation, ops.Produce) and alone and any(m.topic == exceeded for m in operation.messages):
                points.reached("before", ALONE)
            answer = perform(operation)
            points.reached("after", name)
            if isinstance(operation, ops.PollRows):
                alone = not answer
            return answer

        return ops.drive_all(steps, watched)

    settings = load_settings(CheckerSettings, "checker", sources=sources)
    impatient = partial(connect, timeout_seconds=arguments["timeout"])
    with (
        mock.patch.object(stored, "connect", impatient),
        mock.patch.object(mirror, "connect", impatient),
        _skipping(arguments.get("skips", 0.0)),
        broken.checker(arguments.get("broken"), drive) as driven,
    ):
        worker = CheckerWorker(settings, kafka, clickhouse, drive=driven)
        run_worker("check", worker.run, lambda: snapshot(worker.status))


@contextmanager
def _skipping(share: float) -> Iterator[None]:
    """A client that skips messages, as librdkafka has done at a hand-over: by this chance a poll brings only the last
    one of each partition."""
    poll = CheckerGroup.poll

    def some(self: CheckerGroup, seconds: float) -> list[Any]:
        messages = poll(self, seconds)
        if random.random() >= share:
            return messages
        last = {message.partition(): message for message in messages}
        return list(last.values())

    with mock.patch.object(CheckerGroup, "poll", some):
        yield
