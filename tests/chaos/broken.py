"""The deliberately broken variants of the simulations, put into real workers: each must be caught.

A variant of the fold replaces names in the modules of one process, or the order of the steps, or how a partition is
opened. A variant of the checker replaces rules of the core, or changes the operations on their way to the driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import pytest
from confluent_kafka import IsolationLevel, Producer

from chaos.broken_notifiers import NOTIFIERS
from meterfold_processor.checker import checker as checker_core
from meterfold_processor.checker import driver, transactions
from meterfold_processor.checker import operations as ops
from meterfold_processor.checker.operations import drive_all
from meterfold_processor.checker.rules import WindowRules
from meterfold_processor.checker.worker import CheckerWorker
from meterfold_processor.fold import flusher, opening
from meterfold_processor.fold.partition import PartitionFold
from meterfold_processor.fold.rules import Rules
from meterfold_processor.kafka.offsets import at
from simulation.checker import variants as checkers
from simulation.fold.variants import VARIANTS as FOLDS
from simulation.fold.variants import ShortRules, open_at_commit, open_at_minimum, open_identities_first
from simulation.fold.world import Parts


class ClosedAtTheEnd(checkers.ClosedAtTheEnd):
    """25, of a checker whose rules are the stored ones."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        super().install(patch)
        patch.setattr(WindowRules, "is_open", lambda self, end, mark: end > mark)


class WithoutOffsets(checkers.Broken):
    """26, where only transactions that consumed nothing do without: what a group has done shows in its offsets."""

    _last: Mapping[int, int] | None = None

    def perform(self, worker: Any, operation: ops.Operation) -> Any:
        if isinstance(operation, ops.SendOffsets):
            if operation.offsets == self._last:
                return None
            self._last = operation.offsets
        return worker.perform(operation)


class CommittedEnds(checkers.Broken):
    """27, of a checker that asks a real broker."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        committed = SimpleNamespace(READ_UNCOMMITTED=IsolationLevel.READ_COMMITTED)
        patch.setattr(driver, "IsolationLevel", committed)


class LateFlushEarlyEnds(checkers.LateFlushEarlyEnds):
    """27, of a producer that has not sent by itself what is to be flushed, and a reader that takes no more than it
    was told to."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        read_states = driver.Driver._read_states

        def exactly(
            self: driver.Driver, partitions: tuple[int, ...], ends: Mapping[int, int]
        ) -> dict[int, tuple[bytes, ...]]:
            read = self._states.read

            def up_to(wanted: Any, pump: Any) -> Any:
                found = read(wanted, pump)
                return {place: [m for m in found[place] if (m.offset() or 0) < end] for place, end in wanted.items()}

            with mock.patch.object(self._states, "read", up_to):
                return read_states(self, partitions, ends)

        patch.setattr(driver.Driver, "_read_states", exactly)
        patch.setattr(transactions, "Producer", lambda settings: Producer({**settings, "linger.ms": 5_000}))


class DeletionsExpired(checkers.Broken):
    """32, of a checker that begins after the topic of deletions has expired: those before it are unknown."""

    def perform(self, worker: Any, operation: ops.Operation) -> Any:
        answer = worker.perform(operation)
        if isinstance(operation, ops.ReadDefinitions):
            return replace(answer, records=tuple(record for record in answer.records if record.value is not None))
        return answer


CHECKERS: Final[dict[str, type[checkers.Broken]]] = {
    "20_position_per_subject": checkers.PositionPerSubject,
    "21_positions_in_memory": checkers.PositionsInMemory,
    "22_stream_only": checkers.StreamOnly,
    "24_only_newer_rows": checkers.OnlyNewerRows,
    "24_versions_as_positions": checkers.VersionsAsPositions,
    "25_closed_at_the_end": ClosedAtTheEnd,
    "26_without_offsets": WithoutOffsets,
    "27_believes_holes": checkers.BelievesHoles,
    "27_committed_ends": CommittedEnds,
    "27_late_flush_early_ends": LateFlushEarlyEnds,
    "28_keeps_memory_after_abort": checkers.KeepsMemoryAfterAbort,
    "29_old_definitions": checkers.OldDefinitions,
    "30_forgets_early": checkers.ForgetsEarly,
    "31_one_counter": checkers.OneCounter,
    "32_deletions_elsewhere": DeletionsExpired,
    "33_one_event_id": checkers.OneEventId,
    "34_no_replacement": checkers.NoReplacement,
    "34_only_own_subjects": checkers.OnlyOwnSubjects,
    "34_org_does_not_replace": checkers.OrgDoesNotReplace,
    "34_wide_changes_no_org": checkers.WideChangesNoOrg,
    "34_wide_is_without_org": checkers.WideIsWithoutOrg,
}

SIMULATED: Final = frozenset(name for name in FOLDS if name.startswith(("40_", "41_")))
"""Variants of what the fold remembers: they show where tables are tiny and weeks pass, which only a simulation has."""

NAMES: Final = (*(name for name in FOLDS if name not in SIMULATED), *CHECKERS, *NOTIFIERS)


@contextmanager
def fold(name: str | None) -> Iterator[None]:
    """The rule that the variant breaks is broken in this process, if it is one of the fold."""
    variant = FOLDS.get(name or "")
    if variant is None:
        yield
        return
    usual = Parts()
    with variant.active(), ExitStack() as patches:
        if name == "05_lookback_of_the_horizon":
            patches.enter_context(mock.patch.object(Rules, "lookback", ShortRules.lookback))
        if variant.parts.flush is not usual.flush:
            patches.enter_context(mock.patch.object(flusher, "flush", variant.parts.flush))
        if variant.parts.fold is not usual.fold:
            patches.enter_context(mock.patch.object(opening, "PartitionFold", variant.parts.fold))
        if variant.parts.open is not None:
            patches.enter_context(mock.patch.object(opening.Opening, "open", _OPENINGS[variant.parts.open]))
        yield


_open: Final = opening.Opening.open


def _at_commit(self: opening.Opening, partition: int, consumer: Any) -> PartitionFold:
    """11: the group's offset decides where to start."""
    return _beginning(self, partition, consumer, lambda committed, _: committed)


def _at_minimum(self: opening.Opening, partition: int, consumer: Any) -> PartitionFold:
    """11: the smaller of both offsets, with the counters of the progress row."""
    return _beginning(self, partition, consumer, min)


def _beginning(
    self: opening.Opening, partition: int, consumer: Any, choose: Callable[[int, int], int]
) -> PartitionFold:
    made = _open(self, partition, consumer)
    place = consumer.committed([at(self._topic, partition)], 10)[0]
    committed = max(place.offset, made.progress.log_start)
    made.progress = replace(made.progress, next_offset=choose(committed, made.progress.next_offset))
    return made


def _identities_first(self: opening.Opening, partition: int, consumer: Any) -> PartitionFold:
    """15: the state, and only then the progress row."""
    made = _open(self, partition, consumer)
    while made.recall.step():
        pass
    time.sleep(1.0)  # as long as loading takes where there is much to load
    made.progress = self._read_progress(partition) or made.progress
    return made


_OPENINGS: Final = {
    open_at_commit: _at_commit,
    open_at_minimum: _at_minimum,
    open_identities_first: _identities_first,
}


@contextmanager
def checker(name: str | None, drive: Any) -> Iterator[Any]:
    """The same for a checker; the drive to use."""
    if name not in CHECKERS:
        yield drive
        return
    variant = CHECKERS[name]()
    patch = pytest.MonkeyPatch()
    try:
        variant.install(patch)
        if isinstance(variant, checkers.KeepsMemoryAfterAbort):
            _keep_memory(patch)
        yield lambda steps, perform: _drive(variant, drive, steps, perform)
    finally:
        patch.undo()


class _Perform:
    """What a variant of the simulation sees of a worker."""

    def __init__(self, perform: Callable[[ops.Operation], Any]) -> None:
        self.perform = perform


def _drive(variant: checkers.Broken, drive: Any, steps: Any, perform: Callable[[ops.Operation], Any]) -> Any:
    changed: Any = variant.steps(steps)
    worker: Any = _Perform(perform)
    return drive(changed, lambda operation: variant.perform(worker, operation))


def _keep_memory(patch: pytest.MonkeyPatch) -> None:
    """28: what a failed step has judged stays; only partitions that are lost are dropped."""
    drop = checker_core.Checker.drop
    again = CheckerWorker._start_again

    def keep(self: Any, partitions: Any = None) -> None:
        if partitions is not None:
            drop(self, partitions)

    def without_opening(self: Any, error: Any) -> None:
        self._group.start_again, kept = lambda: None, self._group.start_again
        try:
            again(self, error)
        finally:
            self._group.start_again = kept

    patch.setattr(checker_core.Checker, "drop", keep)
    patch.setattr(CheckerWorker, "_start_again", without_opening)


__all__ = ["CHECKERS", "NAMES", "NOTIFIERS", "SIMULATED", "checker", "drive_all", "fold"]
