"""What a webhook carries: the event as JSON, in the form of Standard Webhooks (type, timestamp, data).

Made once, when the event is planned, and stored; every try and every redelivery sends the same bytes.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from meterfold_schemas.endpoint_changes import EndpointChanged
from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.quantities import number_text
from meterfold_schemas.topics import ENDPOINT_CHANGED

__all__ = ["event_type", "payload", "revision"]


def revision(event: ThresholdEvent) -> int:
    """Orders the events about one level of one threshold, subject and window: a greater one is later. A level is
    reached and left in turn, and `crossing` counts how often it was reached."""
    return 2 * event.crossing - (event.event_type != "threshold.cleared")


def event_type(event: ThresholdEvent | EndpointChanged) -> str:
    return event.event_type if isinstance(event, ThresholdEvent) else ENDPOINT_CHANGED


def payload(event: ThresholdEvent | EndpointChanged) -> str:
    """Decimals are strings, times are ISO 8601 in UTC."""
    data = _alert(event) if isinstance(event, ThresholdEvent) else _endpoint(event)
    whole = {"type": event_type(event), "timestamp": _time(event.occurred_at), "data": data}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


def _alert(event: ThresholdEvent) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "alert_id": event.alert_id,
        "threshold_id": event.threshold_id,
        "org_id": event.org_id,
        "metric_key": event.metric_key,
        "subject_type": event.subject_type,
        "subject_id": event.subject_id,
        "period_type": str(event.period_type),
        "period_start": _time(event.period_start),
        "period_end": None if event.period_end is None else _time(event.period_end),
        "level": str(event.level),
        "crossing": event.crossing,
        "revision": revision(event),
        "threshold": number_text(event.threshold),
        "warn_threshold": number_text(event.warn_threshold),
        "actual_value": number_text(event.actual_value),
        "percentage_used": number_text(event.percentage_used),
        "action": str(event.action),
    }


def _endpoint(event: EndpointChanged) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "endpoint": event.endpoint,
        "state": str(event.state),
        "since": _time(event.since),
        "failures": event.failures,
        "reason": event.reason,
    }


def _time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
