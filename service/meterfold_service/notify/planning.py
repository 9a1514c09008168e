"""Which deliveries an event has. Pure.

A threshold's own addresses and webhook get its events; the operators' addresses get `endpoint.changed`, and their chats
the topics of the setting chat_events. Each address is a delivery of its own: one that fails delays no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.endpoint_changes import EndpointChanged
from meterfold_schemas.events import ThresholdEvent
from meterfold_service.notify.payloads import event_type, payload
from meterfold_sink.notification_tries import TryRow

__all__ = ["PlanRules", "Source", "planned", "targets"]

Target = tuple[str, str]
"""(channel, target)."""


@dataclass(frozen=True, slots=True)
class PlanRules:
    """What the settings say about targets; `retry` is how long a delivery is tried."""

    operator_emails: tuple[str, ...]
    chats: tuple[str, ...]
    chat_events: frozenset[str]
    retry: timedelta


@dataclass(frozen=True, slots=True)
class Source:
    """An event and where it was read: the owner of that partition sends it."""

    topic: str
    partition: int
    event: ThresholdEvent | EndpointChanged


def targets(
    event: ThresholdEvent | EndpointChanged,
    threshold: UsageThreshold | None,
    earlier: Iterable[Target],
    rules: PlanRules,
) -> Iterator[Target]:
    """`threshold` is None where it is deleted; then those who learned of the alert (`earlier`) also learn its end."""
    if isinstance(event, EndpointChanged):
        yield from (("email", address) for address in dict.fromkeys(rules.operator_emails))
    elif threshold is not None:
        yield from (("email", address) for address in dict.fromkeys(threshold.notify_emails or ()))
        if threshold.notify_webhook:
            yield "webhook", threshold.notify_webhook
    else:
        yield from (target for target in sorted(earlier) if target[0] != "chat")
    if event_type(event) in rules.chat_events:
        yield from (("chat", name) for name in rules.chats)


def planned(
    source: Source,
    threshold: UsageThreshold | None,
    earlier: Iterable[Target],
    disabled: Mapping[str, str],
    rules: PlanRules,
    now: datetime,
) -> Iterator[TryRow]:
    """The first row of each delivery of an event. `disabled`: endpoint -> why nothing is sent to it."""
    event = source.event
    alert = event if isinstance(event, ThresholdEvent) else None
    text = payload(event)
    give_up_at = event.occurred_at + rules.retry
    for channel, target in targets(event, threshold, earlier, rules):
        state, error = "pending", ""
        if now >= give_up_at:
            state, error = "expired", "the event was too old when it was first read"
        elif channel == "webhook" and target in disabled:
            state, error = "disabled", disabled[target]
        yield TryRow(
            occurred_at=event.occurred_at,
            event_id=event.event_id,
            channel=channel,
            target=target,
            state=state,
            due_at=now,
            give_up_at=max(give_up_at, now),
            event_type=event_type(event),
            topic=source.topic,
            partition=source.partition,
            org_id=alert.org_id if alert else "",
            threshold_id=alert.threshold_id if alert else "",
            alert_id=alert.alert_id if alert else "",
            payload=text,
            error=error,
        )
