"""The status of a notifier, which other threads read at any time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from meterfold_processor.backoff import Troubles
from meterfold_processor.durations import Durations
from meterfold_processor.kafka.membership import Membership

__all__ = ["NotifyStatus"]


@dataclass(slots=True)
class NotifyStatus:
    """Counters since the start of the process."""

    planned: int = 0
    """Deliveries of events that were read."""
    damaged: int = 0
    """Messages that no one can read; they are skipped."""
    tries: dict[tuple[str, str], int] = field(default_factory=dict)
    """Tries that have ended, by channel and state of the delivery afterwards."""
    durations: Durations = field(default_factory=Durations)
    """Of tries, from begin to answer."""
    waiting: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    """channel -> deliveries with a try to come, and the time of the oldest event among them."""
    sending: int = 0
    endpoints: dict[str, int] = field(default_factory=dict)
    """Webhook endpoints that are failing or disabled, by state."""
    opening: list[tuple[str, int]] = field(default_factory=list)
    """(topic, partition) that are assigned and not read yet."""
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    """(topic, partition) -> the next offset to read."""
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    """(topic, partition) -> the end of its log, of all that the client knows."""
    membership: Membership = field(default_factory=Membership)
    errors: Troubles = field(default_factory=Troubles)
