"""What receivers got, against the events on the topics: each event at least once at each of its targets, under its own
id, always with the same contents; and no delivery is left without a try."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from chaos.ground import Ground
from chaos.receivers import GONE, OPERATOR, Receivers
from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.endpoint_changes import EndpointChanged
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.events import ThresholdEvent
from meterfold_sink.client import connect
from support import consume_all

__all__ = ["Notices", "NoticesFound"]

_WAITING = """
SELECT count() AS waiting FROM threshold_events FINAL
WHERE has({thresholds:Array(String)}, threshold_id) AND occurred_at <= {at:DateTime64(6, 'UTC')}
    AND event_id NOT IN
    (SELECT event_id FROM notification_deliveries GROUP BY event_id HAVING min(state = 'delivered'))
"""
_DELIVERIES = "SELECT event_id, target, state, attempts, round FROM notification_deliveries"


@dataclass(frozen=True, slots=True)
class NoticesFound:
    """How much was compared: events with a target, deliveries, messages that came again, changes of endpoints."""

    events: int
    deliveries: int
    repeats: int
    changes: int


class Notices:
    """For any thread. `fixed` are the ids of the thresholds that never change."""

    def __init__(self, ground: Ground, receivers: Receivers) -> None:
        self._ground = ground
        self._receivers = receivers
        self.fixed: tuple[str, ...] = ()

    def are_sent(self, at: datetime) -> bool:
        """Whether the events of the fixed thresholds until `at` are delivered; False while ClickHouse is away."""
        text = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        with suppress(MeterfoldError), connect(self._ground.clickhouse, timeout_seconds=5) as client:
            return not client.value(_WAITING, {"thresholds": list(self.fixed), "at": text})
        return False

    def redeliver(self) -> None:
        """As an operator does whose endpoint was gone: enable it, and send what it has missed."""
        notifications, url = self._ground.metering().notifications, self._receivers.url(GONE)
        if any(one.endpoint == url for one in notifications.endpoints()):
            notifications.enable(url, by="chaos")
        notifications.redeliver(start=datetime(2020, 1, 1, tzinfo=UTC), target=url)

    def check(self) -> NoticesFound:
        """AssertionError unless every receiver has what it must have. May be called until the notifier is at rest."""
        wanted, optional = self._wanted()
        contents, accepted = self._receivers.contents, self._receivers.accepted
        assert not self._receivers.forged, f"signatures that are wrong: {self._receivers.forged[:3]}"
        foreign = contents.keys() - wanted.keys() - optional
        assert not foreign, f"{len(foreign)} messages that no event has caused, among them {sorted(foreign)[:3]}"
        changed = [name for name, seen in contents.items() if len(set(seen)) > 1]
        assert not changed, f"{len(changed)} ids came with different contents, among them {sorted(changed)[:3]}"
        for (target, event_id), event in wanted.items():
            if "://" in target and (target, event_id) in contents:
                _check_body(contents[target, event_id][0], event)
        rows = {(row["target"], row["event_id"]): row for row in self._rows()}
        untried = [name for name in wanted if name not in rows or not (rows[name]["attempts"] or rows[name]["round"])]
        assert not untried, f"{len(untried)} of {len(wanted)} deliveries have no try, among them {untried[:3]}"
        missing = wanted.keys() - accepted
        assert not missing, f"{len(missing)} of {len(wanted)} never arrived, among them {sorted(missing)[:3]}"
        states = defaultdict(list)
        for name, row in rows.items():
            states[row["state"]].append(name)
        left = {state: names[:2] for state, names in states.items() if state != "delivered"}
        assert not left, f"deliveries that are not over: {left}"
        return NoticesFound(
            events=len({event_id for _, event_id in wanted}),
            deliveries=len(wanted),
            repeats=sum(len(seen) - 1 for seen in contents.values()),
            changes=len({event_id for target, event_id in wanted if target == OPERATOR}),
        )

    def _rows(self) -> list[dict[str, object]]:
        with connect(self._ground.clickhouse) as client:
            return client.rows(_DELIVERIES)

    def _wanted(self) -> tuple[dict[tuple[str, str], ThresholdEvent | EndpointChanged], set[tuple[str, str]]]:
        """(target, event id) -> the event; and what may also have come: events of thresholds that are deleted."""
        topics = self._ground.topics
        current: dict[str, UsageThreshold] = {}
        every: dict[str, UsageThreshold] = {}
        for message in consume_all(self._ground.kafka, topics.threshold_defined, deadline=120):
            name = (message.key() or b"").decode()
            if message.value() is None:
                current.pop(name, None)
            else:
                current[name] = every[name] = UsageThreshold.from_bytes(message.value())
        wanted: dict[tuple[str, str], ThresholdEvent | EndpointChanged] = {}
        optional: set[tuple[str, str]] = set()
        names = (topics.threshold_approaching, topics.threshold_exceeded, topics.threshold_cleared)
        for message in itertools.chain.from_iterable(consume_all(self._ground.kafka, n, deadline=120) for n in names):
            event = ThresholdEvent.from_bytes(message.value())
            if event.threshold_id in current:
                wanted |= {(target, event.event_id): event for target in _targets(current[event.threshold_id])}
            elif event.threshold_id in every:
                optional |= {(target, event.event_id) for target in _targets(every[event.threshold_id])}
        for message in consume_all(self._ground.kafka, topics.endpoint_changed, deadline=120):
            change = EndpointChanged.from_bytes(message.value())
            wanted[OPERATOR, change.event_id] = change
        return wanted, optional


def _targets(threshold: UsageThreshold) -> Iterator[str]:
    yield from threshold.notify_emails or ()
    if threshold.notify_webhook:
        yield threshold.notify_webhook


def _check_body(body: bytes, event: ThresholdEvent | EndpointChanged) -> None:
    assert isinstance(event, ThresholdEvent)
    whole = json.loads(body)
    data = whole["data"]
    found = (
        *(whole["type"], data["event_id"], data["alert_id"], data["subject_type"], data["subject_id"], data["level"]),
        *(data["crossing"], Decimal(data["actual_value"]), Decimal(data["threshold"])),
    )
    assert found == (
        *(event.event_type, event.event_id, event.alert_id, event.subject_type, event.subject_id, str(event.level)),
        *(event.crossing, event.actual_value, event.threshold),
    ), f"{event.event_id}: {found}"
