"""When a delivery is tried again. Pure; time and chance are arguments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["DELAYS", "next_try", "retry_after"]

DELAYS: Final = (5, 30, 120, 600, 1_800, 3_600, 2 * 3_600, 4 * 3_600, 8 * 3_600)
"""Seconds after the first, second, ... failed try; the last one repeats until the delivery is given up."""
JITTER: Final = 0.2
"""A delay is up to this share longer or shorter, so that deliveries that failed together do not return together."""


def next_try(
    attempt: int, ended_at: datetime, give_up_at: datetime, chance: float, after: datetime | None
) -> datetime | None:
    """When the try after number `attempt` (from 1) is due; None: the delivery is given up.

    `chance` in [0, 1). `after`: the time that the receiver asked for, if any. The last try is at `give_up_at`, also
    where the receiver asks for a later time.
    """
    if ended_at >= give_up_at:
        return None
    delay = DELAYS[min(attempt, len(DELAYS)) - 1] * (1 - JITTER + 2 * JITTER * chance)
    due = ended_at + timedelta(seconds=delay)
    if after is not None:
        due = max(due, after)
    return min(due, give_up_at)


def retry_after(value: str, now: datetime) -> datetime | None:
    """The time in a Retry-After header (RFC 9110): seconds, or an HTTP date; None for anything else."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return now + timedelta(seconds=min(int(text[:9]), 366 * 86_400))
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)
