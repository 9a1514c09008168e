"""Metrics and thresholds: complete checks when made, and unchanged over the wire."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from meterfold_schemas import framing
from meterfold_schemas.definitions import MAX_DIMENSIONS, MetricDefinition, UsageThreshold
from meterfold_schemas.errors import InvalidDefinition, Poison
from meterfold_schemas.example_events import examples
from meterfold_schemas.periods import Period
from meterfold_schemas.vocabulary import Action, AggregationType, ResetPeriod

NOW = datetime(2026, 11, 22, tzinfo=UTC)
METRIC: dict[str, Any] = {
    "id": "m",
    "key": "api.calls",
    "name": "Calls",
    "unit": "call",
    "created_at": NOW,
    "updated_at": NOW,
}
THRESHOLD: dict[str, Any] = {
    "id": "t",
    "metric_key": "api.calls",
    "name": "limit",
    "threshold": 100,
    "period_type": "monthly",
    "created_at": NOW,
    "updated_at": NOW,
}


def metric(**changes: Any) -> MetricDefinition:
    return MetricDefinition(**{**METRIC, **changes})


def threshold(**changes: Any) -> UsageThreshold:
    return UsageThreshold(**{**THRESHOLD, **changes})


def test_defaults_of_a_metric() -> None:
    made = metric()
    assert (made.aggregation_type, made.reset_period) == (AggregationType.SUM, ResetPeriod.MONTHLY)
    assert (made.precision, made.org_id, made.display_order, made.is_active) == (2, "", 0, True)


def test_defaults_of_a_threshold() -> None:
    made = threshold()
    assert (made.warn_threshold, made.action, made.is_active) == (Decimal(80), Action.ALERT, True)
    assert (made.subject_type, made.subject_id, made.notify_emails) == (None, None, ())


@pytest.mark.parametrize("example", list(examples("metric_defined")), ids=lambda e: f"v{e.schema.version}.{e.case}")
def test_a_metric_survives(example: Any) -> None:
    data = framing.encode("metric_defined", {"dimensions": [], **example.record})
    read = MetricDefinition.from_bytes(data, version=41)
    assert read.version == 41
    assert read.to_bytes() == data


@pytest.mark.parametrize("example", list(examples("threshold_defined")), ids=lambda e: f"v{e.schema.version}.{e.case}")
def test_a_threshold_survives(example: Any) -> None:
    data = framing.encode("threshold_defined", example.record)
    read = UsageThreshold.from_bytes(data, version=7)
    assert read.version == 7
    assert read.to_bytes() == data


def test_the_version_is_the_offset_and_not_in_the_value() -> None:
    assert metric(version=1).to_bytes() == metric(version=2).to_bytes()


def test_keys() -> None:
    assert metric(org_id="acme").message_key == b'["acme","api.calls"]'
    assert threshold().message_key == b"t"


def test_times_are_kept_in_utc() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=9)))
    assert metric(created_at=east).created_at.tzinfo is UTC
    assert metric(created_at=east) == metric()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": "API"}, "key: metric_key 'API'"),
        ({"key": ""}, "key"),
        ({"key": "x" * 201}, "key"),
        ({"name": ""}, "name: .*empty"),
        ({"unit": "x" * 513}, "unit: .*513 bytes"),
        ({"org_id": "a\0"}, "org_id: .*NUL"),
        ({"precision": 10}, "precision"),
        ({"precision": -1}, "precision"),
        ({"precision": 2.0}, "precision"),
        ({"aggregation_type": "median"}, "aggregation_type"),
        ({"reset_period": "fortnightly"}, "reset_period"),
        ({"is_active": "yes"}, "is_active"),
        ({"metadata": "[1]"}, "metadata: .*object"),
        ({"metadata": {"a": float("nan")}}, "metadata"),
        ({"created_at": datetime(2026, 1, 1)}, "created_at"),  # noqa: DTZ001
        ({"created_at": 5}, "created_at"),
        ({"display_order": 2**31}, "display_order"),
        ({"dimensions": "model"}, r"^MetricDefinition: dimensions: 'model' must be a list of metadata fields, such as"),
        ({"dimensions": 5}, "dimensions: 5 must be a list"),
        ({"dimensions": {"model": 1}}, "dimensions: .* must be a list"),
        ({"dimensions": ["model", ""]}, "dimensions: a metadata field must not be empty"),
        ({"dimensions": [None]}, "dimensions: a metadata field must be text, not NoneType None"),
        ({"dimensions": ["a\0"]}, "dimensions: .*NUL"),
        ({"dimensions": ["x" * 513]}, "dimensions: .*at most 512"),
        ({"dimensions": ["model", "region", "model"]}, "dimensions: the metadata field 'model' is given twice"),
        ({"dimensions": ["subject"]}, "dimensions: 'subject' cannot be a dimension"),
        ({"dimensions": [f"f{i}" for i in range(11)]}, "dimensions: 11 metadata fields are given; at most 10"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_broken_metric_is_a_clear_error(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidDefinition, match=reason) as caught:
        metric(**change)
    assert caught.value.code == "INVALID_DEFINITION"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"threshold": 0}, "threshold"),
        ({"threshold": -1}, "^UsageThreshold: threshold: -1 must be greater than 0$"),
        ({"threshold": "-5", "warn_threshold": "80%"}, "^UsageThreshold: threshold: -5 must be greater than 0$"),
        ({"warn_threshold": "100%"}, "warn_threshold: '100%' must be a percentage above 0 and below 100"),
        ({"warn_threshold": "-5 %"}, "warn_threshold: '-5 %' must be a percentage"),
        ({"warn_threshold": "0%"}, "warn_threshold: .*greater than 0"),
        ({"warn_threshold": "80%%"}, "warn_threshold"),
        ({"threshold": "abc"}, "threshold: quantity 'abc'"),
        ({"threshold": 0.0000000001}, "threshold"),
        ({"warn_threshold": 100}, "warn_threshold: 100 must be below the threshold, 100$"),
        (
            {"threshold": "12345678901234567890.123456789", "warn_threshold": "12345678901234567890.123456789"},
            r"12345678901234567890\.123456789 must be below the threshold, 12345678901234567890\.123456789$",
        ),
        ({"warn_threshold": 0}, "warn_threshold"),
        ({"threshold": "0.000000001"}, "warn_threshold"),
        ({"subject_id": "u-1"}, "subject_id: needs a subject type"),
        ({"subject_type": ""}, "subject_type"),
        ({"action": "shout"}, "action"),
        ({"notify_emails": ["not an address"]}, "notify_emails"),
        ({"notify_webhook": "ftp://example.com"}, "notify_webhook"),
        ({"period_type": "fortnightly"}, "period_type"),
        ({"level": "exceeded"}, "level"),
    ],
)
def test_a_broken_threshold_is_a_clear_error(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidDefinition, match=reason) as caught:
        threshold(**change)
    assert caught.value.code == "INVALID_DEFINITION"


@pytest.mark.parametrize("period", ["weekly", "yearly"])
def test_a_period_that_is_not_kept_cannot_be_watched(period: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        threshold(period_type=period)
    assert caught.value.code == "PERIOD_NOT_KEPT"
    without = {name: value for name, value in THRESHOLD.items() if name != "period_type"}
    with pytest.raises(InvalidDefinition) as caught:
        UsageThreshold.for_metric(metric(reset_period=period), **without)
    assert caught.value.code == "PERIOD_NOT_KEPT"
    assert UsageThreshold.for_metric(metric(reset_period=period), **THRESHOLD).period_type is Period.MONTHLY


@pytest.mark.parametrize(
    ("reset", "period"),
    [("never", Period.LIFETIME), ("hourly", Period.HOURLY), ("daily", Period.DAILY), ("monthly", Period.MONTHLY)],
)
def test_a_threshold_takes_its_metrics_period(reset: str, period: Period) -> None:
    without = {name: value for name, value in THRESHOLD.items() if name not in ("period_type", "metric_key")}
    made = UsageThreshold.for_metric(metric(reset_period=reset), **without)
    assert (made.period_type, made.metric_key) == (period, "api.calls")


def test_the_default_warning_is_cut_not_rounded() -> None:
    assert threshold(threshold="0.000000009").warn_threshold == Decimal("0.000000007")


@pytest.mark.parametrize("percentage", ["62.5%", "62.5 %", " 62.5% "])
def test_a_warning_as_a_percentage_is_of_the_threshold(percentage: str) -> None:
    made = threshold(threshold=1000, warn_threshold=percentage)
    assert made.warn_threshold == Decimal(625)
    assert made.changed(warn_threshold="90%", threshold=10).warn_threshold == Decimal(9)


def test_a_threshold_without_an_organization_watches_every_organization() -> None:
    wide, without = threshold(), threshold(org_id="")
    assert (wide.org_id, UsageThreshold.from_bytes(wide.to_bytes()).org_id) == (None, None)
    assert (without.org_id, UsageThreshold.from_bytes(without.to_bytes()).org_id) == ("", "")
    assert [wide.matches(org_id, "user", "u1") for org_id in ("", "acme")] == [True, True]
    assert [without.matches(org_id, "user", "u1") for org_id in ("", "acme")] == [True, False]


def test_a_metric_written_before_there_were_dimensions_has_none() -> None:
    kept = json.loads((Path(__file__).parent / "kept_bytes.json").read_text())
    read = MetricDefinition.from_bytes(bytes.fromhex(kept["metric_defined.v1.full"]))
    assert (read.key, read.dimensions, read.metadata) == ("gpu.seconds", (), '{"sku":"gpu-1"}')
    assert read.to_bytes()[:10] != bytes.fromhex(kept["metric_defined.v1.full"])[:10]


def test_dimensions_are_names_of_metadata_fields_in_their_order() -> None:
    made = metric(dimensions=["region", "model", "Größe", "a.b", " "])
    assert made.dimensions == ("region", "model", "Größe", "a.b", " ")
    assert MetricDefinition.from_bytes(made.to_bytes()).dimensions == made.dimensions
    assert made.changed(dimensions=()).dimensions == ()
    assert len(metric(dimensions=[f"f{i}" for i in range(MAX_DIMENSIONS)]).dimensions) == MAX_DIMENSIONS


def test_an_old_definition_keeps_its_meaning() -> None:
    """Written with version 1, in which an empty org_id was the only way to leave it out."""
    kept = json.loads((Path(__file__).parent / "kept_bytes.json").read_text())
    read = UsageThreshold.from_bytes(bytes.fromhex(kept["threshold_defined.v1.one_type_lifetime"]))
    assert read.org_id == ""
    assert not read.matches("acme", "user", "u1")


def test_an_organization_is_narrower_than_any_subject() -> None:
    user: dict[str, Any] = {"subject_type": "user"}
    scopes: list[dict[str, Any]] = [{}, user, {**user, "subject_id": "u1"}]
    order = [threshold(**scope, **org) for org in ({}, {"org_id": "acme"}) for scope in scopes]
    assert [one.narrowness for one in order] == sorted(one.narrowness for one in order)
    assert len({one.narrowness for one in order}) == 6


def test_definitions_are_frozen_and_changed_as_a_whole() -> None:
    made = threshold()
    with pytest.raises(ValidationError):
        made.name = "other"
    assert made.changed(name="other").name == "other"
    with pytest.raises(InvalidDefinition, match="below"):
        made.changed(threshold=50)


def test_a_definition_on_the_wire_that_breaks_a_rule_is_poison() -> None:
    record = next(examples("threshold_defined")).record
    with pytest.raises(Poison) as caught:
        UsageThreshold.from_bytes(framing.encode("threshold_defined", {**record, "period_type": "weekly"}))
    assert caught.value.reason == "invalid"
