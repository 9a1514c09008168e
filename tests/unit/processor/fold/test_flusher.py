"""Flushes one after the other: what comes behind one that failed for good must not happen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from meterfold_processor.fold import flusher
from meterfold_processor.fold.flusher import Flusher
from meterfold_schemas.errors import Fatal
from support import eventually

STEPS = ("records", "windows", "progress")


def test_nothing_behind_a_flush_that_was_refused_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """History: ClickHouse refused the windows of one batch (read-only), and took the progress row of the next one."""
    queued = threading.Event()
    done: list[str] = []

    def perform(operation: Any) -> None:
        if operation == "windows of 1":
            assert queued.wait(10)
            raise Fatal("readonly mode")
        done.append(operation)

    def drive(operations: Iterator[Any], perform: Any) -> None:
        for operation in operations:
            perform(operation)

    monkeypatch.setattr(flusher, "flush", lambda batch: iter([f"{step} of {batch[0]}" for step in STEPS]))
    flushes = Flusher(drive, perform, lambda error: None)
    batches: list[Any] = [[1], [2]]
    for sequence, batch in enumerate(batches):
        flushes.submit(sequence, batch)
    queued.set()
    eventually(lambda: flushes.idle, 10, "both are over")
    with pytest.raises(Fatal):
        flushes.finished()
    assert done == ["records of 1"]
