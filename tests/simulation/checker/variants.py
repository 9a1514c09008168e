"""Deliberately broken checkers: each does without one rule. A test that stays green with one guards nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from meterfold_processor.checker import judge, partition, plans, records
from meterfold_processor.checker import operations as ops
from meterfold_processor.checker.checker import Checker
from meterfold_processor.checker.definitions import DefinitionRecord, Definitions, DefinitionsRead
from meterfold_processor.checker.judged import Crossing, JudgedState, crossings
from meterfold_processor.checker.rules import WindowRules
from meterfold_schemas import ids
from meterfold_schemas.periods import HOUR
from meterfold_schemas.vocabulary import Level
from simulation.checker.worker import Variant, Worker


class Broken(Variant):
    """Base: `install` replaces a rule of the core for one test."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Nothing by default: the variant changes the operations."""


class PublishBeforeInsert(Broken):
    """19: the fold publishes rows while their insert is in flight. (The history reads this.)"""


class PositionPerSubject(Broken):
    """20: what was judged is remembered per threshold and subject, not per window."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        class PerSubject(judge.Judge):
            highest: dict[int, int]

            def judge(self, rows: Any, mark: int) -> Iterator[judge.Judgement]:
                highest = self.__dict__.setdefault("highest", {})
                kept = []
                keys = zip(rows.subjects.key.tolist(), rows.through.tolist(), strict=True)
                for row, (subject, through) in enumerate(keys):
                    if through >= highest.get(subject, -1):
                        highest[subject] = through
                        kept.append(row)
                yield from super().judge(rows.take(kept), mark)

        patch.setattr(partition, "Judge", PerSubject)


class PositionsInMemory(Broken):
    """21: the position of a judgement is not part of the stored state."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        restore = judge.Judge.restore
        before = -1

        def forgetful(self: judge.Judge, states: list[tuple[judge.Target, JudgedState]]) -> None:
            without = [(t, replace(s, positions=replace(s.positions, folded_through=before))) for t, s in states]
            restore(self, without)

        patch.setattr(judge.Judge, "restore", forgetful)


class StreamOnly(Broken):
    """22, 23: stored windows are not judged on assignment."""

    def perform(self, worker: Worker, operation: ops.Operation) -> Any:
        if isinstance(operation, ops.LoadWindows) and operation.affected is None:
            return ops.Piece(None, None)
        return worker.perform(operation)


class BelievesHoles(Broken):
    """Messages that the client has skipped are not missed."""

    def perform(self, worker: Worker, operation: ops.Operation) -> Any:
        answer = worker.perform(operation)
        if isinstance(operation, ops.PollRows):
            return {partition: replace(batch, first_offset=0) for partition, batch in answer.items()}
        return answer


class OnlyNewerRows(Broken):
    """24: a row that was judged is not judged again, whatever has become of the definitions."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        counts = judge.Judge._counts

        def strictly(self: judge.Judge, pane: Any, places: Any, through: Any) -> Any:
            return counts(self, pane, places, through - 1)

        patch.setattr(judge.Judge, "_counts", strictly)


class VersionsAsPositions(Broken):
    """24: the highest version that is there takes the place of the read position."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        def highest(self: Definitions) -> int:
            return max((threshold.version for threshold in self.watched()), default=-1) + 1

        patch.setattr(Definitions, "threshold_position", property(highest, lambda self, value: None), raising=False)


class ClosedAtTheEnd(Broken):
    """25: a window is judged only until its period ends."""

    def make(self, world: Any) -> Checker:
        return Checker(replace(world.plan, rules=WindowRules(0, world.plan.rules.grace)), world, sizes=world.sizes)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(WindowRules, "is_forgotten", lambda self, end, mark: end + 8 * 24 * HOUR < mark)


class WithoutOffsets(Broken):
    """26: a transaction that consumed nothing carries no offsets."""

    def perform(self, worker: Worker, operation: ops.Operation) -> Any:
        return None if isinstance(operation, ops.SendOffsets) else worker.perform(operation)


class CommittedEnds(Broken):
    """27: the end of the state is taken as a read_committed reader sees it."""

    def perform(self, worker: Worker, operation: ops.Operation) -> Any:
        answer = worker.perform(operation)
        if isinstance(operation, ops.FetchEnds):
            logs = worker.world.kafka.log
            stable = {p: logs(worker.topics.threshold_state, p).stable_end() for p in operation.partitions}
            return replace(answer, states=stable)
        return answer


class LateFlushEarlyEnds(Broken):
    """27: offsets go in while messages are still queued, and the ends are taken before the committed offsets."""

    def steps(self, steps: ops.Steps[None]) -> ops.Steps[None]:
        operation = next(steps)
        try:
            while True:
                answer = None
                if isinstance(operation, ops.FetchCommitted):
                    ends = yield ops.FetchEnds(operation.partitions)
                    steps_answer = yield operation
                    steps.send(steps_answer)
                    answer = ends
                elif isinstance(operation, ops.FlushMessages):
                    offsets = steps.send(None)
                    yield offsets
                    yield operation
                else:
                    answer = yield operation
                operation = steps.send(answer)
        except StopIteration:
            return


class KeepsMemoryAfterAbort(Broken):
    """28: what an aborted transaction has judged stays in memory."""

    def restored(self, worker: Worker) -> None:
        """Nothing is dropped."""


class OldDefinitions(Broken):
    """29: a new owner begins with definitions that are not read to their end, and compares windows only."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(
            judge,
            "follows",
            lambda before, now: before is None or now.folded_through >= before.positions.folded_through,
        )

    def perform(self, worker: Worker, operation: ops.Operation) -> Any:
        answer = worker.perform(operation)
        if isinstance(operation, ops.ReadDefinitions) and answer.threshold_position > 1:
            records = tuple(r for r in answer.records if r.kind == "metric" or r.offset < 1)
            return DefinitionsRead(records, answer.metric_position, 1)
        return answer


class ForgetsEarly(Broken):
    """30: state goes when the period ends, although its window can still be judged."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(WindowRules, "is_forgotten", lambda self, end, mark: end < mark)


class OneCounter(Broken):
    """31: one counter for both levels, and an alert id without the level."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        def counted(before: JudgedState | None, level: int) -> list[Crossing]:
            number = 1 if before is None else before.crossings[0] + (before.level == 0)
            return [replace(crossing, number=number) for crossing in crossings(before, level)]

        patch.setattr(judge, "crossings", counted)
        alert_id = records._alert_id
        patch.setattr(records, "_alert_id", lambda target, level, number: alert_id(target, Level.EXCEEDED, number))


class DeletionsElsewhere(Broken):
    """32: a deletion is an event on a topic of its own, which expires."""

    TOPIC = "threshold.deleted"

    def perform(self, worker: Worker, operation: ops.Operation) -> Any:
        answer = worker.perform(operation)
        if isinstance(operation, ops.PollDefinitions | ops.ReadDefinitions):
            deleted = worker.world.kafka.log(self.TOPIC).committed()[0]
            known = worker.checker.definitions.threshold
            fresh = [e for e in deleted if e.key is not None and known(e.key.decode()) is not None]
            if isinstance(operation, ops.ReadDefinitions):
                fresh = deleted
            gone = tuple(DefinitionRecord("threshold", e.key or b"", None, 0) for e in fresh)
            return replace(answer, records=(*answer.records, *gone))
        return answer


class OneEventId(Broken):
    """33: an alert and its end have one event id."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(ids, "alert_event_id", lambda alert_id, event_type: alert_id)


class NoReplacement(Broken):
    """34: a narrower threshold does not replace a wider one of the same name."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        from meterfold_processor.checker import definitions

        patch.setattr(definitions, "_narrowness", lambda threshold: 0)


class WideIsWithoutOrg(Broken):
    """A threshold of every organization judges only subjects that have none."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        from meterfold_processor.checker import definitions

        patch.setattr(definitions, "_scopes", lambda org_id: ("", None) if org_id == "" else (org_id,))


class OrgDoesNotReplace(Broken):
    """An organization's own threshold does not replace the one of every organization."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        from meterfold_processor.checker import definitions

        patch.setattr(definitions, "_narrowness", lambda threshold: threshold.narrowness[1:])


class OneTypePerThreshold(Broken):
    """A threshold of every organization judges all of them by the type of the one that was seen last."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        class OfTheLast(plans.Plans):
            def _keep(self, name: Any, watch: plans.WatchedThreshold) -> None:
                super()._keep(name, watch)
                for (threshold_id, _), number in self._names.items():
                    if threshold_id == watch.threshold_id:
                        self._watches[number] = watch
                        self._columns = None

        patch.setattr(judge, "Plans", OfTheLast)


class WideChangesNoOrg(Broken):
    """A change of a threshold of every organization judges only windows of subjects without one again."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        apply = Definitions._apply_threshold

        def narrowed(self: Definitions, record: DefinitionRecord) -> set[tuple[str | None, str]]:
            return {(org_id or "", key) for org_id, key in apply(self, record)}

        patch.setattr(Definitions, "_apply_threshold", narrowed)


class OnlyOwnSubjects(Broken):
    """34: a change judges the windows of the changed threshold's own subjects only when their next row comes."""

    def perform(self, worker: Worker, operation: ops.Operation) -> Any:
        if isinstance(operation, ops.LoadWindows) and operation.affected is not None:
            return ops.Piece(None, None)
        return worker.perform(operation)


class AggregatesFirst(Broken):
    """Aggregates are emitted before the stored windows are judged."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        judge_stored = Checker._judge_stored

        def late(self: Checker) -> ops.Steps[None]:
            yield from self._emit({})
            yield from judge_stored(self)

        patch.setattr(Checker, "_judge_stored", late)


class ForgetsTheRest(Broken):
    """After an abort, stored windows are read on behind the last key that was read, judged or not."""

    def __init__(self) -> None:
        self.behind: dict[tuple[int, int], Any] = {}

    def perform(self, worker: Worker, operation: ops.Operation) -> Any:
        if not isinstance(operation, ops.LoadWindows) or operation.start is not None:
            return worker.perform(operation)
        place = (worker.process, operation.partition)
        after = operation.after or self.behind.get(place)
        answer = worker.perform(replace(operation, after=after))
        if answer is not None:
            self.behind[place] = answer.last
        return answer


class EmitsBeforeReadingBack(Broken):
    """What was emitted before an assignment is not read back before more is emitted."""

    def perform(self, worker: Worker, operation: ops.Operation) -> Any:
        return None if isinstance(operation, ops.ReadEmitted) else worker.perform(operation)


class BelievesTheStream(Broken):
    """Rows that the stream holds in older versions than ClickHouse are judged."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        start = partition.PartitionChecker.start
        patch.setattr(partition.PartitionChecker, "start", lambda self, folded, until: start(self, 0, until))


History = Callable[[Any], None]
