"""The rules that decide what is counted, as columns need them. They are stored once and the same for every worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from meterfold_schemas.periods import MICROS_PER_SECOND
from meterfold_sink.rules import FoldRules


@dataclass(frozen=True, slots=True)
class Rules:
    """All times in microseconds.

    horizon: how old an event may be when it arrives. future_tolerance: how far its clock may be ahead. slack: how
    much longer identities are remembered, since brokers' clocks step back. record_retention: how long `usage_records`
    keeps a record; with the source topic's retention it bounds what can still be decided.
    """

    horizon: int
    future_tolerance: int
    slack: int
    record_retention: int
    partition_count: int

    @classmethod
    def of(cls, stored: FoldRules) -> Self:
        return cls(
            horizon=stored.horizon_seconds * MICROS_PER_SECOND,
            future_tolerance=stored.future_tolerance_seconds * MICROS_PER_SECOND,
            slack=stored.slack_seconds * MICROS_PER_SECOND,
            record_retention=stored.record_retention_seconds * MICROS_PER_SECOND,
            partition_count=stored.partition_count,
        )

    @property
    def lookback(self) -> int:
        """How long an identity is remembered: an event whose clock was ahead at its first arrival by the tolerance is
        not too old for the horizon after it."""
        return self.horizon + self.future_tolerance
