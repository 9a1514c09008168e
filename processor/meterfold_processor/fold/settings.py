"""Settings of a fold worker. The settings that decide about events are stored, the same for all workers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from meterfold_schemas.settings import Settings


class FoldSettings(Settings):
    """Table [fold], variables METERFOLD_FOLD_..."""

    group_id: str = Field(default="meterfold-fold", min_length=1, max_length=200)
    group_protocol: Literal["consumer", "classic"] = "consumer"
    batch_events: int = Field(default=200_000, ge=1, le=2_000_000)
    """Maximum number of events in a batch."""
    batch_seconds: float = Field(default=0.25, gt=0, le=60)
    """How long an event waits for a batch to fill."""
    windows_in_memory: int = Field(default=20_000_000, ge=1_000)
    """Windows that a worker keeps in memory, divided among its partitions: about 80 bytes each, and 80 per subject. The
    ones used longest ago leave first; an event that needs one reads it from ClickHouse."""
    session_timeout_seconds: int = Field(default=30, ge=6, le=300)
    """Session timeout of the classic protocol; with the consumer protocol the broker sets it."""
    stop_seconds: float = Field(default=6.0, ge=0, le=60)
    """How long a stop waits for flushes in progress."""
