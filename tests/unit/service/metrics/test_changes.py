"""Which thresholds a change of a metric concerns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from meterfold_processor.checker.definitions import DefinitionRecord, Definitions, DefinitionsRead
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_service.metrics.changes import affected_thresholds, hiding

AT = datetime(2026, 11, 1, tzinfo=UTC)


def metric(org_id: str = "", **more: Any) -> MetricDefinition:
    values = {"id": "m", "key": "api.calls", "name": "Calls", "unit": "call", "created_at": AT, "updated_at": AT}
    return MetricDefinition(**{**values, "org_id": org_id, **more})


def threshold(name: str, org_id: str | None, **more: Any) -> UsageThreshold:
    values = {"id": f"id-{name}", "metric_key": "api.calls", "threshold": 10, "period_type": "monthly"}
    return UsageThreshold(**{**values, "name": name, "org_id": org_id, "created_at": AT, "updated_at": AT, **more})


def defined(*those: MetricDefinition | UsageThreshold) -> Definitions:
    definitions = Definitions()
    records = tuple(
        DefinitionRecord(
            "metric" if isinstance(one, MetricDefinition) else "threshold", one.message_key, one.to_bytes(), offset
        )
        for offset, one in enumerate(those)
    )
    definitions.apply(DefinitionsRead(records, 10, 10))
    return definitions


def test_the_thresholds_of_a_definition_are_those_of_whoever_sees_it() -> None:
    own = metric("acme", id="own", aggregation_type="max")
    known = defined(
        metric(),
        own,
        threshold("each", None),
        threshold("everyone", ""),
        threshold("own", "acme"),
        threshold("other", "other"),
        threshold("inactive", "other", is_active=False),
        threshold("elsewhere", "other", metric_key="api.bytes"),
    )
    assert hiding(known, "api.calls") == ["acme"]

    def names(*asked: Any) -> tuple[list[str], list[str]]:
        resting, judging = affected_thresholds(known, "api.calls", *asked)
        return [t.name for t in resting], [t.name for t in judging]

    assert names("", metric(), None) == (["each", "everyone", "other"], [])
    assert names("", metric(), metric(is_active=False)) == (["each", "everyone", "other"], [])
    assert names("", metric(), metric(aggregation_type="max")) == ([], ["each", "everyone", "other"])
    assert names("", metric(), metric(unit="token")) == ([], [])
    # Without its own definition acme sees the one of every organization.
    assert names("acme", own, metric()) == ([], ["each", "own"])
    assert names("acme", own, None) == (["each", "own"], [])
    assert names("acme", metric("acme", is_active=False), None) == ([], [])
