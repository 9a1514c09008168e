"""What is known about the notifiers: their group, the events that wait for them, and deliveries that wait for a try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from meterfold_schemas.plurals import noun, plural
from meterfold_service.status.clickhouse_view import ClickHouseView
from meterfold_service.status.kafka_view import Group, KafkaView, PendingHeads
from meterfold_service.status.positions import age, next_of

__all__ = ["NotifierStatus", "endpoint_notes", "notifier_problems", "notifier_status"]


@dataclass(frozen=True, slots=True)
class NotifierStatus:
    """`wanted`: whether a threshold names a mail address or a webhook, or the operators have chats. `members` of the
    group, None where the broker does not say. `lag`: topic -> events that are not planned yet, and `waiting_seconds`
    the age of the oldest one. Deliveries: `waiting` for a try, `failing` those of them whose last try failed,
    `overdue_seconds` since the longest waiting one is due; None where ClickHouse did not answer."""

    wanted: bool
    state: str | None
    members: int | None
    lag: Mapping[str, int]
    waiting_seconds: float | None
    waiting: int | None
    failing: int | None
    overdue_seconds: float | None
    endpoints: Mapping[str, int]


def notifier_status(
    kafka: KafkaView, clickhouse: ClickHouseView, waiting: PendingHeads, now: datetime, chats: bool
) -> NotifierStatus:
    group, backlog = kafka.notify_group, clickhouse.deliveries
    lag = dict[str, int]()
    for topic, heads in waiting.notified.items():
        logs = kafka.notified[topic]
        lag[topic] = sum(logs[n].end - next_of(clickhouse.planned, topic, n, logs[n]) for n in heads)
    ages = [age(head, now) or 0.0 for heads in waiting.notified.values() for head in heads.values()]
    due = None if backlog is None else backlog.due_since
    return NotifierStatus(
        wanted=chats or clickhouse.notified_thresholds > 0,
        state=None if group is None else group.state,
        members=None if group is None else group.members,
        lag=lag,
        waiting_seconds=max(ages, default=None),
        waiting=None if backlog is None else backlog.waiting,
        failing=None if backlog is None else backlog.failing,
        overdue_seconds=None if due is None else round((now - due).total_seconds(), 1),
        endpoints=clickhouse.endpoints,
    )


def notifier_problems(notifier: NotifierStatus, group: Group | None, stuck_after: float) -> Iterator[str]:
    """Events that nobody is to be notified of wait without harm."""
    if not notifier.wanted or group is None:
        return
    unplanned, overdue = notifier.waiting_seconds or 0.0, notifier.overdue_seconds or 0.0
    if group.is_empty:
        if max(unplanned, overdue) > stuck_after:
            yield (
                f"no notifier runs and notifications have waited for {max(unplanned, overdue):,.0f} s: start "
                "`meterfold notify`"
            )
    elif unplanned > stuck_after:
        yield f"events have waited for {unplanned:,.0f} s to be notified of; the notifier's log says why"


def endpoint_notes(clickhouse: ClickHouseView) -> Iterator[str]:
    for state, count in clickhouse.endpoints.items():
        if count:
            verb = noun(count, "is", "are")
            yield f"{plural(count, 'webhook endpoint')} {verb} {state}; `meterfold notify endpoints` lists them"
