"""`metering.notifications`: what became of deliveries, send them again, test a target, and enable an endpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal
from uuid import uuid4

from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_service.errors import EndpointNotFound, NotifierNotRunning
from meterfold_service.pages import Page, RowOrder, sliced

if TYPE_CHECKING:
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_sink.client import Client
    from meterfold_sink.pool import ClientPool

__all__ = ["STATES", "Delivery", "DeliveryPage", "DeliveryTry", "Notifications", "WebhookEndpoint"]

STATES: Final = ("pending", "sending", "retrying", "delivered", "failed", "expired", "disabled")
UNDELIVERED: Final = ("failed", "expired", "disabled")
"""Without another try to come: what a redelivery sends by default."""
CHANNELS: Final = ("email", "webhook", "chat")
RETRY: Final = timedelta(days=3)
_LOOK_SECONDS: Final = 0.2
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event to one target. `attempts`: tries in its last `round`, 0 for the first round; `status`: HTTP status or
    SMTP code of the last answer, 0 without one. Metric and subject are those of the alert, None where it has none."""

    occurred_at: datetime
    event_id: str
    event_type: str
    channel: str
    target: str
    org_id: str
    threshold_id: str
    alert_id: str
    metric_key: str | None
    subject_type: str | None
    subject_id: str | None
    state: str
    round: int
    attempts: int
    due_at: datetime
    status: int
    error: str
    last_try_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """`total` counts all deliveries of the list. `cursor` is what `list` needs for the next page; None where there is
    none."""

    rows: tuple[Delivery, ...]
    cursor: str | None
    total: int


@dataclass(frozen=True, slots=True)
class DeliveryTry:
    """A try, or with attempt 0 the plan. A try in the state sending without a successor is under way, or its notifier
    has died."""

    occurred_at: datetime
    event_id: str
    event_type: str
    channel: str
    target: str
    round: int
    attempt: int
    state: str
    status: int
    error: str
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """A webhook that has failed. `state` is active, failing or disabled; `since` is when the first of its failed tries
    began."""

    endpoint: str
    state: str
    since: datetime
    reason: str
    changed_at: datetime


class Notifications:
    """For any thread. Every method raises Retryable or Fatal, and what it says itself."""

    def __init__(
        self, clients: ClientPool, kafka: Callable[[], KafkaSettings], now: Callable[[], datetime], wait_seconds: float
    ) -> None:
        self._clients = clients
        self._kafka = kafka
        self._now = now
        self._wait_seconds = wait_seconds

    def list(
        self,
        *,
        state: str | None = None,
        channel: str | None = None,
        target: str | None = None,
        event_id: str | None = None,
        org_id: str | None = None,
        threshold_id: str | None = None,
        alert_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        seen_by: str | None = None,
        sort: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> DeliveryPage:
        """Deliveries of events in [start, end), the newest events first, or with `sort` occurred_at the oldest.
        `seen_by`: of this organization's own thresholds. Raises InvalidUsage."""
        from meterfold_sink.notifications import DELIVERY_SORTS, list_deliveries

        _check(state, channel, start, end)
        if not 1 <= limit <= _MOST:
            raise InvalidUsage(f"limit {limit} must be between 1 and {_MOST:,}")
        order = RowOrder("notifications", DELIVERY_SORTS, "-occurred_at")
        keys, after = order.start(sort, cursor)
        wanted = {
            "state": state,
            "channel": channel,
            "target": target,
            "event_id": event_id,
            "org_id": org_id,
            "threshold_id": threshold_id,
            "alert_id": alert_id,
        }
        with self._clients.client() as client:
            page = list_deliveries(
                client, wanted, keys, start=start, end=end, after=after, limit=limit, seen_by=seen_by
            )
        return DeliveryPage(tuple(Delivery(**row) for row in page.rows), order.cursor(sort, page.end), page.total)

    def tries(self, event_id: str, *, seen_by: str | None = None) -> tuple[DeliveryTry, ...]:
        """Every try of every delivery of one event, by target and in order; empty for an event that was not planned.
        `seen_by`: as in `list`."""
        from meterfold_sink.notifications import list_tries

        with self._clients.client() as client:
            return tuple(DeliveryTry(**row) for row in list_tries(client, event_id, seen_by=seen_by))

    def page_of_tries(
        self, event_id: str, *, seen_by: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[DeliveryTry]:
        """`tries`, page by page. Raises InvalidUsage."""
        return sliced("tries", self.tries(event_id, seen_by=seen_by), limit, cursor)

    def redeliver(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        channel: str | None = None,
        target: str | None = None,
        event_id: str | None = None,
        org_id: str | None = None,
        threshold_id: str | None = None,
        states: Sequence[str] = UNDELIVERED,
        seen_by: str | None = None,
    ) -> int:
        """Send deliveries of events in [start, end) again, with the same ids; returns how many. The running notifier
        sends them. Needs `start`, or an `event_id`. `seen_by`: as in `list`. Raises InvalidUsage."""
        from meterfold_sink.notifications import request_again
        from meterfold_sink.server import server_now

        _check(None, channel, start, end)
        for state in states:
            _check(state, None, None, None)
        if start is None and event_id is None:
            raise InvalidUsage("a redelivery needs the start of a time range, or an event id")
        wanted = {
            "channel": channel,
            "target": target,
            "event_id": event_id,
            "org_id": org_id,
            "threshold_id": threshold_id,
        }
        with self._clients.client() as client:
            number = server_now(client)  # notifiers look for new rounds by this clock
            return request_again(client, wanted, states, start, end, number, RETRY, seen_by=seen_by)

    def test(self, channel: Literal["email", "webhook", "chat"], target: str) -> DeliveryTry:
        """Let the running notifier send a test message, on the way that every event takes, and return its first try
        once it has ended. Raises NotifierNotRunning, or InvalidUsage."""
        from meterfold_schemas.topics import Topics
        from meterfold_sink.notification_tries import TryRow, write_tries
        from meterfold_sink.notifications import list_tries
        from meterfold_sink.server import server_now
        from meterfold_sink.writers import Writer

        _check(None, channel, None, None)
        if not target:
            raise InvalidUsage(
                "a test needs a target: a mail address, the URL of a webhook, or the name of a chat target"
            )
        now, event_id = self._now().astimezone(UTC), str(uuid4())
        stamp = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        until = time.monotonic() + self._wait_seconds
        with self._clients.client() as client:
            row = TryRow(
                occurred_at=now,
                event_id=event_id,
                channel=channel,
                target=target,
                round=server_now(client),  # what the running notifier looks for
                due_at=now,
                give_up_at=now,  # one try: the caller of a test does not wait for three days
                event_type="notify.test",
                topic=Topics(self._kafka().topic_prefix).endpoint_changed,
                partition=0,
                payload=json.dumps({"type": "notify.test", "timestamp": stamp, "data": {"event_id": event_id}}),
            )
            write_tries(Writer(client), [row])
            while True:
                last = list_tries(client, event_id)[-1]
                if last["attempt"] and last["state"] != "sending":
                    return DeliveryTry(**last)
                if time.monotonic() >= until:
                    raise NotifierNotRunning(event_id, self._wait_seconds)
                time.sleep(_LOOK_SECONDS)

    def endpoints(self) -> tuple[WebhookEndpoint, ...]:
        """Webhook endpoints that fail or are disabled, and those that were."""
        from meterfold_sink.notifications import list_endpoints

        with self._clients.client() as client:
            return tuple(WebhookEndpoint(**row) for row in list_endpoints(client))

    def page_of_endpoints(self, *, limit: int = 100, cursor: str | None = None) -> Page[WebhookEndpoint]:
        """`endpoints`, page by page. Raises InvalidUsage."""
        return sliced("endpoints", self.endpoints(), limit, cursor)

    def enable(self, endpoint: str, *, by: str) -> WebhookEndpoint:
        """Send to an endpoint again. Deliveries that were not sent meanwhile need a redelivery. One that is active
        stays as it is. Raises EndpointNotFound."""
        from meterfold_processor.kafka.clients import producer, publish
        from meterfold_schemas.endpoint_changes import EndpointChanged, EndpointState
        from meterfold_service.notify.endpoint_log import PUBLISH_SECONDS, PUBLISHER, message
        from meterfold_sink.notification_tries import EndpointRow, write_endpoint
        from meterfold_sink.writers import Writer

        with self._clients.client() as client:
            known = _endpoint(client, endpoint)
            if known.state == "active":
                return known
            now = self._now()
            row = EndpointRow(
                endpoint=endpoint, state="active", since=known.since, reason=f"enabled by {by}", changed_at=now
            )
            event = EndpointChanged(
                occurred_at=now,
                endpoint=endpoint,
                state=EndpointState.ACTIVE,
                since=known.since,
                failures=0,
                reason=row.reason,
            )
            kafka = self._kafka()
            publish(producer(kafka, **PUBLISHER), [message(kafka, event)], PUBLISH_SECONDS)
            write_endpoint(Writer(client), row)
            return _endpoint(client, endpoint)


def _endpoint(client: Client, endpoint: str) -> WebhookEndpoint:
    from meterfold_sink.notifications import list_endpoints

    for row in list_endpoints(client):
        if row["endpoint"] == endpoint:
            return WebhookEndpoint(**row)
    raise EndpointNotFound(endpoint)


def _check(state: str | None, channel: str | None, start: datetime | None, end: datetime | None) -> None:
    for name, value, choices in (("state", state, STATES), ("channel", channel, CHANNELS)):
        if value is not None and value not in choices:
            raise InvalidUsage(f"{name} {shown(value)} must be one of {', '.join(choices)}")
    for name, moment in (("start", start), ("end", end)):
        if moment is not None and moment.tzinfo is None:
            raise InvalidUsage(f"{name} must be a timezone-aware datetime")
