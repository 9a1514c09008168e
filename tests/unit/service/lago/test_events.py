"""An event of Lago as a usage event."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from meterfold_schemas.definitions import MetricDefinition
from meterfold_schemas.errors import InvalidUsage
from meterfold_service.lago.events import month_of, usage_of

NOW = datetime(2026, 12, 22, 9, 30, tzinfo=UTC)
EVENT = {"transaction_id": "t-1", "external_subscription_id": "sub-1", "code": "storage", "properties": {"gb": "2.5"}}
STORAGE = MetricDefinition(
    id="m", key="storage", name="n", unit="GB", metadata={"lago": {"field_name": "gb"}}, created_at=NOW, updated_at=NOW
)


def test_the_property_that_the_metric_names_is_the_quantity() -> None:
    usage = usage_of({**EVENT, "timestamp": 1_764_750_600}, {"storage": STORAGE})
    assert (usage["id"], usage["metric_key"], usage["subject_type"], usage["subject_id"]) == (
        "t-1",
        "storage",
        "subscription",
        "sub-1",
    )
    assert (Decimal(usage["quantity"]), usage["timestamp"]) == (Decimal("2.5"), "2025-12-03T08:30:00+00:00")
    assert usage["metadata"] == {"gb": "2.5"}


@pytest.mark.parametrize(
    ("properties", "quantity"), [({"value": "7"}, 7), ({"value": 0.1 + 0.2}, Decimal("0.3")), ({"a": 1}, 1), (None, 1)]
)
def test_without_such_a_metric_it_is_the_property_value_or_one(properties: Any, quantity: Any) -> None:
    assert Decimal(usage_of({**EVENT, "properties": properties}, {})["quantity"]) == quantity


@pytest.mark.parametrize("timestamp", ["1764750600.25", 1764750600.25, "2025-12-03T08:30:00.250Z"])
def test_a_time_is_seconds_or_iso(timestamp: Any) -> None:
    assert usage_of({**EVENT, "timestamp": timestamp}, {})["timestamp"] == "2025-12-03T08:30:00.250000+00:00"


@pytest.mark.parametrize(
    "change",
    [
        {"transaction_id": ""},
        {"external_subscription_id": 7},
        {"code": None},
        {"properties": []},
        {"properties": {"gb": "much"}},
        {"properties": {"gb": True}},
        {"properties": {}},
        {"timestamp": "soon"},
        {"timestamp": 1e300},
        {"timestamp": True},
        {"timestamp": []},
    ],
)
def test_what_is_no_event_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidUsage):
        usage_of({**EVENT, **change}, {"storage": STORAGE})
    with pytest.raises(InvalidUsage):
        usage_of("event", {})


def test_a_month_ends_where_the_next_one_begins() -> None:
    assert month_of(NOW) == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert month_of(datetime(2026, 2, 28, 23, tzinfo=UTC))[1] == datetime(2026, 3, 1, tzinfo=UTC)
