"""Judges the open stored windows of one partition again, by the checker's own judge, against threshold.state.

The judge starts from the states of the log. A window whose level is the one that was judged yields nothing; every
judgement that it yields is a difference. The same holds for a threshold that does not apply any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from meterfold_processor.checker.definitions import Definitions
from meterfold_processor.checker.hashing import hashes_of_subjects
from meterfold_processor.checker.judge import Judge, Target
from meterfold_processor.checker.judged import LEVELS, JudgedState
from meterfold_processor.checker.panes import Panes, Subject, Window
from meterfold_processor.checker.records import read_state
from meterfold_processor.checker.rows import WindowColumns, rows_of
from meterfold_processor.checker.rules import CODES, WindowRules
from meterfold_processor.verify.report import Finding, WindowName
from meterfold_schemas.errors import Poison, UnknownSchema
from meterfold_schemas.periods import from_micros
from meterfold_schemas.quantities import to_decimal

__all__ = ["Compared", "States", "compare", "name_of", "read_states"]

_NOTHING: Final = "no state"

_Open = dict[tuple[Subject, int, int], list[Target]]


@dataclass(frozen=True, slots=True)
class States:
    """The newest state of each target of one partition."""

    by_target: Mapping[Target, JudgedState]
    unreadable: tuple[Finding, ...]


@dataclass(slots=True)
class Compared:
    """`findings` hold for sure; `in_flight` are of windows that were written after the checker's position was read."""

    windows: int = 0
    findings: list[Finding] = field(default_factory=list)
    in_flight: list[Finding] = field(default_factory=list)


def read_states(topic: str, partition: int, newest: Mapping[bytes, bytes | None]) -> States:
    """`newest`: the last value under each key, None for a tombstone."""
    states, unreadable = {}, []
    for key, value in newest.items():
        if value is None:
            continue
        try:
            target, judged = read_state(value)
        except (Poison, UnknownSchema) as error:
            unreadable.append(
                Finding(
                    check="states",
                    place=topic,
                    partition=partition,
                    name=key.decode("utf-8", "replace"),
                    what="value under a key",
                    expected="a state",
                    found=str(error),
                )
            )
            continue
        states[target] = judged
    return States(states, tuple(unreadable))


def compare(
    topic: str,
    partition: int,
    definitions: Definitions,
    rules: WindowRules,
    states: States,
    windows: Iterable[pa.Table],
    mark: int,
    published_below: int,
) -> Compared:
    """`windows`: the stored windows that are open at `mark` (UTC microseconds), each once.

    Every row with folded_through below `published_below` was judged before the states were read.
    """
    judge = Judge(definitions, Panes(), rules)
    judge.restore(states.by_target.items())
    compared = Compared(findings=list(states.unreadable))
    waiting = _open_targets(states, rules, mark)
    judged = hashes_of_subjects(subject for subject, _, _ in waiting).key
    for table in windows:
        rows = rows_of(table)
        compared.windows += len(rows)
        _check_ahead(
            topic, partition, rows.take(np.flatnonzero(np.isin(rows.subjects.key, judged))), states, waiting, compared
        )
        for judgement in judge.judge(rows, mark):
            before = states.by_target.get(judgement.target)
            through = judgement.state.positions.folded_through
            finding = Finding(
                check="states",
                place=topic,
                partition=partition,
                window=name_of(judgement.target.window),
                name=f"threshold {judgement.target.threshold_id}",
                what="level judged, against the stored window and the definitions",
                expected=(
                    f"{LEVELS[judgement.state.level]} (value {_amount(judgement.state.value)}, threshold "
                    f"{_amount(judgement.state.terms.threshold)}, folded through {through})"
                ),
                found=_NOTHING if before is None else f"{LEVELS[before.level]} (value {_amount(before.value)})",
            )
            (compared.findings if through < published_below else compared.in_flight).append(finding)
    for targets in waiting.values():
        compared.findings.extend(_without_window(topic, partition, states, target) for target in targets)
    return compared


def _open_targets(states: States, rules: WindowRules, mark: int) -> _Open:
    """The states of open windows by subject, period code and start."""
    found: _Open = {}
    for target in states.by_target:
        window = target.window
        if rules.is_open(window.end, mark):
            found.setdefault((window.subject, CODES[window.period], window.start), []).append(target)
    return found


def _check_ahead(
    topic: str,
    partition: int,
    rows: WindowColumns,
    states: States,
    waiting: _Open,
    compared: Compared,
) -> None:
    """A state that was judged with more than its stored window holds: the window was stored first, so it went back."""
    for at in range(len(rows)):
        targets = waiting.pop((rows.name(at), int(rows.periods[at]), int(rows.starts[at])), ())
        for target in targets:
            judged = states.by_target[target].positions.folded_through
            if judged > int(rows.through[at]):
                compared.findings.append(
                    Finding(
                        check="states",
                        place="usage_windows",
                        partition=partition,
                        window=name_of(target.window),
                        name=f"threshold {target.threshold_id}",
                        what=f"folded_through, against what was judged in {topic}",
                        expected=f"at least {judged}",
                        found=str(int(rows.through[at])),
                    )
                )


def _without_window(topic: str, partition: int, states: States, target: Target) -> Finding:
    state = states.by_target[target]
    return Finding(
        check="states",
        place="usage_windows",
        partition=partition,
        window=name_of(target.window),
        name=f"threshold {target.threshold_id}",
        what=f"window that was judged in {topic}",
        expected=f"a window folded through at least {state.positions.folded_through}",
        found="no window",
    )


def name_of(window: Window) -> WindowName:
    return WindowName(*window.subject, window.period.value, from_micros(window.start))


def _amount(unscaled: int) -> str:
    text = f"{to_decimal(unscaled):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
