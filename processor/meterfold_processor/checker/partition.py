"""One partition of `usage.windows` as the checker sees it: its windows, its judge, its aggregates and its mark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from meterfold_processor.checker.aggregates import AggregateColumns, Aggregates
from meterfold_processor.checker.definitions import Affected, Definitions
from meterfold_processor.checker.emitted import pane_of_key, read_emitted
from meterfold_processor.checker.judge import Judge
from meterfold_processor.checker.operations import LoadWindows
from meterfold_processor.checker.panes import Pane, Panes
from meterfold_processor.checker.records import Records, read_state
from meterfold_processor.checker.rows import Interest, WindowColumns, rows_of
from meterfold_processor.checker.rules import CODES, WindowRules, end_of, mark_of
from meterfold_processor.checker.sweeps import Purpose, Sweep, Sweeps
from meterfold_processor.checker.traces import NO_TRACES, Traces
from meterfold_processor.checker.waiting import Room
from meterfold_processor.kafka.clients import Outgoing, OutgoingRun
from meterfold_schemas import ids
from meterfold_schemas.errors import Fatal, Poison
from meterfold_schemas.periods import Period
from meterfold_schemas.topics import Topics

__all__ = ["CheckPlan", "MessageGroup", "PartitionChecker"]

MessageGroup = tuple[Outgoing, ...]
"""Messages that belong into one transaction."""

_LONG_AGO = -(2**62)


def _every_metric(_metric_key: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """What every partition is checked by. `aggregated` are the periods of `usage.aggregated`, and `is_aggregated` says
    whether it has a metric; `interval` in seconds; `per_second` events at most, by all partitions together."""

    topics: Topics
    rules: WindowRules
    aggregated: frozenset[Period]
    interval: float
    is_aggregated: Callable[[str], bool] = _every_metric
    per_second: float = float("inf")


class PartitionChecker:
    """State of one assigned partition; `offset` is the next to read of `usage.windows`.

    `emitted_until` is the end of its `usage.aggregated` at the assignment: what was emitted is read up to there.
    """

    def __init__(self, partition: int, offset: int, definitions: Definitions, plan: CheckPlan, room: Room) -> None:
        self.partition = partition
        self.offset = offset
        self.emitted_until = 0
        self.mark = 0
        self.sweeps = Sweeps()
        self._definitions = definitions
        self._plan = plan
        self._panes = Panes(frozenset(CODES[period] for period in plan.aggregated))
        self._judge = Judge(definitions, self._panes, plan.rules)
        self._aggregates = Aggregates(
            definitions, self._panes, plan.rules, plan.aggregated, plan.is_aggregated, plan.interval, room
        )
        self._records = Records(plan.topics, partition)
        self._judged_periods: set[Period] = set()
        self._since = 0
        self._forgotten: dict[bytes, None] = {}
        self._gone: list[Pane] = []
        self._interest = self._find_interest()

    def restore(self, states: Iterable[bytes]) -> None:
        """Take what was judged. Raises Fatal for a state that cannot be read: guessing would repeat events."""
        try:
            found = [read_state(value) for value in states]
        except Poison as error:
            raise self._foreign(self._plan.topics.threshold_state, error) from error
        self._judge.restore(found)
        self._judged_periods.update(target.window.period for target, _ in found)

    def start(self, folded: int, emitted_until: int) -> None:
        """Judge every open stored window; `folded`: rows of all windows below this offset are stored.

        Rows that the stream still holds below it are older than the stored ones, or equal: they are left out.
        """
        self._since = folded
        self.emitted_until = emitted_until
        self.sweeps.judge(None)

    def judge_all(self) -> None:
        """Judge every open stored window, and see what of them is to be emitted: rows of the stream are missing."""
        self.sweeps.judge(None)
        if self.is_restored and self._plan.aggregated:
            self.sweeps.emit()

    def tell_time(self, wall: int, last_stamp: int | None) -> None:
        """Move the mark. It never steps back while the partition is assigned, even if a clock does."""
        self.mark = max(self.mark, mark_of(wall, last_stamp))

    def definitions_changed(self, affected: Affected) -> None:
        """Judge the stored windows of changed metrics."""
        self._judge.definitions_changed()
        self._interest = self._find_interest()
        self.sweeps.judge(affected)

    def wanted(self, sweep: Sweep, rows: int) -> LoadWindows:
        """The next piece of a sweep."""
        sweep.begun = True
        if sweep.pane is not None:
            periods = frozenset({sweep.pane.period})
        elif sweep.purpose is Purpose.JUDGE:
            watched = {threshold.period_type for threshold in self._definitions.watched()}
            periods = frozenset(watched | self._judged_periods)
        else:
            periods = self._plan.aggregated
        return LoadWindows(
            partition=self.partition,
            sweep=sweep.number,
            ends_after=_LONG_AGO if sweep.purpose is Purpose.FORGET else self.mark - self._plan.rules.open_for,
            periods=periods,
            start=None if sweep.pane is None else sweep.pane.start,
            affected=sweep.affected,
            after=sweep.after,
            rows=rows,
        )

    def judge(self, rows: WindowColumns, now: int, traces: Traces = NO_TRACES) -> Iterator[MessageGroup]:
        """Judge windows; `now` in UTC microseconds."""
        for judgement in self._judge.judge(rows, self.mark):
            self._judged_periods.add(judgement.target.window.period)
            trace = traces.of(judgement.state.positions.folded_through)
            yield tuple(self._records.judgement(judgement, now, trace))

    def take_stored(self, table: pa.Table, now: int) -> Iterator[MessageGroup]:
        """Judge stored windows."""
        yield from self.judge(rows_of(table), now)

    def take(self, tables: Iterable[pa.Table], now: int, traces: Traces = NO_TRACES) -> Iterator[MessageGroup]:
        """Judge published windows."""
        rows = rows_of(pa.concat_tables(tables), self._interest, since=self._since)
        if len(rows):
            self._aggregates.take(rows, self.mark)
            yield from self.judge(rows, now, traces)

    def emit_stored(self, table: pa.Table) -> None:
        """Stored windows that may have something to say."""
        self._aggregates.take(rows_of(table), self.mark)

    def restore_emitted(self, messages: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Take what was emitted. Raises Fatal for an event that cannot be read."""
        kept = []
        try:
            for key, value in messages:
                if value is None:
                    self._forgotten.pop(key, None)
                elif self._is_forgotten(key):
                    self._forgotten[key] = None
                else:
                    kept.append(value)
            found = read_emitted(kept)
        except Poison as error:
            raise self._foreign(self._plan.topics.usage_aggregated, error) from error
        if found is not None:
            self._aggregates.restore(found)

    def restored(self) -> Iterator[MessageGroup]:
        """All that was emitted is known: tombstones of windows that are past remembering, and a look at every open
        stored window."""
        self._aggregates.restored = True
        if self._plan.aggregated:
            self.sweeps.emit()
            list(self._aggregates.newly_final(self.mark))  # among them
        for key in self._forgotten:
            yield (self._records.forgotten_window(key),)
        self._forgotten = {}

    def due(self, monotonic: float, most: int) -> AggregateColumns | None:
        """Aggregates that are due now."""
        return self._aggregates.due(monotonic, self.mark, most)

    def run(self, events: AggregateColumns, now: int) -> OutgoingRun:
        return self._records.aggregates(events, now)

    def time_passed(self) -> Iterator[MessageGroup]:
        """Sweeps for what has become final, was missed or is past remembering; tombstones of judged states that are."""
        if self.is_restored:
            for pane in self._aggregates.newly_final(self.mark):
                self.sweeps.emit(pane)
            if self._aggregates.missed:
                self._aggregates.missed = False
                self.sweeps.emit()
        for pane in self._gone:
            self._panes.drop(pane)
        self._gone = []
        for pane in [pane for pane in self._panes if self._plan.rules.is_forgotten(pane.end, self.mark)]:
            for target in self._judge.forget(pane):
                yield (self._records.forgotten_state(target),)
            if not pane.aggregated:
                self._panes.drop(pane)
            elif self.is_restored:
                self.sweeps.forget(pane)

    def forget_stored(self, pane: Pane, table: pa.Table) -> Iterator[MessageGroup]:
        """Tombstones of emitted windows of a pane that is past remembering."""
        rows = self._aggregates.emitted(rows_of(table), pane)
        for at in range(len(rows)):
            key = ids.window_key(*rows.name(at), pane.period, pane.start)
            yield (self._records.forgotten_window(key),)

    def swept(self, sweep: Sweep) -> None:
        """The last piece of a sweep was read."""
        self.sweeps.done(sweep)
        if sweep.purpose is Purpose.FORGET and sweep.pane is not None:
            self._gone.append(sweep.pane)

    def close(self) -> None:
        self._aggregates.close()

    @property
    def is_restored(self) -> bool:
        """Whether all that was emitted is known."""
        return self._aggregates.restored

    @property
    def is_ready(self) -> bool:
        """Whether an aggregate is due."""
        return self._aggregates.is_ready

    @property
    def waiting(self) -> int:
        """Windows in memory with an aggregate that is yet to be emitted."""
        return self._aggregates.waiting

    @property
    def windows(self) -> int:
        return self._panes.windows

    @property
    def memory(self) -> int:
        """Bytes."""
        return self._panes.memory + self._judge.memory + self._aggregates.memory

    def _is_forgotten(self, key: bytes) -> bool:
        return bool(self._plan.rules.is_forgotten(end_of(*pane_of_key(key)), self.mark))

    def _foreign(self, topic: str, error: Poison) -> Fatal:
        return Fatal(
            f"partition {self.partition} of {topic} contains a value that a checker did not write: {error}. "
            "Only checkers may write to this topic; find the other producer"
        )

    def _find_interest(self) -> Interest:
        metrics: dict[int, set[str]] = {}
        for threshold in self._definitions.watched():
            metrics.setdefault(CODES[threshold.period_type], set()).add(threshold.metric_key)
        whole = frozenset(CODES[period] for period in self._plan.aggregated)
        return Interest(whole, {code: frozenset(keys) for code, keys in metrics.items()})
