"""Settings of a checker. When a window is open or final is a stored setting, the same for all checkers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from meterfold_schemas.periods import KEPT, Period
from meterfold_schemas.settings import Settings

__all__ = ["CheckerSettings"]


def _kept(period: Period) -> Period:
    if period not in KEPT:
        raise ValueError(f"{period} windows are derived when read; give {', '.join(KEPT)}")
    return period


AggregatedPeriod = Annotated[Period, AfterValidator(_kept)]


def _words(value: object) -> object:
    """A variable has a comma-separated list: daily,monthly."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


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
    session_timeout_seconds: int = Field(default=30, ge=6, le=300)
    """Session timeout of the classic protocol; with the consumer protocol the broker sets it."""
