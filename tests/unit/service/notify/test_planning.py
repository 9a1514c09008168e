"""Which deliveries an event has, and what a webhook says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.endpoint_changes import EndpointChanged, EndpointState
from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.periods import Period
from meterfold_schemas.vocabulary import Level
from meterfold_service.notify.payloads import payload, revision
from meterfold_service.notify.planning import PlanRules, Source, planned
from meterfold_sink.notification_tries import TryRow
from support.deliveries import event

NOW = datetime(2026, 11, 29, 12, 31, tzinfo=UTC)
HOOK = "https://hooks.example.com/a"
RULES = PlanRules(("ops@example.com",), ("slack-1",), frozenset({"threshold.exceeded"}), timedelta(days=3))
CHANGE = EndpointChanged(
    occurred_at=NOW, endpoint=HOOK, state=EndpointState.FAILING, since=NOW, failures=5, reason="no answer"
)


def threshold(**changes: Any) -> UsageThreshold:
    values: dict[str, Any] = {
        "id": "t1",
        "metric_key": "api.calls",
        "name": "quota",
        "threshold": Decimal(1000),
        "warn_threshold": Decimal(800),
        "period_type": Period.MONTHLY,
        "notify_emails": ("ada@example.com", "bob@example.com", "ada@example.com"),
        "notify_webhook": HOOK,
        "created_at": NOW,
        "updated_at": NOW,
        **changes,
    }
    return UsageThreshold(**values)


def rows(of: ThresholdEvent | EndpointChanged, found: UsageThreshold | None = None, **more: Any) -> list[TryRow]:
    options = {"earlier": (), "disabled": {}, "rules": RULES, "now": NOW, **more}
    return list(planned(Source("topic", 3, of), found, **options))


def places(found: list[TryRow]) -> list[tuple[str, str]]:
    return [(row.channel, row.target) for row in found]


def test_each_address_is_a_delivery_of_its_own_and_named_once() -> None:
    found = rows(event(), threshold())
    assert places(found) == [
        ("email", "ada@example.com"),
        ("email", "bob@example.com"),
        ("webhook", HOOK),
        ("chat", "slack-1"),
    ]
    assert {row.state for row in found} == {"pending"}
    assert {(row.topic, row.partition, row.attempt, row.event_id) for row in found} == {
        ("topic", 3, 0, event().event_id)
    }
    assert {row.give_up_at for row in found} == {event().occurred_at + timedelta(days=3)}


def test_a_threshold_without_targets_has_no_deliveries_but_those_of_the_operators() -> None:
    silent = threshold(notify_emails=(), notify_webhook=None)
    assert places(rows(event(), silent)) == [("chat", "slack-1")]
    assert rows(event(event_type="threshold.approaching", level=Level.APPROACHING), silent) == []


def test_the_end_of_an_alert_reaches_those_who_learned_of_it_though_the_threshold_is_deleted() -> None:
    earlier = {("webhook", HOOK), ("email", "ada@example.com"), ("chat", "slack-1")}
    found = rows(event(event_type="threshold.cleared"), None, earlier=earlier)
    assert places(found) == [("email", "ada@example.com"), ("webhook", HOOK)]
    kept = rows(event(event_type="threshold.cleared"), threshold(notify_webhook=None), earlier=earlier)
    assert ("webhook", HOOK) not in places(kept), "a target that was removed stays removed"


def test_a_change_of_an_endpoint_goes_to_the_operators_only() -> None:
    assert places(rows(CHANGE, None)) == [("email", "ops@example.com")]
    rules = replace(RULES, chat_events=frozenset({"endpoint.changed"}))
    assert places(rows(CHANGE, None, rules=rules)) == [("email", "ops@example.com"), ("chat", "slack-1")]


@pytest.mark.parametrize(
    ("age", "state"), [(timedelta(days=3) - timedelta(seconds=1), "pending"), (timedelta(days=3), "expired")]
)
def test_an_event_that_is_too_old_is_recorded_and_not_sent(age: timedelta, state: str) -> None:
    found = rows(event(), threshold(), now=event().occurred_at + age)
    assert {row.state for row in found} == {state}


def test_a_disabled_endpoint_is_recorded_and_delays_no_mail() -> None:
    states = {row.channel: row.state for row in rows(event(), threshold(), disabled={HOOK: "the endpoint is disabled"})}
    assert states == {"email": "pending", "webhook": "disabled", "chat": "pending"}


def test_a_webhook_has_exact_numbers_and_times() -> None:
    whole = json.loads(payload(event(actual_value=Decimal("12345678901234567890.000000001"), period_end=None)))
    assert (whole["type"], whole["timestamp"]) == ("threshold.exceeded", "2026-11-29T12:30:00.000000Z")
    data = whole["data"]
    assert (data["actual_value"], data["threshold"]) == ("12345678901234567890.000000001", "1000")
    assert (data["period_start"], data["period_end"]) == ("2026-11-01T00:00:00.000000Z", None)
    assert data["event_id"] == event(period_end=None).event_id
    assert payload(event()) == payload(event()), "every try sends the same bytes"


def test_a_greater_revision_is_a_later_event() -> None:
    """A level is reached, left, and reached again."""
    happened = [
        event(crossing=1),
        event(crossing=1, event_type="threshold.cleared"),
        event(crossing=2),
        event(crossing=2, event_type="threshold.cleared"),
        event(crossing=3),
    ]
    revisions = [revision(one) for one in happened]
    assert revisions == sorted(set(revisions))
