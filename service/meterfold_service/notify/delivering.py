"""One try of one delivery, step by step.

    1. the row that says that the try has begun     2. send     3. what the try means for the endpoint: its event on
    endpoint.changed, then its row                  4. the row that says how the try has ended

A notifier that dies after 1 leaves a delivery in the state `sending`, which is due at once for its successor: it is
sent again, with the same id. After 3 the endpoint's event is repeated with the same id. Nothing is lost at any step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from meterfold_schemas.endpoint_changes import EndpointChanged, EndpointState
from meterfold_service.notify.delivery_spans import UNTRACED, DeliverySpans
from meterfold_service.notify.outcomes import Outcome, Sender
from meterfold_service.notify.schedule import next_try
from meterfold_service.notify.store import Endpoints
from meterfold_sink.notification_tries import BEGUN, ENDED, EndpointRow, TryRow
from meterfold_sink.notifications import DueDelivery, Failures

__all__ = ["FAILING_AFTER", "Deliverer", "Journal"]

FAILING_AFTER: Final = 5
"""Failed tries in a row after which an endpoint is called failing."""


class Journal(Protocol):
    """Where a try is recorded. Methods return when the rows last; they wait while the servers are away."""

    async def write(self, row: TryRow) -> None: ...

    async def failures(self, endpoint: str) -> Failures: ...

    async def publish(self, event: EndpointChanged) -> None: ...

    async def write_endpoint(self, row: EndpointRow) -> None: ...


@dataclass(frozen=True, slots=True)
class Deliverer:
    """`chance` gives a number in [0, 1), `clock` the time in UTC."""

    senders: Mapping[str, Sender]
    journal: Journal
    disable_after: timedelta
    chance: Callable[[], float]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    spans: DeliverySpans = UNTRACED

    async def deliver(self, delivery: DueDelivery, endpoints: Endpoints) -> TryRow:
        """One try; the row that says how it has ended."""
        begun = self._begun(delivery, self.clock())
        if delivery.channel == "webhook" and delivery.target in (disabled := endpoints.disabled):
            row = replace(
                begun, stage=ENDED, state="disabled", error=disabled[delivery.target], ended_at=begun.started_at
            )
            await self.journal.write(row)
            return row
        await self.journal.write(begun)
        outcome = await self._sent(delivery, begun)
        ended = self._ended(begun, outcome, self.clock())
        if delivery.channel == "webhook":
            await self._judge_endpoint(ended, outcome, endpoints)
        await self.journal.write(ended)
        return ended

    async def _sent(self, delivery: DueDelivery, begun: TryRow) -> Outcome:
        assert begun.started_at is not None
        span = self.spans.start(begun)
        try:
            outcome = await self.senders[delivery.channel].send(delivery, begun.started_at)
        except BaseException as error:
            if span is not None:
                span.end(type(error).__name__)
            raise
        if span is not None:
            span.end(None if outcome.result == "delivered" else outcome.error)
        return outcome

    def _begun(self, delivery: DueDelivery, now: datetime) -> TryRow:
        return TryRow(
            occurred_at=delivery.occurred_at,
            event_id=delivery.event_id,
            channel=delivery.channel,
            target=delivery.target,
            round=delivery.round,
            attempt=delivery.attempt + 1,
            stage=BEGUN,
            state="sending",
            due_at=now,
            give_up_at=delivery.give_up_at,
            event_type=delivery.event_type,
            topic=delivery.topic,
            partition=delivery.partition,
            org_id=delivery.org_id,
            threshold_id=delivery.threshold_id,
            alert_id=delivery.alert_id,
            started_at=now,
        )

    def _ended(self, begun: TryRow, outcome: Outcome, now: datetime) -> TryRow:
        row = replace(begun, stage=ENDED, status=outcome.status, error=outcome.error, ended_at=now)
        if outcome.result == "delivered":
            return replace(row, state="delivered")
        if outcome.result in ("refused", "gone"):
            return replace(row, state="failed")
        due = next_try(begun.attempt, now, begun.give_up_at, self.chance(), outcome.after)
        return replace(row, state="failed") if due is None else replace(row, state="retrying", due_at=due)

    async def _judge_endpoint(self, ended: TryRow, outcome: Outcome, endpoints: Endpoints) -> None:
        started_at, now, state = ended.started_at, ended.ended_at, endpoints.state(ended.target)
        assert started_at is not None
        assert now is not None
        if outcome.result == "delivered":
            if state is EndpointState.FAILING:
                since = endpoints.rows[ended.target].since
                await self._change(ended.target, EndpointState.ACTIVE, since, 0, "a try was successful", now)
            return
        if (
            outcome.result != "gone"
            and state is EndpointState.FAILING
            and now - endpoints.rows[ended.target].since < self.disable_after
        ):
            return  # known already; its tries, which would have to be read for it, become many during an outage
        earlier = await self.journal.failures(ended.target)
        failures, since = earlier.failed + 1, earlier.since or started_at
        if outcome.result == "gone" or now - since >= self.disable_after:
            await self._change(ended.target, EndpointState.DISABLED, since, failures, outcome.error, now)
        elif failures >= FAILING_AFTER and state is EndpointState.ACTIVE:
            await self._change(ended.target, EndpointState.FAILING, since, failures, outcome.error, now)

    async def _change(
        self, endpoint: str, state: EndpointState, since: datetime, failures: int, reason: str, now: datetime
    ) -> None:
        event = EndpointChanged(
            occurred_at=now, endpoint=endpoint, state=state, since=since, failures=failures, reason=reason
        )
        row = EndpointRow(endpoint=endpoint, state=state, since=since, reason=reason, changed_at=now)
        await self.journal.publish(event)
        await self.journal.write_endpoint(row)
