"""What a worker does between batches: in turn, for a bounded time, and again after a failure."""

from __future__ import annotations

import time
from typing import Any

from meterfold_processor.fold.background import Background
from meterfold_schemas.errors import Retryable
from support import eventually


class Fold:
    """Has so many steps to do; each takes `seconds`."""

    def __init__(self, steps: int, seconds: float = 0.0) -> None:
        self.steps, self.seconds = steps, seconds
        self.fails = False
        self.recall = self

    def step(self) -> bool:
        if self.fails:
            raise Retryable("ClickHouse is away")
        time.sleep(self.seconds)
        self.steps = max(0, self.steps - 1)
        return self.steps > 0


def folds(*some: Fold) -> Any:
    return some


def test_everything_is_done_one_partition_after_the_other() -> None:
    first, second = Fold(5), Fold(3)
    Background(lambda _: None).run(folds(first, second), 60)
    assert (first.steps, second.steps) == (0, 0)


def test_a_turn_is_bounded() -> None:
    slow = Fold(1_000, 0.01)
    background = Background(lambda _: None)
    background.run(folds(slow), 0.03)
    done = 1_000 - slow.steps
    assert 1 <= done <= 5
    background.run(folds(slow), 0.03)
    assert 1_000 - slow.steps > done


def test_a_failure_is_reported_and_tried_again_after_a_pause() -> None:
    reported: list[str | None] = []
    one = Fold(3)
    background = Background(lambda error: reported.append(None if error is None else str(error)))
    one.fails = True
    background.run(folds(one), 60)
    background.run(folds(one), 60)
    assert reported == ["ClickHouse is away"], "the second turn came before the pause was over"
    one.fails = False

    def done() -> bool:
        background.run(folds(one), 60)
        return one.steps == 0

    eventually(done, 30, "the steps are done")
    assert reported[-1] is None
