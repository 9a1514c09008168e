"""How a fold worker runs. What decides about events is not here: those rules are stored, the same for all workers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from meterfold_schemas.settings import Settings


class FoldSettings(Settings):
    """Table [fold], variables METERFOLD_FOLD_..."""

    group_id: str = Field(default="meterfold-fold", min_length=1, max_length=200)
    group_protocol: Literal["consumer", "classic"] = "consumer"
    batch_events: int = Field(default=200_000, ge=1, le=2_000_000)
    """At most so many events are folded and flushed together."""
    batch_seconds: float = Field(default=0.25, gt=0, le=60)
    """An event waits at most so long for others."""
    session_timeout_seconds: int = Field(default=30, ge=6, le=300)
    """Only for the classic protocol; with the consumer protocol the broker decides."""
    stop_seconds: float = Field(default=6.0, ge=0, le=60)
    """A stop lets flushes under way end for so long."""
