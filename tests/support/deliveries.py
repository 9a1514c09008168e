"""Deliveries of one event, as the store would give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.periods import Period
from meterfold_schemas.vocabulary import Action, Level
from meterfold_service.notify.payloads import payload
from meterfold_sink.notifications import DueDelivery


def event(**changes: Any) -> ThresholdEvent:
    values: dict[str, Any] = {
        "event_type": "threshold.exceeded",
        "occurred_at": datetime(2026, 11, 29, 12, 30, tzinfo=UTC),
        "threshold_id": "t1",
        "org_id": "acme",
        "metric_key": "api.calls",
        "subject_type": "user",
        "subject_id": "ada",
        "period_type": Period.MONTHLY,
        "period_start": datetime(2026, 11, 1, tzinfo=UTC),
        "period_end": datetime(2026, 12, 1, tzinfo=UTC),
        "level": Level.EXCEEDED,
        "crossing": 1,
        "threshold": Decimal(1000),
        "warn_threshold": Decimal(800),
        "actual_value": Decimal("1200.5"),
        "percentage_used": Decimal("120.05"),
        "action": Action.ALERT,
        **changes,
    }
    return ThresholdEvent(**values)


def delivery(channel: str, target: str, of: ThresholdEvent | None = None, **changes: Any) -> DueDelivery:
    of = of or event()
    values: dict[str, Any] = {
        "occurred_at": of.occurred_at,
        "event_id": of.event_id,
        "channel": channel,
        "target": target,
        "event_type": of.event_type,
        "topic": "threshold.exceeded",
        "partition": 0,
        "org_id": of.org_id,
        "threshold_id": of.threshold_id,
        "alert_id": of.alert_id,
        "round": 0,
        "attempt": 0,
        "state": "pending",
        "due_at": of.occurred_at,
        "give_up_at": of.occurred_at + timedelta(days=3),
        "payload": payload(of),
        **changes,
    }
    return DueDelivery(**values)
