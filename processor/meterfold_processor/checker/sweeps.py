"""Stored windows that are to be read, range by range of their key.

A sweep goes over the stored windows of one partition in the order of their key, a piece at a time, so that neither
ClickHouse nor the checker ever holds all of them, and rows that arrive meanwhile are judged between two pieces. Where a
step fails, everything is dropped, and the opening that follows begins again with a sweep over all of them.

    judge   all open windows after an assignment or a hole in the stream; those of changed metrics
    emit    open windows that may have something to say on usage.aggregated: after an assignment, where more windows
            waited than memory has room for, and those of a pane that has become final
    forget  the windows of a pane that is past remembering: those that were emitted need a tombstone
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Final

from meterfold_processor.checker.definitions import Affected
from meterfold_processor.checker.panes import Pane

__all__ = ["Purpose", "Sweep", "Sweeps", "WindowKey"]

WindowKey = tuple[int, int, str, str, str, str]
"""Period code, start (UTC microseconds), org_id, metric_key, subject_type, subject_id: the order in which windows are
stored."""

_NUMBERS: Final = count(1)


class Purpose(IntEnum):
    """The more urgent the smaller."""

    JUDGE = 0
    EMIT = 1
    FORGET = 2


@dataclass(slots=True, eq=False)
class Sweep:
    """`begun`: a piece was asked for; `after`: the last key that was read. `affected` None: every metric; `pane` None:
    every pane."""

    purpose: Purpose
    affected: Affected | None = None
    pane: Pane | None = None
    after: WindowKey | None = None
    begun: bool = False
    number: int = field(default_factory=lambda: next(_NUMBERS))


class Sweeps:
    """The sweeps of one partition that are not done."""

    def __init__(self) -> None:
        self._queues: dict[Purpose, deque[Sweep]] = {purpose: deque() for purpose in Purpose}

    def judge(self, affected: Affected | None) -> None:
        """Read windows of changed metrics, or (None) all, from their beginning, after what is being read now.

        Of those that have not begun one is enough.
        """
        queue = self._queues[Purpose.JUDGE]
        if queue and not queue[-1].begun:
            last = queue[-1]
            last.affected = None if affected is None or last.affected is None else last.affected | affected
        else:
            queue.append(Sweep(Purpose.JUDGE, affected))

    def emit(self, pane: Pane | None = None) -> None:
        queue = self._queues[Purpose.EMIT]
        if pane is None and any(sweep.pane is None and not sweep.begun for sweep in queue):
            return
        queue.append(Sweep(Purpose.EMIT, pane=pane))

    def forget(self, pane: Pane) -> None:
        queue = self._queues[Purpose.FORGET]
        if all(sweep.pane is not pane for sweep in queue):
            queue.append(Sweep(Purpose.FORGET, pane=pane))

    def next(self, *purposes: Purpose) -> Sweep | None:
        """The most urgent one for these purposes."""
        return next(self._pending(*purposes), None)

    def done(self, sweep: Sweep) -> None:
        self._queues[sweep.purpose].remove(sweep)

    def counted(self) -> dict[str, int]:
        """How many there are, by purpose."""
        return {purpose.name.lower(): len(queue) for purpose, queue in self._queues.items()}

    def _pending(self, *purposes: Purpose) -> Iterator[Sweep]:
        for purpose in sorted(purposes):
            yield from self._queues[purpose]
