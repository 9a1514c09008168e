"""Judges the windows of one partition.

Columns decide which rows can change anything: a row below what was judged is dropped, and a row whose levels are the
ones already judged only moves `folded_through`. Python looks at a single window only where a level changes, or where
the thresholds of a judged window have changed. Only windows that ever crossed a level have a state and a name here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meterfold_processor.checker.definitions import Definitions
from meterfold_processor.checker.hashing import hashes_of_subjects
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
from meterfold_processor.checker.panes import NOTHING, Int64s, Pane, Panes, Subject, Window, grown
from meterfold_processor.checker.plans import NO_PLAN, UNKNOWN, Plans, WatchedThreshold
from meterfold_processor.checker.rows import WindowColumns, newest
from meterfold_processor.checker.rules import CODES, WindowRules
from meterfold_processor.checker.values import TYPES
from meterfold_schemas.quantities import exact_unscaled
from meterfold_schemas.totals import WindowValues, total_of

__all__ = ["Judge", "Judgement", "Target"]

_STATE_BYTES = 1000
"""Of a window that ever crossed a level, about."""


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


class _States:
    """The states of windows that ever crossed a level; `code` and `plan` of the last judgement of each."""

    def __init__(self) -> None:
        self.of: list[dict[str, JudgedState]] = []
        self.windows: list[Window | None] = []
        self.code = np.empty(0, np.int64)
        self.plan = np.empty(0, np.int32)
        self._free: list[int] = []

    def add(self, window: Window) -> int:
        """The place of a new one, of unknown levels."""
        if self._free:
            place = self._free.pop()
            self.of[place], self.windows[place] = {}, window
        else:
            place = len(self.of)
            self.of.append({})
            self.windows.append(window)
            self.code, self.plan = grown(self.code, place + 1, UNKNOWN), grown(self.plan, place + 1, NO_PLAN)
        self.code[place], self.plan[place] = UNKNOWN, NO_PLAN
        return place

    def drop(self, place: int) -> Iterator[Target]:
        window = self.windows[place]
        assert window is not None
        for threshold_id in self.of[place]:
            yield Target(threshold_id, window)
        self.of[place], self.windows[place] = {}, None
        self._free.append(place)

    def __len__(self) -> int:
        return len(self.of) - len(self._free)


class Judge:
    """The judged state of one partition, in memory."""

    def __init__(self, definitions: Definitions, panes: Panes, rules: WindowRules) -> None:
        self._definitions = definitions
        self._panes = panes
        self._rules = rules
        self._plans = Plans(definitions)
        self._states = _States()

    def restore(self, states: Iterable[tuple[Target, JudgedState]]) -> None:
        """Take states from `threshold.state`. A window is judged again when a row of it arrives."""
        states = list(states)
        hashes = hashes_of_subjects(target.window.subject for target, _ in states)
        for at, (target, state) in enumerate(states):
            window = target.window
            pane = self._panes.pane(CODES[window.period], window.start)
            one = np.array([at])
            row = int(pane.locate(hashes.take(one), np.ones(1, np.bool_))[0])
            self._states.of[self._place(pane, row, window.subject)][target.threshold_id] = state
            through = pane.columns["through"]
            through[row] = max(int(through[row]), state.positions.folded_through)

    def definitions_changed(self) -> None:
        """Thresholds may have changed; judge the stored windows of the affected metrics next."""
        self._plans.forget()

    def judge(self, rows: WindowColumns, mark: int) -> Iterator[Judgement]:
        """Judge each window by its newest row. Consume the whole answer: memory follows it."""
        plans = self._plans.of_rows(rows)
        for code, start, at in self._panes.groups(rows.periods, rows.starts):
            watched = plans[at] != NO_PLAN
            pane = self._panes.pane(code, start) if watched.any() else self._panes.find(code, start)
            if pane is None or not self._rules.is_open(pane.end, mark):
                continue
            places = pane.locate(rows.subjects.take(at), watched)
            kept = np.flatnonzero(places >= 0)
            kept = kept[self._counts(pane, places[kept], rows.through[at[kept]])]
            kept = kept[newest(places[kept], rows.through[at[kept]])]
            if len(kept):
                yield from self._judge_pane(pane, places[kept], rows.take(at[kept]), plans[at[kept]])

    def forget(self, pane: Pane) -> Iterator[Target]:
        """Drop the states of a pane; returns those that need a tombstone."""
        states = pane.columns["state"][: pane.size]
        for row in np.flatnonzero(states >= 0).tolist():
            yield from self._states.drop(int(states[row]))
        states[:] = NOTHING

    @property
    def memory(self) -> int:
        """Bytes beside the panes: about 1 KB for every window that ever crossed a level."""
        return _STATE_BYTES * len(self._states)

    def _counts(self, pane: Pane, places: Int64s, through: Int64s) -> Int64s:
        """Only what is not below the judged state."""
        return np.flatnonzero(through >= pane.columns["through"][places])

    def _judge_pane(
        self, pane: Pane, places: Int64s, rows: WindowColumns, plans: npt.NDArray[np.int32]
    ) -> Iterator[Judgement]:
        codes = self._plans.codes(rows, plans, pane.end)
        states = pane.columns["state"][places]
        pane.columns["through"][places] = rows.through
        changed = codes != 0
        judged = np.flatnonzero(states >= 0)
        if len(judged):
            own = states[judged]
            known, plan = self._states.code[own], self._states.plan[own]
            changed[judged] = (codes[judged] == UNKNOWN) | (codes[judged] != known) | (plans[judged] != plan)
            self._states.code[own], self._states.plan[own] = codes[judged], plans[judged]
        for at in np.flatnonzero(changed).tolist():
            yield from self._judge_window(pane, int(places[at]), int(plans[at]), int(codes[at]), rows, at)

    def _judge_window(
        self, pane: Pane, row: int, plan: int, code: int, rows: WindowColumns, at: int
    ) -> Iterator[Judgement]:
        subject = rows.name(at)
        positions = ReadPositions(
            int(rows.through[at]), self._definitions.metric_position, self._definitions.threshold_position
        )
        values = rows.values(at)
        watches = {watch.threshold_id: watch for watch in self._plans.watches(plan) if pane.end > watch.since}
        place = int(pane.columns["state"][row])
        states = self._states.of[place] if place >= 0 else {}
        for threshold_id in sorted(watches.keys() | states.keys()):
            before = states.get(threshold_id)
            if not follows(before, positions):
                # Someone judged with newer definitions than these: look again at the next row.
                self._states.code[place] = UNKNOWN
                continue
            level, value, terms = self._look(threshold_id, watches.get(threshold_id), before, subject, values)
            if level == (0 if before is None else before.level):
                continue
            if place < 0:
                place = self._place(pane, row, subject)
                self._states.code[place], self._states.plan[place] = code, plan
                states = self._states.of[place]
            state = states[threshold_id] = judge_again(before, level, positions, value, terms)
            target = Target(threshold_id, Window(subject, pane.period, pane.start, pane.end))
            yield Judgement(target, state, tuple(crossings(before, level)))

    def _place(self, pane: Pane, row: int, subject: Subject) -> int:
        """The place of a window's states, made if it has none."""
        place = int(pane.columns["state"][row])
        if place < 0:
            place = self._states.add(Window(subject, pane.period, pane.start, pane.end))
            pane.columns["state"][row] = place
        return place

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
