"""A CloudEvent becomes one usage event for each meter of its type, and problems where it cannot."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from meterfold_schemas.definitions import MetricDefinition
from meterfold_schemas.errors import InvalidDefinition, InvalidUsage
from meterfold_service.ingest.documents import parsed
from meterfold_service.openmeter.expansion import EVENTS_METRIC, event_of, identity, problems_of, usage_of
from meterfold_service.openmeter.json_paths import MISSING, JsonPath
from meterfold_service.openmeter.meters import UNIQUE_VALUE, Meter, changed_values, definition_values

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "gateway",
    "type": "prompt",
    "subject": "ada",
    "time": "2026-11-22T09:00:00Z",
    "data": {"tokens": 12, "model": "o1", "usage": {"cost": 0.125}, "list": [{"a b": "x"}], "cached": True},
}


def meter(slug: str = "tokens", aggregation: str = "SUM", value: str | None = "$.tokens", **more: Any) -> Meter:
    given = {"slug": slug, "eventType": "prompt", "aggregation": aggregation, "valueProperty": value, **more}
    values = definition_values(given, "acme")
    found = Meter.of(MetricDefinition(**values, id="m-1", created_at=NOW, updated_at=NOW))
    assert found is not None
    return found


def measured(of: Meter, **data: Any) -> tuple[Any, Any, list[str]]:
    """(quantity, metadata, problems) of the event with this data."""
    event = event_of(parsed(json.dumps({**EVENT, "data": data or EVENT["data"]}).encode()))
    (_, *usage), problems = usage_of(event, [of], NOW)
    return (usage[0]["quantity"], usage[0]["metadata"], problems) if usage else (None, None, problems)


@pytest.mark.parametrize(
    ("aggregation", "value", "data", "quantity"),
    [
        ("SUM", "$.tokens", {}, "12"),
        ("SUM", "$.usage.cost", {}, "0.125"),
        ("AVG", "$.v", {"v": " 7.5 "}, "7.5"),
        ("MIN", "$.v", {"v": 0.1 + 0.2}, "0.3"),
        ("MAX", "$.v", {"v": "-3"}, "-3"),
        ("LATEST", "$.v", {"v": 1e-12}, "0"),
        ("SUM", "$.v", {"v": "many"}, None),
        ("SUM", "$.v", {"v": True}, None),
        ("SUM", "$.v", {"v": None}, None),
        ("SUM", "$.v", {"v": {}}, None),
        ("SUM", "$.v", {"v": "1e30"}, None),
        ("SUM", "$.missing", {}, None),
        ("COUNT", None, {}, "1"),
        ("COUNT", "$.missing", {}, "1"),
        ("UNIQUE_COUNT", "$.model", {}, "1"),
        ("UNIQUE_COUNT", "$.missing", {}, None),
    ],
)
def test_the_value_of_each_aggregation(
    aggregation: str, value: str | None, data: dict[str, Any], quantity: str | None
) -> None:
    found, metadata, problems = measured(meter(aggregation=aggregation, value=value), **data)
    assert (None if found is None else Decimal(found)) == (None if quantity is None else Decimal(quantity))
    assert bool(problems) == (quantity is None)
    if aggregation == "UNIQUE_COUNT" and quantity:
        assert metadata == {UNIQUE_VALUE: "o1"}


def test_groups_are_texts_of_the_data() -> None:
    group_by = {"model": "$.model", "cached": "$.cached", "nested": "$.list[0]['a b']", "none": "$.nothing"}
    of = meter(groupBy=group_by)
    assert measured(of)[1] == {"model": "o1", "cached": "true", "nested": "x"}
    assert of.definition.dimensions == tuple(group_by)


def test_an_event_counts_for_each_meter_of_its_type_and_is_recorded_itself() -> None:
    late = meter("late", eventFrom="2026-11-22T09:00:01Z")
    other = meter("other", eventType="reply")
    usage, problems = usage_of(event_of(EVENT), [meter(), meter("calls", "COUNT"), late, other], NOW)
    assert [one["metric_key"] for one in usage] == [EVENTS_METRIC, "tokens", "calls"]
    assert {one["id"] for one in usage} == {'["gateway","e-1"]'}
    assert {one["timestamp"] for one in usage} == {"2026-11-22T09:00:00+00:00"}
    assert (usage[0]["resource_type"], usage[0]["resource_id"], usage[0]["metadata"]) == (
        "prompt",
        "e-1",
        EVENT["data"],
    )
    assert problems == []
    assert problems_of(event_of({**EVENT, "type": "unknown"}), [meter()]) == ["no meter has the event type unknown"]
    assert problems_of(event_of({**EVENT, "data": None}), [meter()]) == [
        "meter tokens: the data has no value at $.tokens"
    ]


def test_the_identity_is_that_of_id_and_source() -> None:
    first, second = event_of({**EVENT, "id": 'a","b', "source": "c"}), event_of({**EVENT, "id": "b", "source": 'c","a'})
    assert identity(first) != identity(second)
    long = identity(event_of({**EVENT, "id": "x" * 512}))
    assert long.startswith("sha256:")
    assert long != identity(event_of({**EVENT, "id": "x" * 511}))


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": None},
        {"subject": 7},
        {"source": "x" * 513},
        {"type": "\0"},
        {"time": "yesterday"},
        {"data": []},
        {"data": {"a": "x" * 20_000}},
        {"specversion": "0.3"},
        {"datacontenttype": "text/plain"},
    ],
)
def test_what_is_no_event_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidUsage, match=next(iter(change))):
        event_of({**EVENT, **change})
    with pytest.raises(InvalidUsage):
        event_of([])


@pytest.mark.parametrize(
    "change",
    [
        {"slug": "a b"},
        {"slug": "Tokens"},
        {"slug": "x" * 65},
        {"aggregation": "MEDIAN"},
        {"eventType": None},
        {"valueProperty": None},
        {"valueProperty": "$..tokens"},
        {"valueProperty": "$.a[*]"},
        {"valueProperty": "tokens"},
        {"eventFrom": "soon"},
        {"groupBy": {"subject": "$.a"}},
        {"groupBy": {"a b": "$.a"}},
        {"groupBy": {"a": "$.a["}},
        {"groupBy": []},
    ],
)
def test_a_meter_that_cannot_be_answered_is_refused(change: dict[str, Any]) -> None:
    given = {"slug": "a", "eventType": "b", "aggregation": "SUM", "valueProperty": "$.c", **change}
    with pytest.raises(InvalidDefinition):
        definition_values(given, "")


def test_a_definition_keeps_what_a_meter_has() -> None:
    of = meter(groupBy={"model": "$.model"}, metadata={"team": "a"}, eventFrom="2026-11-01T00:00:00Z", name="Tokens")
    assert (of.aggregation, of.event_type, of.group_by["model"].text) == ("SUM", "prompt", "$.model")
    assert (of.metadata, of.event_from, of.definition.name) == (
        {"team": "a"},
        datetime(2026, 11, 1, tzinfo=UTC),
        "Tokens",
    )
    changed = MetricDefinition(**{**of.definition.model_dump(), **changed_values(of, {"groupBy": {"size": "$.s"}})})
    again = Meter.of(changed)
    assert again is not None
    assert (list(again.group_by), again.metadata, again.event_type) == (["size"], {}, "prompt")
    plain = MetricDefinition(
        id="m", key="k", name="n", unit="u", metadata={"openmeter": 1}, created_at=NOW, updated_at=NOW
    )
    assert Meter.of(plain) is None


def test_a_path_finds_one_value() -> None:
    data = {"a": {"b": [1, {"c d": 2, "e'f": None}]}}
    for text, value in (("$", data), ("$.a.b[0]", 1), ("$.a[\"b\"][1]['c d']", 2), ("$.a.b[1]['e\\'f']", None)):
        assert JsonPath(text).value(data) == value
    for text in ("$.x", "$.a.b[2]", "$.a[0]", "$.a.b.c"):
        assert JsonPath(text).value(data) is MISSING
