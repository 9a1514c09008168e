"""Exact histories by hand: who folds what, and which of its effects land."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow.compute as pc
import pytest

from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.flush import InsertRows, Operation
from meterfold_processor.fold.messages import columns
from meterfold_processor.fold.rules import Rules
from meterfold_schemas.periods import DAY, STORED_NUMBER, Period, micros
from simulation.fold.logs import HERE, RULES, Log, Subject, log_of
from simulation.fold.oracle import Event
from simulation.fold.variants import VARIANTS, Variant
from simulation.fold.world import Steps, Worker, World, open_partition

START = micros(datetime(2024, 3, 1, 12, 30, tzinfo=UTC))


def day(r: float) -> int:
    """The stamp that the histories call r = 21: so many days after the start, in UTC microseconds."""
    return START + int(r * DAY)


def event(offset: int, name: str = "", *, r: float = 0, ahead: float = 0, subject: Subject = HERE[0]) -> Event:
    """An event stamped on day `r`, its own clock `ahead` by days; without a name it has an id of its own."""
    return Event(offset, day(r), subject, name or f"id{offset}", Decimal(offset + 1), day(r + ahead))


def world_of(events: Sequence[Event] | Log, variant: Variant, *, batch: int = 50, rules: Rules = RULES) -> World:
    """A world without any harm but what the test does; the last worker reads `batch` messages at a time."""
    log = events if isinstance(events, Log) else log_of(events)
    world = World(log, random.Random(0), variant.parts, variant.rules(rules), gentle=True)
    world.batch_sizes = [batch]
    return world


class Hand:
    """A worker that does only what it is told; what it does not land is lost with it, or lands late."""

    def __init__(self, world: World, *, meanwhile: Callable[[int], None] = lambda _: None) -> None:
        """Opens the partition; `meanwhile` is called with its number before each effect of that."""
        self.world = world
        self.worker = Worker(world)
        opening: Steps = (world.parts.open or open_partition)(world, self.worker)
        for number, _ in enumerate(opening):
            meanwhile(number)

    def fold(self, first: int, end: int) -> list[Operation]:
        """Fold the messages of the offsets [first, end); returns what its flush would do."""
        assert self.worker.fold is not None
        messages = [m for m in self.world.log.messages if first <= m.at_offset < end]
        consumed = columns(messages)
        self.worker.sequence += 1
        folded = self.worker.fold.fold(decode(consumed).frame, consumed.values, self.worker.sequence)
        return [] if folded is None else list(self.world.parts.flush([folded]))

    def land(self, operations: list[Operation], *steps: str) -> None:
        """Perform these steps of a flush; without steps all of them, and hear that they are done."""
        for operation in operations:
            if not steps or operation.step in steps:
                self.world.apply(operation)
        if not steps:
            assert self.worker.fold is not None
            self.worker.fold.acknowledge(self.worker.sequence, self.world.max_windows)

    def land_up_to(self, operations: list[Operation], last: str) -> None:
        """Perform the steps in their order, and die after `last`."""
        for operation in operations:
            self.world.apply(operation)
            if operation.step == last:
                return

    def land_windows(self, operations: list[Operation], period: Period) -> None:
        """Of the rows of windows only those of one period."""
        for operation in operations:
            if operation.step == "windows" and isinstance(operation, InsertRows):
                chosen = pc.equal(operation.rows["period_type"], STORED_NUMBER[period])
                self.world.apply(operation, np.array(chosen.to_pylist(), dtype=np.bool_))


def turns_red(history: Callable[[Variant], None], *names: str) -> None:
    """The same history with one rule broken must be noticed."""
    for name in names:
        with VARIANTS[name].active(), pytest.raises(AssertionError):
            history(VARIANTS[name])
