"""The last judgement of one threshold in one window, and its successor. Pure.

There are three levels in order: none, approaching, exceeded. Crossings are counted for each level above none: a value
that rises above both emits both events, and a value that falls clears each level that it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meterfold_schemas.events import AlertType
from meterfold_schemas.vocabulary import Action, Level

__all__ = [
    "LEVELS",
    "Crossing",
    "JudgedState",
    "ReadPositions",
    "Terms",
    "crossings",
    "follows",
    "judge_again",
    "level_of",
]

LEVELS: Final = (Level.NONE, Level.APPROACHING, Level.EXCEEDED)
_REACHED: Final[dict[Level, AlertType]] = {
    Level.APPROACHING: "threshold.approaching",
    Level.EXCEEDED: "threshold.exceeded",
}


@dataclass(frozen=True, slots=True)
class ReadPositions:
    """The inputs of a judgement: the window's folded_through, and the read positions of the two definition topics."""

    folded_through: int
    metric: int
    threshold: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What a threshold says when it judges. Amounts are unscaled integers (x 10^9)."""

    name: str
    threshold: int
    warn_threshold: int
    action: Action


@dataclass(frozen=True, slots=True)
class JudgedState:
    """The state of one threshold in one window. `crossings` counts how often approaching and exceeded were reached."""

    level: int
    crossings: tuple[int, int]
    positions: ReadPositions
    value: int
    terms: Terms


@dataclass(frozen=True, slots=True)
class Crossing:
    """One event: a level reached, or left (`threshold.cleared`). `number` counts the times it was reached, from 1."""

    event_type: AlertType
    level: Level
    number: int


def level_of(value: int, terms: Terms) -> int:
    """0 none, 1 approaching, 2 exceeded."""
    return (value >= terms.warn_threshold) + (value >= terms.threshold)


def follows(before: JudgedState | None, now: ReadPositions) -> bool:
    """Whether a judgement counts: none of its inputs may be older than those of the previous one."""
    if before is None:
        return True
    was = before.positions
    return now.folded_through >= was.folded_through and now.metric >= was.metric and now.threshold >= was.threshold


def crossings(before: JudgedState | None, level: int) -> list[Crossing]:
    """The events of a change of level, in the order in which they are to be read."""
    was = 0 if before is None else before.level
    approaching, exceeded = (0, 0) if before is None else before.crossings
    numbers = {1: approaching, 2: exceeded}
    reached = [Crossing(_REACHED[LEVELS[step]], LEVELS[step], numbers[step] + 1) for step in range(was + 1, level + 1)]
    left = [Crossing("threshold.cleared", LEVELS[step], numbers[step]) for step in range(was, level, -1)]
    return reached + left


def judge_again(
    before: JudgedState | None, level: int, positions: ReadPositions, value: int, terms: Terms
) -> JudgedState:
    """The state after a judgement that counts."""
    was = 0 if before is None else before.level
    approaching, exceeded = (0, 0) if before is None else before.crossings
    counted = (approaching + (was < 1 <= level), exceeded + (was < 2 <= level))
    return JudgedState(level, counted, positions, value, terms)
