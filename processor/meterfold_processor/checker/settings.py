"""Settings of a checker. When a window is open or final is a stored setting, the same for all checkers."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from meterfold_schemas.periods import KEPT, Period
from meterfold_schemas.settings import Settings

__all__ = ["CheckerSettings", "MetricPatterns"]


def _kept(period: Period) -> Period:
    if period not in KEPT:
        raise ValueError(f"{period} windows are derived when read; give {', '.join(KEPT)}")
    return period


AggregatedPeriod = Annotated[Period, AfterValidator(_kept)]
MetricPattern = Annotated[str, Field(pattern=r"^!?[a-z0-9_.*?-]{1,200}$")]


def _words(value: object) -> object:
    """A variable has a comma-separated list: daily,monthly."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


class MetricPatterns:
    """Whether a metric is among those that some patterns name. The last pattern that matches decides; what no pattern
    matches is included only if all of them exclude."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [(not pattern.startswith("!"), pattern.removeprefix("!")) for pattern in patterns]
        self._otherwise = bool(patterns) and not any(includes for includes, _ in self._patterns)

    def wants(self, metric_key: str) -> bool:
        matching = (includes for includes, pattern in reversed(self._patterns) if fnmatchcase(metric_key, pattern))
        return next(matching, self._otherwise)


class CheckerSettings(Settings):
    """Table [checker], variables METERFOLD_CHECKER_..."""

    group_id: str = Field(default="meterfold-checker", min_length=1, max_length=200)
    group_protocol: Literal["consumer", "classic"] = "consumer"
    slot: int = Field(default=0, ge=0, le=999)
    """Checkers that run at the same time need different slots. The slot names the transactional id, so a restarted
    checker aborts the transaction that its predecessor left open."""
    emit_interval_seconds: float = Field(default=10.0, ge=0, le=86_400)
    """Minimum time between two aggregates of a window."""
    aggregated_periods: Annotated[tuple[AggregatedPeriod, ...], BeforeValidator(_words)] = (
        Period.DAILY,
        Period.MONTHLY,
        Period.LIFETIME,
    )
    """The periods of usage.aggregated; empty: none."""
    aggregated_metrics: Annotated[tuple[MetricPattern, ...], BeforeValidator(_words)] = ("*",)
    """The metrics of usage.aggregated: keys or patterns with * and ?; with ! in front, what it matches is excluded."""
    aggregated_per_second: float = Field(default=20_000, ge=0, le=10_000_000)
    """The maximum rate of aggregates of this checker; 0: no limit. Windows that have to wait are published once, with
    their newest values."""
    session_timeout_seconds: int = Field(default=30, ge=6, le=300)
    """Session timeout of the classic protocol; with the consumer protocol the broker sets it."""
