"""The view usage_alerts: what became of each crossing, whatever order its events were read in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pyarrow as pa
import pytest

from meterfold_local.stack import LocalStack
from meterfold_processor.checker.mirror_rows import TABLES, row_of
from meterfold_schemas.alert_actions import AlertActed
from meterfold_schemas.vocabulary import AlertAction
from meterfold_sink.client import Client
from support.sink.database import database, empty, insert
from support.sink.rows import DECIMAL, NOW, TIME

MONTH = NOW.replace(day=1, hour=0, minute=0, second=0)
END = (MONTH + timedelta(days=32)).replace(day=1)


@pytest.fixture(scope="module")
def shared(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        yield client


@pytest.fixture
def client(shared: Client) -> Client:
    return empty(shared)


def event(kind: str, at: datetime, level: str = "exceeded", *, alert: str = "a1", **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "event_id": f"{alert}-{kind}",
        "event_type": f"threshold.{kind}",
        "occurred_at": at,
        "alert_id": alert,
        "threshold_id": "t1",
        "org_id": "acme",
        "metric_key": "calls",
        "subject_type": "user",
        "subject_id": "s1",
        "period_type": "monthly",
        "period_start": MONTH,
        "period_end": END,
        "level": level,
        "crossing": 1,
        "threshold": Decimal(100),
        "warn_threshold": Decimal(80),
        "actual_value": Decimal(110 if kind != "cleared" else 90),
        "percentage_used": Decimal(110 if kind != "cleared" else 90),
        "action": "block",
    }
    return {**values, **more}


def mirror(client: Client, *events: dict[str, Any]) -> None:
    types: dict[str, pa.DataType] = {
        **dict.fromkeys(("occurred_at", "period_start", "period_end"), TIME),
        **dict.fromkeys(("threshold", "warn_threshold", "actual_value", "percentage_used"), DECIMAL),
        "crossing": pa.int64(),
    }
    schema = pa.schema([pa.field(name, types.get(name, pa.string())) for name in events[0]])
    insert(client, "threshold_events", pa.Table.from_pylist(list(events), schema=schema))


def act(client: Client, offset: int, action: str, by: str, at: datetime, alert: str = "a1") -> None:
    """The message at this offset of alert.acted, as the mirror copies it."""
    acted = AlertActed(occurred_at=at, alert_id=alert, action=AlertAction(action), by=by)
    row = row_of("alert_actions", acted.key, acted.to_bytes(), offset)
    assert row is not None
    insert(client, "alert_actions", pa.Table.from_pylist([row], schema=TABLES["alert_actions"]))


def alert(client: Client) -> dict[str, Any]:
    (found,) = client.rows("SELECT * FROM usage_alerts")
    return found


AT = NOW - timedelta(minutes=30)
LATER = NOW - timedelta(minutes=20)


def test_a_crossing_is_a_pending_alert(client: Client) -> None:
    for _ in range(2):
        mirror(client, event("exceeded", AT))
    found = alert(client)
    assert (found["id"], found["level"], found["status"], found["action"]) == ("a1", "exceeded", "pending", "block")
    assert (found["actual_value"], found["percentage_used"], found["threshold"]) == (110, 110, 100)
    assert (found["period_start"], found["period_end"], found["triggered_at"]) == (MONTH, END, AT)
    unset = ("resolved_at", "resolved_by", "acknowledged_by", "acknowledged_at")
    assert [found[name] for name in unset] == [None] * 4


@pytest.mark.parametrize("order", list(permutations(range(2))))
def test_history_33_cleared_wins_whatever_the_order(client: Client, order: tuple[int, ...]) -> None:
    events = [event("exceeded", AT), event("cleared", LATER)]
    for number in order:
        mirror(client, events[number])
        if number == 1:
            assert alert(client)["status"] == "resolved"  # also as long as nothing else is known
    found = alert(client)
    assert (found["status"], found["resolved_at"], found["triggered_at"]) == ("resolved", LATER, AT)
    assert (found["actual_value"], found["percentage_used"]) == (110, 110)


def test_it_is_acknowledged_and_resolved_by_hand(client: Client) -> None:
    mirror(client, event("approaching", AT, "approaching"))
    act(client, 7, "acknowledge", "eve", LATER)
    act(client, 8, "acknowledge", "bob", LATER - timedelta(seconds=5))  # the first stays, whatever the clocks say
    act(client, 7, "acknowledge", "eve", LATER)  # copied again
    found = alert(client)
    assert (found["status"], found["acknowledged_by"], found["acknowledged_at"]) == ("acknowledged", "eve", LATER)
    act(client, 12, "resolve", "joe", LATER)
    act(client, 9, "resolve", "bob", LATER + timedelta(seconds=9))
    found = alert(client)
    assert (found["status"], found["resolved_at"]) == ("resolved", LATER + timedelta(seconds=9))
    assert (found["acknowledged_by"], found["resolved_by"]) == ("eve", "bob")


def test_what_somebody_resolved_cannot_be_acknowledged_afterwards(client: Client) -> None:
    mirror(client, event("exceeded", AT))
    act(client, 3, "resolve", "bob", LATER)
    act(client, 4, "acknowledge", "eve", LATER - timedelta(seconds=5))
    found = alert(client)
    assert (found["status"], found["resolved_by"], found["acknowledged_by"]) == ("resolved", "bob", None)
    assert found["acknowledged_at"] is None


def test_what_a_person_was_told_stays_when_a_clearing_is_copied_later(client: Client) -> None:
    mirror(client, event("exceeded", AT))
    act(client, 0, "acknowledge", "eve", LATER)
    act(client, 1, "resolve", "bob", LATER + timedelta(seconds=2))
    told = alert(client)
    mirror(client, event("cleared", LATER - timedelta(seconds=1)))
    assert alert(client) == told
    assert (told["resolved_by"], told["acknowledged_by"]) == ("bob", "eve")


def test_an_action_after_the_end_of_the_window_has_no_effect(client: Client) -> None:
    ended = MONTH - timedelta(days=3)
    mirror(client, event("exceeded", MONTH - timedelta(days=9), period_end=ended))
    act(client, 0, "acknowledge", "eve", ended)
    act(client, 1, "resolve", "bob", ended + timedelta(seconds=1))
    found = alert(client)
    assert (found["status"], found["resolved_at"]) == ("resolved", ended)
    assert found["resolved_by"] is found["acknowledged_by"] is None


def test_an_alert_ends_with_its_window(client: Client) -> None:
    ended = MONTH - timedelta(days=3)
    mirror(client, event("exceeded", MONTH - timedelta(days=9), period_end=ended))
    found = alert(client)
    assert (found["status"], found["resolved_at"]) == ("resolved", ended)


def test_a_lifetime_never_ends(client: Client) -> None:
    mirror(client, event("exceeded", AT, period_type="lifetime", period_end=None))
    found = alert(client)
    assert (found["status"], found["period_end"]) == ("pending", None)


def test_an_action_on_one_alert_leaves_the_others(client: Client) -> None:
    mirror(client, event("exceeded", AT), event("approaching", AT, "approaching", alert="a2"))
    act(client, 0, "resolve", "eve", LATER, alert="a2")
    found = client.rows("SELECT id, status, level FROM usage_alerts ORDER BY id")
    assert found == [
        {"id": "a1", "status": "pending", "level": "exceeded"},
        {"id": "a2", "status": "resolved", "level": "approaching"},
    ]
