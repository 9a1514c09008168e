"""Judges the windows of one partition.

Columns decide which rows can change anything: a row below what was judged is dropped, and a row whose levels are the
ones already judged only moves `folded_through`. Python looks at a single window only where a level changes, or where
the thresholds of a judged window have changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meterfold_processor.checker.definitions import Definitions
from meterfold_processor.checker.index import Window, WindowIndex, grown
from meterfold_processor.checker.judged import (
    Crossing,
    JudgedState,
    ReadPositions,
    Terms,
    crossings,
    follows,
    judge_again,
    level_of,
)
from meterfold_processor.checker.plans import NO_PLAN, UNKNOWN, Plans, WatchedThreshold
from meterfold_processor.checker.rows import WindowColumns, newest
from meterfold_processor.checker.rules import CODES, WindowRules
from meterfold_processor.checker.subjects import Subject, SubjectSlots
from meterfold_processor.checker.values import TYPES
from meterfold_schemas.quantities import exact_unscaled
from meterfold_schemas.totals import WindowValues, total_of

__all__ = ["Judge", "Judgement", "Target"]

Int64s = npt.NDArray[np.int64]

_NOTHING = -1


@dataclass(frozen=True, slots=True)
class Target:
    """One threshold in one window of one subject."""

    threshold_id: str
    window: Window


@dataclass(frozen=True, slots=True)
class Judgement:
    """A change of level: the new state and its events, which belong into one transaction."""

    target: Target
    state: JudgedState
    events: tuple[Crossing, ...]


class Judge:
    """The judged state of one partition, in memory."""

    def __init__(self, definitions: Definitions, subjects: SubjectSlots, rules: WindowRules) -> None:
        self._definitions = definitions
        self._subjects = subjects
        self._rules = rules
        self._plans = Plans(definitions, subjects)
        self._index = WindowIndex()
        self._states: dict[int, dict[str, JudgedState]] = {}
        self._through = np.empty(0, np.int64)
        self._code = np.empty(0, np.int64)
        self._plan = np.empty(0, np.int32)
        self._has_state = np.empty(0, np.bool_)

    def restore(self, target: Target, state: JudgedState) -> None:
        """Take a state from `threshold.state`. Its window is judged again when a row of it arrives."""
        window = target.window
        row = self._index.locate_one(self._subjects.slot(window.subject), CODES[window.period], window.start)
        self._grow()
        self._states.setdefault(row, {})[target.threshold_id] = state
        self._has_state[row] = True
        self._code[row] = UNKNOWN
        self._through[row] = max(int(self._through[row]), state.positions.folded_through)

    def definitions_changed(self, org_id: str | None, metric_key: str) -> None:
        """The thresholds of this metric's subjects may have changed; judge their stored windows next."""
        self._plans.forget(org_id, metric_key)

    def judge(self, rows: WindowColumns, mark: int) -> Iterator[Judgement]:
        """Judge each window by its newest row. Consume the whole answer: memory follows it."""
        plans = self._plans.of_rows(rows.slots, rows.periods)
        places = self._index.locate(rows.slots, rows.periods, rows.starts, create=plans != NO_PLAN)
        self._grow()
        kept = np.flatnonzero(places >= 0)
        kept = kept[self._counts(places[kept], rows.through[kept], mark)]
        kept = kept[newest(places[kept], rows.through[kept])]
        rows, plans, places = rows.take(kept), plans[kept], places[kept]
        codes = self._plans.codes(rows, plans, self._index.end[places])
        new_plan = self._has_state[places] & (plans != self._plan[places])
        changed = np.flatnonzero((codes == UNKNOWN) | (codes != self._code[places]) | new_plan)
        self._through[places] = rows.through
        self._plan[places] = plans
        self._code[places] = codes
        for at in changed.tolist():
            yield from self._judge_window(int(places[at]), int(plans[at]), rows, at)

    def forget(self, mark: int) -> Iterator[Target]:
        """Drop the windows that are no longer kept; returns those whose state needs a tombstone."""
        for pane in [pane for pane in self._index.panes() if self._rules.is_forgotten(pane.end, mark)]:
            dropped = self._index.drop(pane)
            for row in dropped.tolist():
                subject = self._subjects[int(self._index.slot[row])]
                for threshold_id in self._states.pop(row, ()):
                    yield Target(threshold_id, Window(subject, pane.period, pane.start, pane.end))
            self._through[dropped] = _NOTHING
            self._code[dropped] = 0
            self._plan[dropped] = NO_PLAN
            self._has_state[dropped] = False

    @property
    def memory(self) -> int:
        """Bytes of the columns; every window that ever crossed a level holds about 1 KB beside them."""
        own = (self._through, self._code, self._plan, self._has_state)
        return self._index.memory + sum(column.nbytes for column in own) + 1000 * len(self._states)

    def _counts(self, places: Int64s, through: Int64s, mark: int) -> Int64s:
        """Only what is not below the judged state, in windows that are open."""
        not_below = through >= self._through[places]
        return np.flatnonzero(not_below & self._rules.is_open(self._index.end[places], mark))

    def _judge_window(self, row: int, plan: int, rows: WindowColumns, at: int) -> Iterator[Judgement]:
        pane = self._index.window(row)
        subject = self._subjects[int(self._index.slot[row])]
        positions = ReadPositions(
            int(rows.through[at]), self._definitions.metric_position, self._definitions.threshold_position
        )
        values = rows.values(at)
        watches = {watch.threshold_id: watch for watch in self._plans.watches(plan) if pane.end > watch.since}
        states = self._states.get(row, {})
        for threshold_id in sorted(watches.keys() | states.keys()):
            before = states.get(threshold_id)
            if not follows(before, positions):
                # Someone judged with newer definitions than these: look again at the next row.
                self._code[row] = UNKNOWN
                continue
            level, value, terms = self._look(threshold_id, watches.get(threshold_id), before, subject, values)
            if level == (0 if before is None else before.level):
                continue
            state = judge_again(before, level, positions, value, terms)
            self._states.setdefault(row, {})[threshold_id] = state
            self._has_state[row] = True
            target = Target(threshold_id, Window(subject, pane.period, pane.start, pane.end))
            yield Judgement(target, state, tuple(crossings(before, level)))

    def _look(
        self,
        threshold_id: str,
        watch: WatchedThreshold | None,
        before: JudgedState | None,
        subject: Subject,
        values: WindowValues,
    ) -> tuple[int, int, Terms]:
        """Level, value and terms. A threshold that does not apply any more finds level none."""
        if watch is not None:
            value = total_of(TYPES[watch.type_code], values)
            return level_of(value, watch.terms), value, watch.terms
        assert before is not None
        kind = self._definitions.aggregation_type(subject[0], subject[1])
        value = before.value if kind is None else total_of(kind, values)
        defined = self._definitions.threshold(threshold_id)
        if defined is None:
            return 0, value, before.terms
        limit, warn = exact_unscaled(defined.threshold), exact_unscaled(defined.warn_threshold)
        return 0, value, Terms(defined.name, limit, warn, defined.action)

    def _grow(self) -> None:
        size = self._index.size
        self._through = grown(self._through, size, _NOTHING)
        self._code = grown(self._code, size, 0)
        self._plan = grown(self._plan, size, NO_PLAN)
        self._has_state = grown(self._has_state, size, 0)
