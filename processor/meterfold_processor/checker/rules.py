"""When a window is open, final or forgotten. Pure integers of UTC microseconds.

Everything is measured by the *mark* of a partition: the smaller of the wall clock and the broker's stamp of the last
event that the fold has acknowledged. The mark does not move while the fold lags, so that no window is closed before
its waiting events are folded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

from meterfold_schemas.periods import MICROS_PER_SECOND, STORED_NUMBER, Period, period_end
from meterfold_sink.rules import FoldRules

__all__ = ["CODES", "NEVER", "PERIODS", "WindowRules", "end_of", "mark_of"]

CODES: Final = STORED_NUMBER
PERIODS: Final[dict[int, Period]] = {code: period for period, code in CODES.items()}

NEVER: Final = 2**62
"""The end of a lifetime window."""


@dataclass(frozen=True, slots=True)
class WindowRules:
    """Durations in microseconds. `open_for` = horizon + future tolerance + slack: how long after its end a window can
    still change. All three answers take integers or numpy arrays."""

    open_for: int
    grace: int

    @classmethod
    def of(cls, stored: FoldRules) -> Self:
        return cls(
            open_for=(stored.lookback_seconds + stored.slack_seconds) * MICROS_PER_SECOND,
            grace=stored.grace_seconds * MICROS_PER_SECOND,
        )

    def is_open(self, end: Any, mark: int) -> Any:
        """Only open windows are judged or emitted."""
        return end + self.open_for > mark

    def is_final(self, end: Any, mark: int) -> Any:
        return end + self.grace <= mark

    def is_forgotten(self, end: Any, mark: int) -> Any:
        """State is kept as long again as the window is open: judging once more must not find the state gone."""
        return end + 2 * self.open_for < mark


def end_of(code: int, start: int) -> int:
    """End (exclusive) of a window; NEVER for a lifetime."""
    end = period_end(PERIODS[code], start)
    return NEVER if end is None else end


def mark_of(wall: int, last_stamp: int | None) -> int:
    """The mark of a partition; 0 before the fold has acknowledged an event: everything open, nothing final."""
    return 0 if last_stamp is None else min(wall, last_stamp)
