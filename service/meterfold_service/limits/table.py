"""The states of thresholds by subject, as the topic threshold.state has them. Pure; the clock is passed in.

Only levels that are reached are kept, and only while their window is open: a subject takes as much memory as it has
such windows, which are at most four for each threshold that watches it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from meterfold_schemas.events import ThresholdState
from meterfold_schemas.periods import Period
from meterfold_schemas.vocabulary import Action, Level

__all__ = ["Limit", "LimitTable"]

Subject = tuple[str, str, str]
"""org_id ("": without one), type and id."""

_SWEPT: Final = 10_000
"""Keys that one call of `sweep` looks at, so that no reader waits for long."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A threshold that a subject has reached or approaches, in a window that is open. `value` is that of the moment
    `since` when the level changed; `period_end` is None for a lifetime."""

    threshold_id: str
    name: str
    metric_key: str
    period_type: Period
    period_start: datetime
    period_end: datetime | None
    level: Level
    action: Action
    value: Decimal
    threshold: Decimal
    warn_threshold: Decimal
    since: datetime

    @property
    def blocks(self) -> bool:
        """Whether the application should refuse."""
        return self.level is Level.EXCEEDED and self.action is Action.BLOCK


class LimitTable:
    """For one thread at a time."""

    def __init__(self) -> None:
        self._by_subject: dict[Subject, dict[bytes, Limit]] = {}
        self._subject_of: dict[bytes, Subject] = {}
        self._to_sweep: Iterator[bytes] = iter(())

    def __len__(self) -> int:
        """States that are kept."""
        return len(self._subject_of)

    def apply(self, key: bytes, state: ThresholdState | None, now: datetime) -> None:
        """The latest message of a key; None is a tombstone."""
        subject = self._subject_of.get(key)
        if state is None or state.level is Level.NONE or _is_over(state.period_end, now):
            if subject is not None:
                self._drop(key, subject)
            return
        if subject is None:
            subject = self._subject_of[key] = (state.org_id, state.subject_type, state.subject_id)
        self._by_subject.setdefault(subject, {})[key] = Limit(
            state.threshold_id,
            state.name,
            state.metric_key,
            state.period_type,
            state.period_start,
            state.period_end,
            state.level,
            state.action,
            state.value,
            state.threshold,
            state.warn_threshold,
            state.occurred_at,
        )

    def of(self, subject: Subject, now: datetime) -> tuple[Limit, ...]:
        """What is reached now: what blocks first, then the highest level."""
        found = [one for one in self._by_subject.get(subject, {}).values() if not _is_over(one.period_end, now)]
        found.sort(key=lambda one: (not one.blocks, one.level is not Level.EXCEEDED, one.metric_key, one.threshold_id))
        return tuple(found)

    def sweep(self, now: datetime) -> None:
        """Forget windows that have ended, some with each call."""
        for _ in range(_SWEPT):
            key = next(self._to_sweep, None)
            if key is None:
                self._to_sweep = iter(list(self._subject_of))
                return
            subject = self._subject_of.get(key)
            if subject is not None and _is_over(self._by_subject[subject][key].period_end, now):
                self._drop(key, subject)

    def clear(self) -> None:
        self._by_subject.clear()
        self._subject_of.clear()

    def _drop(self, key: bytes, subject: Subject) -> None:
        del self._subject_of[key]
        of_subject = self._by_subject[subject]
        del of_subject[key]
        if not of_subject:
            del self._by_subject[subject]


def _is_over(end: datetime | None, now: datetime) -> bool:
    return end is not None and end <= now
