"""Deliberately broken notifiers, put into real processes: each must be caught. tests/simulation/notify has the same and
more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from unittest import mock
from uuid import uuid4

from confluent_kafka import Message

from meterfold_processor.kafka.offsets import at
from meterfold_processor.kafka.stored_start import StoredStart, next_offsets
from meterfold_service.notify import consumer
from meterfold_service.notify.consumer import EventConsumer
from meterfold_service.notify.mails import MailSender
from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.store import ClickHouseStore
from meterfold_service.notify.webhooks import WebhookSender
from meterfold_sink.notification_tries import PLANNED, TryRow
from meterfold_sink.notifications import DeliveryKey, DueDelivery

__all__ = ["NOTIFIERS", "active"]

Patches = list[tuple[Any, str, Any]]
_COMMIT_SECONDS: Final = 10.0


def _progress_first() -> Patches:
    """The progress row is written before the deliveries."""
    plan = consumer.plan

    def first(sources: Any, positions: Any, thresholds: Any, store: Any, *more: Any) -> Any:
        store.write_progress(positions)
        return plan(sources, positions, thresholds, store, *more)

    return [(consumer, "plan", first)]


def _commits_first() -> Patches:
    """The offsets are committed before the plan is stored, and they decide where to start."""
    plan, opened = EventConsumer._plan, StoredStart.open

    def committing(self: EventConsumer, partitions: StoredStart, messages: list[Message], *more: Any) -> None:
        partitions.commit(next_offsets(messages), "not committed")
        plan(self, partitions, messages, *more)

    def at_commits(self: StoredStart, stored: Any, *more: Any) -> bool:
        def committed() -> dict[tuple[str, int], int]:
            stored()
            places = self._consumer.committed([at(*place) for place in sorted(self.waiting)], _COMMIT_SECONDS)
            return {(place.topic, place.partition): place.offset for place in places if place.offset >= 0}

        return opened(self, committed, *more)

    return [(EventConsumer, "_plan", committing), (StoredStart, "open", at_commits)]


def _forgets_retries() -> Patches:
    """A retry is only known to the process that tried before."""
    tried: set[DeliveryKey] = set()
    write, states = ClickHouseStore.write, ClickHouseStore.states

    def remembering(self: ClickHouseStore, rows: Sequence[TryRow]) -> None:
        tried.update(DeliveryKey(row.event_id, row.channel, row.target) for row in rows if row.stage != PLANNED)
        write(self, rows)

    def own(self: ClickHouseStore, *given: Any) -> list[DueDelivery]:
        return [found for found in states(self, *given) if found.state != "retrying" or found.key in tried]

    return [(ClickHouseStore, "write", remembering), (ClickHouseStore, "states", own)]


def _sending_is_sent() -> Patches:
    """A try that was interrupted counts as successful."""
    states = ClickHouseStore.states

    def finished(self: ClickHouseStore, *given: Any) -> list[DueDelivery]:
        return [found for found in states(self, *given) if found.state != "sending"]

    return [(ClickHouseStore, "states", finished)]


def _tried_as(change: Callable[[DueDelivery], DueDelivery]) -> Patches:
    def changed(send: Any) -> Any:
        async def sending(self: Any, delivery: DueDelivery, now: datetime) -> Outcome:
            outcome: Outcome = await send(self, change(delivery), now)
            return outcome

        return sending

    return [(kind, "send", changed(kind.send)) for kind in (MailSender, WebhookSender)]


def _random_id() -> Patches:
    """Each try has an id of its own."""
    return _tried_as(lambda delivery: replace(delivery, event_id=str(uuid4())))


def _time_of_the_try() -> Patches:
    """The contents have the time of the try."""

    def now(delivery: DueDelivery) -> DueDelivery:
        payload = {**json.loads(delivery.payload), "timestamp": datetime.now(UTC).isoformat()}
        return replace(delivery, payload=json.dumps(payload))

    return _tried_as(now)


NOTIFIERS: Final[Mapping[str, Callable[[], Patches]]] = {
    "notify_progress_first": _progress_first,
    "notify_commits_first": _commits_first,
    "notify_forgets_retries": _forgets_retries,
    "notify_sending_is_sent": _sending_is_sent,
    "notify_random_id": _random_id,
    "notify_time_of_the_try": _time_of_the_try,
}


@contextmanager
def active(name: str | None) -> Iterator[None]:
    """The rule that the variant breaks is broken in this process, if it is one of the notifier."""
    made = NOTIFIERS.get(name or "")
    patches = [] if made is None else [mock.patch.object(*patch) for patch in made()]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()
