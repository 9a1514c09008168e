"""Ids and keys of derived events: a function of what they identify, never random.

An id is the UUIDv5 of a compact JSON array under Meterfold's own namespace; the array begins with its kind, so that
two kinds never share an id. The namespace and the arrays are part of the contract and never change.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final
from uuid import UUID

from meterfold_schemas.keys import compact_array

__all__ = [
    "NAMESPACE",
    "aggregated_event_id",
    "alert_acted_event_id",
    "alert_event_id",
    "alert_id",
    "definition_event_id",
    "endpoint_changed_event_id",
    "state_key",
    "window_key",
]

NAMESPACE: Final = UUID("8f0a4f5e-6d1c-5b3e-9a57-2c1d7e40b6a9")


def alert_id(
    threshold_id: str,
    org_id: str,
    metric_key: str,
    subject_type: str,
    subject_id: str,
    period_type: str,
    period_start: int,
    level: str,
    crossing: int,
) -> str:
    """One alert per threshold, subject, window, level and crossing. `period_start` in UTC microseconds."""
    return _derived(
        "alert",
        threshold_id,
        org_id,
        metric_key,
        subject_type,
        subject_id,
        period_type,
        period_start,
        level,
        crossing,
    )


def alert_event_id(alert_id: str, event_type: str) -> str:
    """Event id of `threshold.approaching`, `.exceeded` or `.cleared`."""
    return _derived("threshold", alert_id, event_type)


def alert_acted_event_id(alert_id: str, action: str, by: str) -> str:
    """Event id of `alert.acted`."""
    return _derived("acted", alert_id, action, by)


def aggregated_event_id(
    org_id: str,
    metric_key: str,
    subject_type: str,
    subject_id: str,
    period_type: str,
    period_start: int,
    revision: int,
    is_final: bool,
) -> str:
    """Event id of `usage.aggregated`: a window, its revision, and whether it is final."""
    return _derived(
        "aggregated",
        org_id,
        metric_key,
        subject_type,
        subject_id,
        period_type,
        period_start,
        revision,
        int(is_final),
    )


def definition_event_id(event_type: str, definition_id: str, updated_at: int) -> str:
    """Event id of `metric.defined` or `threshold.defined`. `updated_at` in UTC microseconds."""
    return _derived("definition", event_type, definition_id, updated_at)


def endpoint_changed_event_id(endpoint: str, state: str, since: int) -> str:
    """Event id of `endpoint.changed`. `since` in UTC microseconds."""
    return _derived("endpoint", endpoint, state, since)


def window_key(
    org_id: str, metric_key: str, subject_type: str, subject_id: str, period_type: str, period_start: int
) -> bytes:
    """Key of `usage.aggregated`. `period_start` in UTC microseconds."""
    return compact_array(org_id, metric_key, subject_type, subject_id, str(period_type), period_start)


def state_key(
    threshold_id: str,
    org_id: str,
    metric_key: str,
    subject_type: str,
    subject_id: str,
    period_type: str,
    period_start: int,
) -> bytes:
    """Key of `threshold.state`: a threshold and the window it judged."""
    return compact_array(threshold_id, org_id, metric_key, subject_type, subject_id, str(period_type), period_start)


def _derived(*parts: str | int) -> str:
    # str(uuid5(NAMESPACE, ...)) takes five times as long.
    digest = sha1(NAMESPACE.bytes + compact_array(*parts), usedforsecurity=False).digest()
    number = int.from_bytes(digest[:16], "big") & ~(0xF000 << 64 | 0xC000 << 48) | 0x5000 << 64 | 0x8000 << 48
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
