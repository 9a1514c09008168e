"""Requests and responses: they have the fields of what they stand for, and refuse what they do not know."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.errors import InvalidUsage
from meterfold_service.alerts.operations import UsageAlert
from meterfold_service.contents import OWN
from meterfold_service.http.models.alerts import Alert
from meterfold_service.http.models.metrics import Metric, MetricChanges, MetricContent
from meterfold_service.http.models.notifications import Delivery
from meterfold_service.http.models.periods import Adjustment, PeriodClosing
from meterfold_service.http.models.thresholds import Threshold, ThresholdChanges, ThresholdContent
from meterfold_service.http.models.tokens import TokenContent
from meterfold_service.http.models.usage import Summary, SummaryQuery, UsageRecord
from meterfold_service.http.models.values import Answer, Body
from meterfold_service.http.parsing import filter_of, lifetime_of, subject_of
from meterfold_service.notify.operations import Delivery as StoredDelivery
from meterfold_service.periods.results import Adjustment as FoundAdjustment
from meterfold_service.periods.results import PeriodClosing as FoundClosing
from meterfold_service.usage.results import UsageRecord as FoundRecord
from meterfold_service.usage.results import UsageSummary

FIXED = {"org_id", "metric_key", "subject_type", "subject_id", "period_type"}


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Metric, set(MetricDefinition.model_fields)),
        (MetricContent, set(MetricDefinition.model_fields) - OWN),
        (MetricChanges, set(MetricDefinition.model_fields) - OWN - {"key", "org_id"}),
        (Threshold, set(UsageThreshold.model_fields)),
        (ThresholdContent, set(UsageThreshold.model_fields) - OWN),
        (ThresholdChanges, set(UsageThreshold.model_fields) - OWN - FIXED),
        *(
            (model, {field.name for field in fields(value)})
            for model, value in (
                (Alert, UsageAlert),
                (UsageRecord, FoundRecord),
                (Summary, UsageSummary),
                (PeriodClosing, FoundClosing),
                (Adjustment, FoundAdjustment),
                (Delivery, StoredDelivery),
            )
        ),
    ],
)
def test_a_model_has_every_field_of_its_value(model: type[Answer | Body], names: set[str]) -> None:
    assert set(model.model_fields) == names


def test_a_change_publishes_no_default_that_a_client_would_send() -> None:
    for model in (MetricChanges, ThresholdChanges):
        assert not [one for one in model.model_json_schema()["properties"].values() if "default" in one]
    assert MetricChanges(unit="call").given() == {"unit": "call"}
    assert MetricContent(key="a", name="A", unit="call").given() == {"key": "a", "name": "A", "unit": "call"}


@pytest.mark.parametrize(
    "values",
    [
        {"start": "2026-11-01"},
        {"start": "2026-11-01T00:00:00"},
        {"start": "1730000000"},
        {"start": 1730000000},
        {"start": "0001-01-01T00:00:00+01:00"},
        {"start": "2026-02-30T00:00:00Z"},
        {"start": "\uff12026-11-01T00:00:00Z"},
        {"start": "2026-11-01T00:00:00Z", "unknown": "1"},
        {"start": "2026-11-01T00:00:00Z", "limit": "10001"},
        {"start": "2026-11-01T00:00:00Z", "anchor": "32"},
        {"start": "2026-11-01T00:00:00Z", "tz": "a\0b"},
        {"start": "2026-11-01T00:00:00Z", "tz": "\ud800"},
    ],
)
def test_a_query_that_means_nothing_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SummaryQuery(**values)


def test_times_with_any_offset_are_in_utc_and_decimals_are_text() -> None:
    query = SummaryQuery(start="2026-11-01T01:00:00+02:00")
    assert query.start.isoformat() == "2026-10-31T23:00:00+00:00"
    assert '"start":"2026-10-31T23:00:00Z"' in query.model_dump_json()


def test_filters_subjects_and_lifetimes() -> None:
    assert filter_of(["region=eu", "region=us", "a=b=c"], ["model"]) == {
        "region": ["eu", "us"],
        "a": ["b=c"],
        "model": [None],
    }
    for wrong in ("region", "=eu"):
        with pytest.raises(InvalidUsage, match="field=value"):
            filter_of([wrong], [])
    half = TokenContent(name="a", scopes=["read"], subject_type="user")
    with pytest.raises(InvalidUsage, match="a type and an id"):
        subject_of(half)
    found = lifetime_of("7d")
    assert found is not None
    assert found.days == 7
    with pytest.raises(InvalidUsage, match="duration"):
        lifetime_of("soon")
