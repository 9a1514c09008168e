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


def act(client: Client, action: str, by: str, at: datetime, alert: str = "a1") -> None:
    row = {"alert_id": [alert], "action": [1 if action == "acknowledge" else 2], "by": [by], "at": [at]}
    types = [("alert_id", pa.string()), ("action", pa.int8()), ("by", pa.string()), ("at", TIME)]
    insert(client, "alert_actions", pa.table(row, schema=pa.schema(types)))


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
    assert found["resolved_at"] is found["acknowledged_by"] is found["acknowledged_at"] is None


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
    act(client, "acknowledge", "eve", LATER)
    act(client, "acknowledge", "bob", LATER + timedelta(seconds=5))  # the first stays
    found = alert(client)
    assert (found["status"], found["acknowledged_by"], found["acknowledged_at"]) == ("acknowledged", "eve", LATER)
    act(client, "resolve", "bob", LATER + timedelta(seconds=9))
    found = alert(client)
    assert (found["status"], found["resolved_at"]) == ("resolved", LATER + timedelta(seconds=9))
    assert found["acknowledged_by"] == "eve"


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
    act(client, "resolve", "eve", LATER, alert="a2")
    found = client.rows("SELECT id, status, level FROM usage_alerts ORDER BY id")
    assert found == [
        {"id": "a1", "status": "pending", "level": "exceeded"},
        {"id": "a2", "status": "resolved", "level": "approaching"},
    ]
