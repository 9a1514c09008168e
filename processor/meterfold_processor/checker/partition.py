"""One partition of `usage.windows` as the checker sees it: its subjects, its judge, its aggregates and its mark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from meterfold_processor.checker.aggregates import Aggregates
from meterfold_processor.checker.definitions import Affected, Definitions
from meterfold_processor.checker.judge import Judge
from meterfold_processor.checker.operations import CommittedStates, LoadWindows
from meterfold_processor.checker.records import Records, read_emitted, read_state
from meterfold_processor.checker.rows import Interest, rows_of
from meterfold_processor.checker.rules import CODES, WindowRules, mark_of
from meterfold_processor.checker.subjects import SubjectSlots
from meterfold_processor.kafka.clients import Outgoing
from meterfold_schemas.errors import Fatal, Poison
from meterfold_schemas.periods import Period
from meterfold_schemas.topics import Topics

__all__ = ["CheckPlan", "MessageGroup", "PartitionChecker"]

MessageGroup = tuple[Outgoing, ...]
"""Messages that belong into one transaction."""


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """What every partition is checked by. `interval` in seconds; `aggregated` are the periods of `usage.aggregated`."""

    topics: Topics
    rules: WindowRules
    aggregated: frozenset[Period]
    interval: float


class PartitionChecker:
    """State of one assigned partition; `offset` is the next to read of `usage.windows`."""

    def __init__(self, partition: int, offset: int, definitions: Definitions, plan: CheckPlan) -> None:
        self.partition = partition
        self.offset = offset
        self.mark = 0
        self._definitions = definitions
        self._plan = plan
        self._subjects = SubjectSlots()
        self._judge = Judge(definitions, self._subjects, plan.rules)
        self._aggregates = Aggregates(definitions, self._subjects, plan.rules, plan.aggregated, plan.interval)
        self._records = Records(plan.topics, partition)
        self._judged_periods: set[Period] = set()
        self._interest = self._find_interest()

    def restore(self, states: CommittedStates) -> None:
        """Take what is committed. Raises Fatal for a state that cannot be read: guessing would repeat events."""
        try:
            for value in states.states:
                target, judged = read_state(value)
                self._judge.restore(target, judged)
                self._judged_periods.add(target.window.period)
            for value in states.aggregates:
                emitted = read_emitted(value)
                self._aggregates.restore(emitted.window, emitted.revision, emitted.is_final, emitted.total)
        except Poison as error:
            raise Fatal(
                f"partition {self.partition} of {self._plan.topics.threshold_state} or "
                f"{self._plan.topics.usage_aggregated} contains a value that a checker did not write: {error}. "
                "Only checkers may write to these topics; find the other producer"
            ) from error

    def tell_time(self, wall: int, last_stamp: int | None) -> None:
        """Move the mark. It never steps back while the partition is assigned, even if a clock does."""
        self.mark = max(self.mark, mark_of(wall, last_stamp))

    def definitions_changed(self, affected: Affected) -> None:
        for org_id, metric_key in affected:
            self._judge.definitions_changed(org_id, metric_key)
        self._interest = self._find_interest()

    def stored(self, affected: Affected | None) -> LoadWindows:
        """The stored windows to judge now: those of changed metrics, or all that are open."""
        periods = self._plan.aggregated if affected is None else frozenset[Period]()
        watched = {threshold.period_type for threshold in self._definitions.watched()}
        return LoadWindows(
            self.partition,
            self.mark - self._plan.rules.open_for,
            frozenset(periods | watched | self._judged_periods),
            affected,
        )

    def take_stored(self, table: pa.Table, now: int) -> Iterable[MessageGroup]:
        """Judge stored windows; `now` in UTC microseconds."""
        rows = rows_of(table, self._subjects)
        self._aggregates.take(rows, self.mark)
        for judgement in self._judge.judge(rows, self.mark):
            self._judged_periods.add(judgement.target.window.period)
            yield tuple(self._records.judgement(judgement, now))

    def take(self, tables: Iterable[pa.Table], now: int) -> Iterable[MessageGroup]:
        """Judge published windows."""
        rows = rows_of(pa.concat_tables(tables), self._subjects, self._interest)
        if not len(rows):
            return
        self._aggregates.take(rows, self.mark)
        for judgement in self._judge.judge(rows, self.mark):
            self._judged_periods.add(judgement.target.window.period)
            yield tuple(self._records.judgement(judgement, now))

    def due(self, now: int, monotonic: float, budget: int) -> Iterable[MessageGroup]:
        """Aggregates that are due, at most `budget`; then tombstones of what is past remembering."""
        for aggregate in self._aggregates.due(monotonic, self.mark, budget):
            yield (self._records.aggregate(aggregate, now),)
        for target in self._judge.forget(self.mark):
            yield (self._records.forgotten_state(target),)
        for window in self._aggregates.forget(self.mark):
            yield (self._records.forgotten_window(window),)

    @property
    def waiting(self) -> int:
        """Windows with an aggregate that is yet to be emitted."""
        return self._aggregates.waiting

    @property
    def memory(self) -> int:
        """Bytes of the columns."""
        return self._judge.memory + self._aggregates.memory

    def _find_interest(self) -> Interest:
        metrics: dict[int, set[str]] = {}
        for threshold in self._definitions.watched():
            metrics.setdefault(CODES[threshold.period_type], set()).add(threshold.metric_key)
        whole = frozenset(CODES[period] for period in self._plan.aggregated)
        return Interest(whole, {code: frozenset(keys) for code, keys in metrics.items()})
